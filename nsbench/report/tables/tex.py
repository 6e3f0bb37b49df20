"""What every table in TeX is written with: text that is no command, heads, names that may be broken, the float."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nsbench.report.numbers import ONCE
from nsbench.report.published import OTHER
from nsbench.report.tables.paper import NAME, width

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    ONCE: r"\textdagger{}",
    OTHER: r"\textdaggerdbl{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "·": r"\textperiodcentered{}",
    "–": "--",
    "−": r"\textminus{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "≠": r"$\neq$",
    "σ": r"$\sigma$",
}
PREAMBLE = r"""% \usepackage{booktabs,textcomp,array}
\providecommand{\nsbenchsmall}[1]{{\fontsize{6}{7}\selectfont #1}}"""
_FONT = r"\fontsize{8}{9.6}\selectfont\setlength{\tabcolsep}{2.5pt}"


def escape(text: str) -> str:
    """A name as text: no command, no new line, no control character."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return "".join(_SPECIAL.get(character, character) for character in plain)


def word(text: str) -> str:
    """A part of a label: ASCII letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def breakable(name: str) -> str:
    """A name that a line may end in: architectures are long words with underscores."""
    return escape(name).replace(r"\_", r"\_\allowbreak{}") if width(name) > NAME else escape(name)


def name_column(names: Sequence[str]) -> str:
    wide = any(width(name) > NAME for name in names)
    return rf">{{\raggedright\arraybackslash}}p{{{NAME:g}pt}}" if wide else "l"


def spans(titles: Sequence[str], start: int) -> list[tuple[str, int, int]]:
    """Title, number of columns and first column of each group; `start`: number of the first column of all."""
    found: list[tuple[str, int, int]] = []
    for place, title in enumerate(titles, start):
        if found and found[-1][0] == title:
            found[-1] = (title, found[-1][1] + 1, found[-1][2])
        else:
            found.append((title, 1, place))
    return found


def heads(before: Sequence[str], groups: Sequence[str], titles: Sequence[str]) -> list[str]:
    """The two lines of heads, and the rules between them; `before`: heads of columns that are of no group."""
    found = spans(groups, len(before) + 1)
    over = ["" for _ in before] + [rf"\multicolumn{{{span}}}{{c}}{{{escape(title)}}}" for title, span, _ in found]
    rules = [rf"\cmidrule(lr){{{start}-{start + span - 1}}}" for _, span, start in found]
    return [line(over), " ".join(rules), line([*before, *map(escape, titles)]), r"\midrule"]


def line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def floating(caption: str, label: str, kinds: str, lines: Sequence[str]) -> str:
    """Over both columns of a page; in a document of one column table* is a usual table."""
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            _FONT,
            rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    )
