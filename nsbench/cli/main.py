"""The command line: commands parse, call and print; nothing else. torch is not imported before it is needed."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbench import __version__, processes, registry
from nsbench.cli.baseline import baseline
from nsbench.cli.board import NO_FOLDER, board_options, lending_of, paper_options
from nsbench.cli.check import check
from nsbench.cli.completion import complete_methods, complete_studies, complete_suites
from nsbench.cli.data import data
from nsbench.cli.ending import Commands
from nsbench.cli.export import export
from nsbench.cli.listing import list_
from nsbench.cli.nullspace_images import nullspace
from nsbench.cli.options import DEFAULT_RESULTS, EVALUATION, OUTPUT, WHAT, Sectioned, engine_options, of, run_options
from nsbench.cli.plan import print_plan
from nsbench.cli.site import SiteOptions, make_site, refuse_beside_site, site_options
from nsbench.cli.status import status
from nsbench.cli.stopping import GOES_ON, when_stopped
from nsbench.cli.submit import submit
from nsbench.cli.values import attack_settings_of
from nsbench.errors import ResultError, UsageError, without_controls
from nsbench.files import importing
from nsbench.progress import table_console

if TYPE_CHECKING:
    from nsbench.leaderboard import Leaderboard
    from nsbench.progress import Progress
    from nsbench.run.runner import Pair, Summary

DEFAULT_REPORT = Path("reports/index.html")
PAGE, PAPER = "html", "latex"  # the formats that people read on a screen, and in print


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nsbench")
def main() -> None:
    """nsbench: robustness of vision transformers, measured under one and the same protocol.

    \b
    nsbench run --method ns --suite all     finetune, evaluate on the eleven suites, store
    nsbench report                          render the stored results as one HTML page
    """
    # a notice of torch to other libraries' authors, printed at every start
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")


main.add_command(baseline)
main.add_command(check)
main.add_command(data)
main.add_command(export)
main.add_command(list_)
main.add_command(nullspace)
main.add_command(status)
main.add_command(submit)


@main.command(cls=Sectioned)
@of(
    WHAT,
    click.option(
        "--method",
        "methods",
        shell_complete=complete_methods,
        help="Methods, comma-separated, or 'all'; first+second goes on from the first. See: nsbench list methods",
    ),
)
@of(
    WHAT,
    click.option(
        "--suite",
        "suites",
        shell_complete=complete_suites,
        help="Suites, comma-separated, or a group: all (the paper's eleven), adversarial, ood, extended.",
    ),
)
@of(
    WHAT,
    click.option(
        "--study",
        shell_complete=complete_studies,
        metavar="NAME|FILE",
        help="A grid of methods, settings and suites instead: table2, table3, table4, or a TOML file. See: nsbench list "
        "studies",
    ),
)
@run_options
@engine_options
@of(
    EVALUATION,
    click.option(
        "--set-attack",
        "attack_settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=attack_settings_of,
        help="Change a setting of the suites' attacks, such as eot=16 or steps=100; repeatable. A column of its own.",
    ),
)
@of(
    OUTPUT,
    click.option(
        "--log-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.jsonl",
        help="Write what happens there too, one JSON object per event; see docs/logs.md.",
    ),
)
@of(OUTPUT, click.option("-q", "--quiet", is_flag=True, help="Only results, and what needs attention."))
@of(OUTPUT, click.option("-v", "--verbose", is_flag=True, help="Also a line for each finished part of the work."))
@of(
    WHAT,
    click.option(
        "--dry-run",
        is_flag=True,
        help="Only say what is held already, what would be run, and what it takes: passes, hours, disk; see docs/scale.md.",
    ),
)
@of(
    WHAT,
    click.option(
        "--no-measure", is_flag=True, help="Of --dry-run: no hours, for which the model is timed for ten seconds."
    ),
)
@click.pass_context
def run(
    context: click.Context,
    /,
    methods: str | None,
    suites: str | None,
    study: str | None,
    dry_run: bool,
    no_measure: bool,
    log_file: Path | None,
    quiet: bool,
    verbose: bool,
    settings: dict[str, str],
    attack_settings: dict[str, str],
    **options: Any,
) -> None:
    """Fit each method, evaluate it on each suite, and store what is not stored yet.

    Exit status: 0 all done; 1 something is missing or failed, and named; 2 wrong usage; 70 an unexpected error.
    """
    from nsbench.run.named_suites import register_sets

    when_stopped(GOES_ON)
    registry.load_content()
    register_sets(options["data"])
    grid = [settings]
    if study:
        from nsbench.run.study import load_study

        chosen = load_study(study)
        methods, suites = methods or ",".join(chosen.methods), suites or ",".join(chosen.suites)
        grid = [settings | setting for setting in chosen.texts()]
        if context.get_parameter_source("seeds") is click.core.ParameterSource.DEFAULT:
            options["seeds"] = chosen.seeds
    if not methods or not suites:
        raise UsageError("say what to run: --method and --suite, such as --method ns --suite all, or --study")
    chosen_methods, chosen_suites = registry.resolve_methods(methods), registry.resolve_suites(suites)
    if attack_settings:
        from nsbench.run.attack_settings import with_attack_settings

        chosen_suites = with_attack_settings(chosen_suites, attack_settings)
    from nsbench.progress import ConsoleProgress, Progress

    with importing():
        from nsbench.run.runner import RunOptions, Summary

    if dry_run:
        throughput = None
        for setting in grid if not processes.is_quiet() else []:
            if setting:
                click.secho(_named(setting), bold=True)
            chosen_options = RunOptions(chosen_methods, chosen_suites, settings=setting, **options)
            throughput = print_plan(chosen_options, _by_reason, not no_measure, throughput)
        return
    if no_measure:
        raise UsageError("--no-measure: goes with --dry-run")
    from nsbench.run.engines import run as run_all

    progress, total = Progress() if processes.is_quiet() else ConsoleProgress(verbose - quiet, log_file), Summary()
    with processes.joined(options["device"]), processes.section():
        for setting in grid:
            if setting:
                progress.line(_named(setting), style="bold")
            total.add(
                run_all(RunOptions(chosen_methods, chosen_suites, settings=setting, **options), progress),
                _named(setting) if len(grid) > 1 else "",
            )
    _say_what_became(total, progress)
    if total.identities and not processes.is_quiet():
        _say_what_was_found(total, options["results"], options["limit"], study, progress)
    sys.exit(0 if total.complete else 1)


def _say_what_became(total: Summary, progress: Progress) -> None:
    progress.line(
        f"{len(total.done)} done, {len(total.held)} held already, {len(total.missing)} missing, "
        f"{len(total.failed)} failed"
    )
    for kind, pairs in (("missing", total.missing), ("failed", total.failed)):
        for line in _by_reason(pairs):
            progress.line(f"  {kind}: {line}")


def _by_reason(pairs: Mapping[Pair, str]) -> list[str]:
    """A line for each reason: the pair that it holds for, or the suite or method that its pairs share."""
    lines = []
    for why in dict.fromkeys(pairs.values()):
        mine = [pair for pair, reason in pairs.items() if reason == why]
        suites, methods = ({getattr(pair, part) for pair in mine} for part in ("suite", "method"))
        shared = suites if len(suites) == 1 else methods if len(methods) == 1 else {"several"}
        lines.append(f"{mine[0] if len(mine) == 1 else f'{shared.pop()} ({len(mine)} pairs)'}: {why}")
    return lines


def _say_what_was_found(total: Summary, folder: Path, limit: int | None, study: str | None, progress: Progress) -> None:
    """What was found, against what, what the table says, and how the page is made."""
    from nsbench.report import findings
    from nsbench.run.study import known_studies

    if study in known_studies():
        progress.line("The page shows the grid of a study in a section of its own, where its rows are stored.")
    elif study:
        progress.line("The table has a row for each method and setting of the study.")
    else:
        for line in findings(folder, total.identities, limit, lending_of(folder)):
            progress.line(line)
    where = "" if folder == DEFAULT_RESULTS else f" --results {shlex.quote(str(folder))}"
    progress.line(f"Results: {folder}. The page: nsbench report{where} (writes {DEFAULT_REPORT})")


def _named(setting: Mapping[str, str]) -> str:
    return ", ".join(f"{field} = {value}" for field, value in setting.items())


@main.command()
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
            for path in rendering.export(board, out, some, detail, paper):
                click.echo(str(path))
            problems |= dict.fromkeys(board.problems)
    _end_with(problems)


@main.command()
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
