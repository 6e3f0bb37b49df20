"""The leaderboard for people: one self-contained HTML page, the terminal, exports. Pure functions of results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nsbench import leaderboard
from nsbench.errors import ResultError
from nsbench.leaderboard import Leaderboard
from nsbench.report.tables.exports import FORMATS, export, resolve_formats
from nsbench.report.tables.terminal import render_comparison, render_terminal
from nsbench.report.tables.text import to_markdown
from nsbench.results import read_results

__all__ = [
    "FORMATS",
    "ResultError",
    "export",
    "render",
    "render_comparison",
    "render_formats",
    "render_terminal",
    "resolve_formats",
    "to_html",
    "to_markdown",
]


def render(
    results_dir: Path, out: Path, *, reference: str | None = None, partial: bool = False, detail: int | None = None
) -> Path:
    """Write the page of a results folder; `out` is an .html file or a folder, which gets index.html. Returns the file.

    Raises ResultError where the folder of `out` cannot be written.
    """
    (page,) = render_formats(results_dir, out, ["html"], reference=reference, partial=partial, detail=detail)
    return page


def render_formats(
    results_dir: Path,
    out: Path,
    formats: Iterable[str],
    *,
    reference: str | None = None,
    partial: bool = False,
    detail: int | None = None,
) -> list[Path]:
    """Write a results folder in formats of FORMATS; returns the files.

    For `detail` see `to_html`, for the other options `leaderboard.build`.
    """
    board = leaderboard.build(*read_results(results_dir), reference=reference, partial=partial)
    return export(board, out, formats, detail)


def to_html(board: Leaderboard, detail: int | None = None) -> str:
    """The page as text; `detail` rows are drawn in each chart and have a card, instead of the usual `Limits`.

    Every value is escaped; a name that the template misspells raises.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from nsbench.report import numbers, published, side_columns
    from nsbench.report.limits import Limits
    from nsbench.report.page import page

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "page" / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "numbers": numbers,
        "AVERAGE": numbers.AVERAGE,
        "GROUP_TITLES": numbers.GROUP_TITLES,
        "REPORTED_IN": published.SOURCE,
        "COST": side_columns.COST,
    }
    return environment.get_template("page.html.j2").render(board=board, views=page.views(board, Limits.of(detail)))
