"""The leaderboard for people: one self-contained HTML page, the terminal, figures for papers, exports.

All are pure functions of the board. Only what takes a folder of results reads it: `read_board`, `render`, `render_formats`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nsbench.errors import ResultError
from nsbench.report.boards import LendingFolder, findings, read_board
from nsbench.report.page.page import to_html
from nsbench.report.tables.exports import FORMATS, export, resolve_formats
from nsbench.report.tables.paper import PaperLayout
from nsbench.report.tables.terminal import print_comparison, print_tables
from nsbench.report.tables.text import to_markdown
from nsbench.report.tables.tidy import to_frame

__all__ = [
    "FORMATS",
    "LendingFolder",
    "PaperLayout",
    "ResultError",
    "export",
    "findings",
    "print_comparison",
    "print_tables",
    "read_board",
    "render",
    "render_formats",
    "resolve_formats",
    "to_frame",
    "to_html",
    "to_markdown",
]


def render(
    results_dir: Path,
    out: Path,
    *,
    reference: str | None = None,
    partial: bool = False,
    detail: int | None = None,
    lending: LendingFolder | None = None,
) -> Path:
    """Write the page of a results folder; `out` is an .html file or a folder, which gets index.html. Returns the file.

    Raises ResultError where the folder of `out` cannot be written.
    """
    (page,) = render_formats(
        results_dir, out, ["html"], reference=reference, partial=partial, detail=detail, lending=lending
    )
    return page


def render_formats(
    results_dir: Path,
    out: Path,
    formats: Iterable[str],
    *,
    reference: str | None = None,
    partial: bool = False,
    detail: int | None = None,
    lending: LendingFolder | None = None,
) -> list[Path]:
    """Write a results folder in formats of FORMATS; returns the files.

    For `detail` see `to_html`, for the other options `read_board`.
    """
    return export(read_board(results_dir, lending, reference=reference, partial=partial), out, formats, detail)
