"""Writing the leaderboard in the formats that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from nsbench.errors import ResultError, UnknownName, without_controls
from nsbench.files import write_atomically, writing
from nsbench.leaderboard import Leaderboard
from nsbench.report.page.page import to_html
from nsbench.report.papers import to_figures
from nsbench.report.tables.hubs import to_badges, to_huggingface, to_robustbench
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.paper import EVERYTHING, PaperLayout
from nsbench.report.tables.text import to_markdown
from nsbench.report.tables.tidy import to_csv, to_json
from nsbench.run.study import Study

Contents = Mapping[str, str | bytes]  # by path


def _html(board: Leaderboard, detail: int | None = None, studies: Sequence[Study] = ()) -> Contents:
    return {"index.html": to_html(board, detail, studies)}


def _latex(board: Leaderboard, paper: PaperLayout = EVERYTHING) -> Contents:
    return {"leaderboard.tex": to_latex(board, paper)}


def _one(name: str, write: Callable[[Leaderboard], str]) -> Callable[[Leaderboard], Contents]:
    return lambda board: {name: write(board)}


FORMATS: dict[str, Callable[[Leaderboard], Contents]] = {  # by name: file contents by path
    "html": _html,
    "md": _one("leaderboard.md", to_markdown),
    "latex": _latex,
    "csv": _one("leaderboard.csv", to_csv),
    "json": _one("leaderboard.json", to_json),
    "hf": to_huggingface,
    "robustbench": to_robustbench,
    "badge": to_badges,
    "figures": to_figures,
}


ABOUT = {  # what each format is, for people
    "html": "one page for people, self-contained",
    "md": "a table for a README",
    "latex": "tables for a paper",
    "csv": "one line a figure, for pandas and R",
    "json": "every figure with what it is made of",
    "hf": "a model card for every row, as the Hugging Face hub reads it",
    "robustbench": "a file for every row, as RobustBench's model_info",
    "badge": "an SVG for every row with an average",
    "figures": "every figure of every table for a paper: PDF, SVG, and its numbers as CSV",
}


def resolve_formats(names: str) -> tuple[str, ...]:
    """ "html,md" -> ("html", "md"); raises UnknownName, listing the known ones."""
    wanted = tuple(dict.fromkeys(filter(None, (name.strip() for name in names.split(",")))))
    for name in wanted:
        if name not in FORMATS:
            raise UnknownName("format", name, FORMATS)
    return wanted or ("html",)


def export(
    board: Leaderboard,
    out: Path,
    formats: Iterable[str],
    detail: int | None = None,
    paper: PaperLayout = EVERYTHING,
    studies: Sequence[Study] = (),
) -> list[Path]:
    """Write each format below `out`; returns the files. A format with nothing to say (no mCE, no average) writes none.

    `out` may be an .html file: that is the page's name then, and the others lie beside it. `detail`: how many
    rows the page draws; `studies`: of one's own, which the page shows; `paper`: what tables for papers hold. Raises
    ResultError where something cannot be written.
    """
    page = out.suffix.lower() in (".html", ".htm")
    folder, written = out.parent if page else out, []
    for name in formats:
        contents = _contents(board, name, detail, paper, studies)
        for path, content in contents.items():
            file = out if page and name == "html" else folder / path
            with writing(file, ResultError, "choose another place with --out", what="the report cannot be written"):
                write_atomically(file, _bytes(name, content))
            written.append(file)
    return written


def _bytes(name: str, content: str | bytes) -> bytes:
    """Text without the controls of strangers' names; the page escapes every value itself."""
    if isinstance(content, bytes):
        return content
    return (content if name == "html" else without_controls(content)).encode("utf-8", "replace")


def _contents(
    board: Leaderboard, name: str, detail: int | None, paper: PaperLayout, studies: Sequence[Study]
) -> Contents:
    if name == "html":
        return _html(board, detail, studies)
    return _latex(board, paper) if name == "latex" else FORMATS[name](board)
