"""`nsbench submit`: exchange results. Commands parse, call and print; nothing else."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbench.cli.options import model_options
from nsbench.cli.stopping import ADDS, when_stopped
from nsbench.errors import UsageError, without_controls
from nsbench.files import importing

if TYPE_CHECKING:
    from nsbench.submission import Rerunner

RESULTS = Path("reports/results")
ARCHIVE = click.Path(path_type=Path, dir_okay=False)
unknown_data = click.option(
    "--allow-unknown-data",
    is_flag=True,
    help="Accept results on images that neither shapes10 nor any of the results here has; they are named.",
)


@click.group()
def submit() -> None:
    """Pack results, check a stranger's, merge accepted ones."""


@submit.command("pack")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@click.option("--method", "methods", default="", help="Only these methods, comma-separated.")
@click.option("--out", type=ARCHIVE, default=Path("submission.zip"), show_default=True)
def pack(results: Path, methods: str, out: Path) -> None:
    """Archive results with the digest of each file; the same results give the same bytes."""
    from nsbench.submission import pack as pack_results

    packed = pack_results(results, out, tuple(filter(None, methods.split(","))))
    click.echo(f"{packed.path}: {packed.results} results, {packed.size:,} bytes, digest {packed.digest}")


@submit.command("check")
@click.argument("file", type=ARCHIVE)
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    show_default=True,
    help="The results it would join: the same images must have the same labels.",
)
@click.option(
    "--rerun",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run N random images of each condition again with the weights of --checkpoint.",
)
@model_options
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@unknown_data
@click.option("--sample-seed", type=click.IntRange(min=0), help="Which images are run again. Default: drawn and shown.")
@click.pass_context
def check(
    context: click.Context,
    /,
    file: Path,
    results: Path,
    rerun: int | None,
    sample_seed: int | None,
    allow_unknown_data: bool,
    **model: Any,
) -> None:
    """Check an archive: schema, digests, and every score worked out again from its outcomes.

    Exit status: 0 nothing is wrong; 1 something is, a line each, a result of --results cannot be read, or nothing could be
    run again for --rerun.
    """
    from nsbench.results import read_results
    from nsbench.submission import check_archive, needed

    seed = secrets.randbits(32) if sample_seed is None else sample_seed
    if not results.is_dir() and context.get_parameter_source("results") != click.core.ParameterSource.DEFAULT:
        raise UsageError(f"--results {results}: is no folder; name the results that the archive would join")
    held, broken = read_results(results)
    checked = check_archive(
        file,
        held=held,
        broken=broken,
        rerun=_rerunner(**model) if rerun else None,
        sample_size=rerun or 0,
        seed=seed,
        allow_unknown_data=allow_unknown_data,
    )
    for problem in checked.problems:
        click.echo(without_controls(problem))
    for why in checked.not_held_against:
        click.echo(without_controls(f"not held against: {why}"))
    for what in checked.unknown:
        click.echo(without_controls(f"unknown data: {what}"))
    for why in checked.not_rerun:
        click.echo(without_controls(f"not run again: {why}"))
    if rerun:
        click.echo(
            f"{checked.rerun} images were run again and agree (sample seed {seed}); "
            f"{len(checked.not_rerun)} results could not be run again"
        )
        if not checked.rerun:
            click.echo(without_controls(f"nothing was run again: {needed(checked.results)}"))
    click.echo(f"{file}: {len(checked.results)} results, {len(checked.problems)} problems, digest {checked.digest}")
    sys.exit(1 if not checked.accepted or (rerun and not checked.rerun) else 0)


def _rerunner(data: str, model: str | None, **options: Any) -> Rerunner:
    """The model and images that a submission is held against. Raises UsageError where no model is named."""
    from nsbench.progress import ConsoleProgress

    with importing():
        from nsbench.run.opening import open_all
        from nsbench.submission import Rerunner

    opened = open_all(data, model, **options)
    return Rerunner(opened.model, opened.source, progress=ConsoleProgress())


@submit.command("merge")
@click.argument("file", type=ARCHIVE)
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@unknown_data
def merge(file: Path, results: Path, allow_unknown_data: bool) -> None:
    """Check an archive and add its results to a folder; nothing that is there is replaced."""
    from nsbench.submission import merge as merge_results

    when_stopped(ADDS)
    merged = merge_results(file, results, allow_unknown_data=allow_unknown_data)
    click.echo(f"{results}: {len(merged.added)} results added, {len(merged.held)} were there; digest {merged.digest}")
