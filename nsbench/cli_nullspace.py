"""`nsbench nullspace`: the laboratory. Commands parse, call and print; nothing else.

Every command writes a table (terminal, JSON, CSV) and figures (SVG, PNG) into --out, and makes the page of that folder
anew. Commands on pictures (watermark, disguise, ...) stand in cli_nullspace_images.py.
"""

from __future__ import annotations

from pathlib import Path

import click

from nsbench.cli_options import DEFAULT_LABORATORY


@click.group()
def nullspace() -> None:
    """The nullspace laboratory: what can be added to an image without changing what a model says."""


@nullspace.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_LABORATORY, show_default=True,
              help="The folder that earlier commands wrote.")
def report(out: Path) -> None:
    """Make the page of a laboratory's folder anew from the tables and figures in it."""
    from nsbench.errors import UsageError
    from nsbench.report.laboratory import write_page

    if not out.is_dir():
        raise UsageError(f"--out {out}: is not a folder; make something first: nsbench nullspace dims")
    click.echo(str(write_page(out)))
