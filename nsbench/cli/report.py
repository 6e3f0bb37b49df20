"""`nsbench report` and `nsbench show`: the stored results as a page, as tables for papers and programs, in the terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsbench.cli.board import DEFAULT_REPORT, NO_FOLDER, board_options, lending_of, paper_options
from nsbench.cli.site import SiteOptions, make_site, refuse_beside_site, site_options
from nsbench.errors import ResultError, UsageError, without_controls
from nsbench.progress import table_console

if TYPE_CHECKING:
    from nsbench.leaderboard import Leaderboard
    from nsbench.run.study import Study

PAGE, PAPER = "html", "latex"  # the formats that people read on a screen, and in print


@click.command()
@board_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=DEFAULT_REPORT,
    show_default=True,
    help="The HTML file, or a folder (index.html, and the other formats).",
)
@click.option(
    "--format",
    "formats",
    default="html",
    show_default=True,
    help="Comma-separated: html, md, latex, csv, json, hf, robustbench, badge, figures.",
)
@click.option("--detail", type=click.IntRange(min=1), help="Rows that each chart of the page draws, and its cards.")
@click.option(
    "--study",
    "studies",
    multiple=True,
    metavar="FILE.toml",
    help="A study of your own, which the page shows in a section; repeatable. Those that nsbench brings are shown anyway.",
)
@paper_options
@click.option("--compare", nargs=2, metavar="A B", help="Print the paired comparison of two methods instead.")
@site_options
@click.pass_context
def report(
    context: click.Context,
    /,
    results: Path,
    reference: str | None,
    partial: bool,
    beside: str | None,
    out: Path,
    formats: str,
    detail: int | None,
    studies: tuple[str, ...],
    columns: tuple[str, ...],
    interval: bool,
    deviation: bool,
    compare: tuple[str, str] | None,
    site: SiteOptions,
) -> None:
    """Render the stored results: one self-contained HTML page, tables for papers and programs, or a static site.

    Exit status: 0; 1 there is no result, or rendered, but a file cannot be read, or its figures are not what its
    outcomes give; 2 wrong usage.
    """
    import nsbench.report as rendering
    from nsbench.run.study import load_study

    _need_results(results)
    if site.folder is not None:
        refuse_beside_site(context)
        _end_with(make_site(results, site, beside, reference, partial, detail))
        return
    formats_chosen = rendering.resolve_formats(formats)
    paper = rendering.PaperLayout(columns, interval, deviation)
    if paper != rendering.PaperLayout() and (PAPER not in formats_chosen or compare):
        raise UsageError(
            f"--columns, --no-interval and --no-deviation: are of --format {PAPER}; add it, or leave them out"
        )
    if studies and (PAGE not in formats_chosen or compare):
        raise UsageError(f"--study: is shown on the page, --format {PAGE}; add that, or leave it out")
    shown = [load_study(study) for study in studies]
    if compare:
        board = rendering.read_board(results, lending_of(results, beside), partial=partial)
        _need_rows(board, results)
        rendering.print_comparison(board, *compare, table_console())
        _end_with(board.problems)
        return
    page = [name for name in formats_chosen if name == PAGE]
    files = [name for name in formats_chosen if name != PAGE]
    problems: dict[str, None] = {}
    # files for papers and programs hold the rows of this folder alone, unless another one is named
    for some, folder in ((files, beside or NO_FOLDER), (page, beside)):
        if some:
            board = rendering.read_board(results, lending_of(results, folder), reference=reference, partial=partial)
            _need_rows(board, results)
            for path in rendering.export(board, out, some, detail, paper, shown):
                click.echo(str(path))
            problems |= dict.fromkeys(board.problems)
            if some == page:
                _say_what_lacks(board, dict(zip(studies, shown, strict=True)))
    _end_with(problems)


@click.command()
@board_options
def show(results: Path, reference: str | None, partial: bool, beside: str | None) -> None:
    """Show the leaderboard in the terminal. Exit status: as of report."""
    from nsbench.report import print_tables, read_board

    _need_results(results)
    board = read_board(results, lending_of(results, beside), reference=reference, partial=partial)
    _need_rows(board, results)
    print_tables(board, table_console())
    if board.problems:
        sys.exit(1)


def _say_what_lacks(board: Leaderboard, studies: Mapping[str, Study]) -> None:
    """Of each study, by its file, that no table holds."""
    from nsbench.report.studies import study_view

    for file, study in studies.items():
        if not any(study_view(study, table) for table in board.tables):
            needed = "every method of it" + (" and two of its settings" if len(study.settings) > 1 else "")
            click.echo(
                f"--study {file}: no table has {needed}, so the page does not show it; run it: "
                f"nsbench run --study {shlex.quote(file)}",
                err=True,
            )


def _end_with(problems: Iterable[str]) -> None:
    """What is wrong with files of the folder, on stderr, for an exit status that says it."""
    for problem in problems:
        click.echo(f"problem: {without_controls(problem)}", err=True)
    if problems:
        sys.exit(1)


def _need_results(results: Path) -> None:
    if not results.is_dir():
        raise UsageError(
            f"--results {results}: is not a folder; run something first: nsbench run --method ns --suite all"
        )


def _need_rows(board: Leaderboard, results: Path) -> None:
    """Raises ResultError where a folder holds nothing to show; files that cannot be read are named first."""
    if not board.tables:
        for problem in board.problems:
            click.echo(f"problem: {without_controls(problem)}", err=True)
        raise ResultError(f"--results {results}: holds no result; make some: nsbench run --method ns --suite all")
