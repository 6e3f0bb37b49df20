"""`nsbench baseline`: what `nsbench check` compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nsbench import registry
from nsbench.cli.completion import complete_methods, complete_suites
from nsbench.cli.options import Sectioned, given_names, record_options
from nsbench.cli.stopping import WHOLE, when_stopped
from nsbench.errors import UsageError
from nsbench.files import importing, try_place, writing

NOT_STORED = (
    "device",
    "workers",
    "batch_size",
    "results",
    "force",
    "watch",
    "watch_suites",
    "log",
    "follow_links",
    "about",
)  # move no figure
OF_THE_MACHINE = ("data", "checkpoint")  # where things lie here; asked for again elsewhere


@click.group()
def baseline() -> None:
    """Record what `nsbench check` compares with."""


@baseline.command("record", cls=Sectioned)
@click.option(
    "--method", "methods", shell_complete=complete_methods, required=True, help="Methods, comma-separated, or 'all'."
)
@click.option(
    "--suite",
    "suites",
    shell_complete=complete_suites,
    required=True,
    help="Suites, comma-separated, or a group: all, adversarial, ood.",
)
@record_options
@click.option(
    "--repeats",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Measure again with fewer threads and other batches, fits included: tells noise from change.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The JSON file, small enough for git."
)
def record(methods: str, suites: str, repeats: int, out: Path, **options: Any) -> None:
    """Measure on a small subset and store scores and per-image outcomes.

    Everything is computed anew; stored results and fitted weights in the cache are neither read nor changed.
    """
    from nsbench.progress import ConsoleProgress

    with importing():
        from nsbench.regression import record as measure_and_record
        from nsbench.regression import write_baseline
        from nsbench.run.runner import RunOptions

    when_stopped(WHOLE)
    from nsbench.run.named_suites import register_sets

    with writing(out, UsageError, "choose another --out", what="cannot write the baseline"):
        try_place(out)
    registry.load_content()
    register_sets(options["data"])
    given = given_names()
    if lost := sorted(given - set(options)):
        raise UsageError(f"--{lost[0].replace('_', '-')}: a baseline cannot state it yet; leave it out")
    stored = {name: options[name] for name in given if name not in NOT_STORED + OF_THE_MACHINE}
    asked = RunOptions(registry.resolve_methods(methods), registry.resolve_suites(suites), **options)
    progress = ConsoleProgress()
    recorded = measure_and_record(
        asked, progress, repeats=repeats, given=stored, needs=[name for name in OF_THE_MACHINE if name in given]
    )
    write_baseline(out, recorded)
    progress.line(f"{out}: {len(recorded.entries)} suites, {out.stat().st_size / 1000:,.1f} kB")
