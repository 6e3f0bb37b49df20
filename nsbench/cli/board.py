"""Options of commands that show results, and whose rows may stand beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click import option

from nsbench.cli.options import DEFAULT_RESULTS, with_options
from nsbench.errors import UsageError

if TYPE_CHECKING:
    from nsbench.report import LendingFolder

SHOWCASE = Path(__file__).parents[2] / "reports" / "showcase"  # in a checkout; a wheel brings none
NO_FOLDER = "none"
DEFAULT_REPORT = Path("reports/index.html")

_BOARD: list[Callable[[Any], Any]] = [
    option("--results", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_RESULTS, show_default=True),
    option("--reference", help="The row that differences are shown against. Default: the matched control."),
    option("--partial", is_flag=True, help="Also average over the suites that all rows have; marked as partial."),
    option(
        "--beside",
        metavar="DIR|none",
        help="Show rows of another results folder too, marked: those that were measured on the same images by the same "
        "recipe and seeds, and that --results lacks. Default: the showcase of a checkout, on the page and in the terminal.",
    ),
]


def board_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the leaderboard is made of."""
    return with_options(_BOARD, command)


_PAPER: list[Callable[[Any], Any]] = [
    option(
        "--columns",
        metavar="NAMES",
        default="",
        callback=lambda context, parameter, given: tuple(filter(None, map(str.strip, given.split(",")))),
        help="Of latex: suites and groups (clean, adversarial, ood, average), comma-separated. Default: all.",
    ),
    option("--interval/--no-interval", default=True, help="Of latex: with half the 95 % interval, or without."),
    option("--deviation/--no-deviation", default=True, help="Of latex: with σ over seeds, or without."),
]


def paper_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a table for a paper holds: the fields of PaperLayout."""
    return with_options(_PAPER, command)


def lending_of(results: Path, wanted: str | None = None) -> LendingFolder | None:
    """The folder that lends rows to the board of `results`. Raises UsageError where `wanted` is no folder.

    Without a wish it is the showcase's board of the embedded source, and nothing for boards of the showcase itself.
    """
    from nsbench.report import LendingFolder

    if wanted == NO_FOLDER:
        return None
    if wanted is not None:
        if not Path(wanted).is_dir():
            raise UsageError(f"--beside {wanted}: is not a folder; give a folder of results, or '{NO_FOLDER}'")
        return LendingFolder(Path(wanted), wanted)
    folder = SHOWCASE / "shapes10" / "results"
    if not folder.is_dir() or results.resolve().is_relative_to(SHOWCASE):
        return None
    return LendingFolder(folder, "the showcase")
