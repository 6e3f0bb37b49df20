"""`nsbench status`: what the jobs of a run on a cluster do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsbench.cli.options import DEFAULT_RESULTS
from nsbench.errors import without_controls

if TYPE_CHECKING:
    from nsbench.run.engines.status import CommandState, JobState

SYSTEMS = {"slurm": "jobs of SLURM", "local": "processes of its machine"}


@click.command()
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RESULTS,
    show_default=True,
    help="The folder that the run was given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object instead, for programs.")
def status(results: Path, as_json: bool) -> None:
    """Show the jobs of `nsbench run --engine slurm`: what runs, waits and is done, and what failed, with its log's end.

    Exit status: 0, also where there are none.
    """
    from nsbench.run.engines.status import read_status

    found, problems = read_status(results)
    if as_json:
        record = {"commands": [asdict(one) for one in found], "problems": problems}
        click.echo(json.dumps(record, indent=1))
        return
    for problem in problems:
        click.echo(f"problem: {without_controls(problem)}", err=True)
    for command in found:
        _print(command)
    if not found and not problems:
        click.echo(f"no jobs: {results} holds none of a run with --engine slurm; one that went well leaves none behind")


def _print(command: CommandState) -> None:
    from nsbench.run.engines.status import STATES

    counts = [f"{command.count(state)} {state}" for state in STATES if state != "ended" or command.count(state)]
    whose = f"process {command.pid} on {command.host}, {SYSTEMS[command.where]}"
    click.secho(without_controls(f"{command.name} ({whose}): {', '.join(counts)}, {command.done} done"), bold=True)
    if command.sign != "works":
        click.echo(f"  {_sign(command)}")
    widths = [max((len(getattr(one, name)) for one in command.jobs), default=0) for name in ("state", "job")]
    for one in command.jobs:
        head = f"{one.state.ljust(widths[0])}  {one.job.ljust(widths[1])}  {one.what}"
        click.echo(f"  {without_controls(head + _facts(one))}")
        for line in one.log:
            click.echo(f"      {without_controls(line)}")


def _sign(command: CommandState) -> str:
    from nsbench.progress import duration

    if command.sign == "over":
        return "the command has ended; what failed is shown until the next one begins"
    return (
        f"the command has given no sign of life for {duration(command.silent)}; started again it cancels what is left of "
        "these jobs and goes on from what is stored"
    )


def _facts(one: JobState) -> str:
    from nsbench.progress import duration

    if one.state == "ended":
        return ": has ended, and its answer is not taken yet"
    if one.seconds is not None:
        return f", on {one.node} for {duration(one.seconds)}"
    return f": {one.why}" if one.why else ""
