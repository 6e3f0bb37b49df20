"""The leaderboard for people: one self-contained HTML page, a terminal table, Markdown. Pure functions of results."""

from __future__ import annotations

from pathlib import Path

from nsbench import leaderboard
from nsbench.errors import ResultError
from nsbench.files import write_atomically
from nsbench.leaderboard import Leaderboard
from nsbench.report.text import render_terminal, to_markdown
from nsbench.results import read_results

__all__ = ["render", "render_terminal", "to_html", "to_markdown"]


def render(results_dir: Path, out: Path) -> Path:
    """Write the page of a results folder; `out` is an .html file or a folder, which gets index.html. Returns the file.

    Raises ResultError where the folder of `out` cannot be written.
    """
    page = out if out.suffix.lower() in (".html", ".htm") else out / "index.html"
    content = to_html(leaderboard.build(*read_results(results_dir))).encode()
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(page, content)
    except OSError as error:
        raise ResultError(f"{page}: the report cannot be written ({error.strerror or error}); "
                          "choose another place with --out") from error
    return page


def to_html(board: Leaderboard) -> str:
    """The page as text. Every value is escaped; a name that the template misspells raises."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from nsbench.report import numbers, page, published

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
                              autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"numbers": numbers, "AVERAGE": page.AVERAGE, "GROUP_TITLES": page.GROUP_TITLES,
                            "REPORTED_IN": published.SOURCE}
    return environment.get_template("page.html.j2").render(board=board, views=page.views(board))
