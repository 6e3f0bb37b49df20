"""Booktabs tables for papers: column groups, intervals, best in bold, what is not separable from it underlined."""

from __future__ import annotations

from nsbench.leaderboard import Cell, Column, Leaderboard, Row, Table
from nsbench.report.notes import cells_apart, once_note, seed_note
from nsbench.report.numbers import (
    MISSING,
    ONCE,
    average_column,
    deviation,
    figure,
    group_title,
    heading,
    margin,
    rank,
)
from nsbench.report.published import OTHER, SOURCE, Published, printed_otherwise, published_of
from nsbench.report.side_columns import side_columns, side_notes

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


def to_latex(board: Leaderboard) -> str:
    """Per source, image set and preprocessing a table, and one of effective robustness, confidence and cost.

    Needs the packages booktabs, textcomp and graphicx.
    """
    parts = [part for table in board.tables for part in (_table(table), *_side(table))]
    return "\n".join(["% \\usepackage{booktabs,textcomp,graphicx}", *parts]) + "\n"


def escape(text: str) -> str:
    """A name as text: no command, no new line, no control character."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return "".join(_SPECIAL.get(character, character) for character in plain)


def _table(table: Table) -> str:
    columns = [*table.columns, average_column(table)]
    groups = _groups(columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(table)}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{@{{}}rl{'r' * len(columns)}@{{}}}}",
        r"\toprule",
        " & & " + " & ".join(rf"\multicolumn{{{span}}}{{c}}{{{escape(title)}}}" for title, span, _ in groups) + r" \\",
        " ".join(rf"\cmidrule(lr){{{start}-{start + span - 1}}}" for _, span, start in groups),
        "Rank & Method & " + " & ".join(escape(f"{c.title} {c.arrow}") for c in columns) + r" \\",
        r"\midrule",
        *(_row(row, columns) for row in table.rows),
    ]
    reported = published_of(table)
    lines += [r"\midrule", *(_reported(row, columns) for row in reported)] if reported else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"])


def _side(table: Table) -> list[str]:
    """What stands beside the figures, a table of its own."""
    columns = side_columns(table)
    if not columns:
        return []
    heads = [f"{column.title}, {column.where}" if column.where else column.title for column in columns]
    caption = " ".join([f"{heading(table)}: what stands beside the figures.", *side_notes(table)])
    return [
        "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{escape(caption)}}}",
                r"\resizebox{\linewidth}{!}{%",
                rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}",
                r"\toprule",
                " & ".join(["Method", *map(escape, heads)]) + r" \\",
                r"\midrule",
                *(
                    " & ".join([escape(row.label), *(escape(column.text(row.label)) for column in columns)]) + r" \\"
                    for row in table.rows
                ),
                r"\bottomrule",
                r"\end{tabular}}",
                r"\end{table}",
            ]
        )
    ]


def _groups(columns: list[Column]) -> list[tuple[str, int, int]]:
    """Title, number of columns and first column of each group."""
    found: list[tuple[str, int, int]] = []
    for place, column in enumerate(columns, 3):
        if found and found[-1][0] == group_title(column.group):
            found[-1] = (found[-1][0], found[-1][1] + 1, found[-1][2])
        else:
            found.append((group_title(column.group), 1, place))
    return found


def _caption(table: Table) -> str:
    words = (
        f"{heading(table)}. Top-1 accuracy in percent (C: mean corruption error) with half the 95 % "
        "interval. Bold: best of its column; underlined: not separable from it (paired tests, Holm). Ranks hold "
        "every place that the separable pairs allow."
    )
    words = " ".join([words, *filter(None, [seed_note(table), once_note(table)])])
    if reported := published_of(table):
        words += f" Italics: as reported in {SOURCE}, not ranked. "
        words += " ".join(f"{line}." for line in printed_otherwise(reported, table.columns))
    apart = [f"{one.label}, {one.title}: {one.reason}" for one in cells_apart(table)]
    return escape(f"{words} ≠ not compared: {'; '.join(apart)}." if apart else words)


def _row(row: Row, columns: list[Column]) -> str:
    cells = [_cell(row.cell(column.suite)) for column in columns]
    return (
        " & ".join([escape(rank(row)), escape(f"{row.label} {ONCE}" if row.of_weights else row.label), *cells]) + r" \\"
    )


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return escape(MISSING)
    value = figure(cell.value)
    value = rf"\textbf{{{value}}}" if cell.best else rf"\underline{{{value}}}" if cell.tied else value
    mark = "" if cell.comparable else r"$\neq$ "
    return rf"{mark}{value}\,{{\scriptsize {escape(margin(cell) + deviation(cell))}}}"


def _reported_cell(row: Published, suite: str) -> str:
    if suite not in row.figures:
        return escape(MISSING)
    return rf"\textit{{{figure(row.figures[suite])}}}" + (escape(OTHER) if row.other(suite) else "")


def _reported(row: Published, columns: list[Column]) -> str:
    cells = [_reported_cell(row, column.suite) for column in columns]
    return " & ".join(["", rf"\textit{{{escape(f'{row.method} ({row.model}, {row.reference})')}}}", *cells]) + r" \\"
