"""`nsbench submit`: exchange results. Commands parse, call and print; nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import click

RESULTS = Path("reports/results")
ARCHIVE = click.Path(path_type=Path, dir_okay=False)


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
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True,
              help="The results it would join: the same images must have the same labels.")
def check(file: Path, results: Path) -> None:
    """Check an archive: schema, digests, and every score worked out again from its outcomes.

    Exit status: 0 nothing is wrong; 1 something is, a line each.
    """
    from nsbench.results import read_results
    from nsbench.submission import check as check_archive

    checked = check_archive(file, held=read_results(results)[0])
    for problem in checked.problems:
        click.echo(problem)
    click.echo(f"{file}: {len(checked.results)} results, {len(checked.problems)} problems, digest {checked.digest}")
    sys.exit(1 if checked.problems else 0)


@submit.command("merge")
@click.argument("file", type=ARCHIVE)
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
def merge(file: Path, results: Path) -> None:
    """Check an archive and add its results to a folder; nothing that is there is replaced."""
    from nsbench.submission import merge as merge_results

    merged = merge_results(file, results)
    click.echo(f"{results}: {len(merged.added)} results added, {len(merged.held)} were there; digest {merged.digest}")
