"""`nsbench run`: fit, evaluate, store, and say what was found."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbench import processes, registry
from nsbench.cli.board import DEFAULT_REPORT, lending_of
from nsbench.cli.completion import complete_methods, complete_studies, complete_suites
from nsbench.cli.options import DEFAULT_RESULTS, EVALUATION, OUTPUT, WHAT, Sectioned, engine_options, of, run_options
from nsbench.cli.plan import print_plan
from nsbench.cli.stopping import GOES_ON, when_stopped
from nsbench.cli.values import attack_settings_of
from nsbench.errors import UsageError
from nsbench.files import importing

if TYPE_CHECKING:
    from nsbench.progress import Progress
    from nsbench.run.runner import Pair, Summary


@click.command(cls=Sectioned)
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

    if study:
        progress.line("The page shows the grid of a study in a section of its own, where its rows are stored.")
    else:
        for line in findings(folder, total.identities, limit, lending_of(folder)):
            progress.line(line)
    where = "" if folder == DEFAULT_RESULTS else f" --results {shlex.quote(str(folder))}"
    named = f" --study {shlex.quote(study)}" if study and study not in known_studies() else ""
    progress.line(f"Results: {folder}. The page: nsbench report{where}{named} (writes {DEFAULT_REPORT})")


def _named(setting: Mapping[str, str]) -> str:
    return ", ".join(f"{field} = {value}" for field, value in setting.items())
