"""`nsbench nullspace`: the laboratory. Commands parse, call and print; nothing else.

Every command writes a table (terminal, JSON, CSV) and figures (SVG, PNG) into --out, and makes the page of that folder
anew. Commands that learn noise (learn, geometry, layers) stand in nullspace_noise.py, those on pictures (watermark,
disguise, ...) in nullspace_images.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from nsbench.cli.options import DEFAULT_LABORATORY, DEFAULT_RESULTS, bench_options
from nsbench.errors import UsageError
from nsbench.files import importing

OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_LABORATORY,
    show_default=True,
    help="Folder of tables, figures and the page that gathers them.",
)
TOLERANCE = click.option(
    "--tolerance",
    type=float,
    help="Of the rank, relative to the largest singular value. Default: max(P, D) x the epsilon of the weights' type.",
)
COUNT = click.IntRange(min=1)
IMAGES = click.option(
    "--images",
    type=COUNT,
    default=1024,
    show_default=True,
    help="Training images to learn on; the fewer, the more the noise suits these alone.",
)
EPSILON = click.option(
    "--epsilon",
    type=click.FloatRange(min=0, min_open=True),
    default=0.03,
    show_default=True,
    help="MSE probability at which learning stops.",
)
MAX_STEPS = click.option("--max-steps", type=COUNT, default=400, show_default=True, help="Where learning gives up.")


def numbers(context: click.Context, parameter: click.Parameter, given: str) -> list[float]:
    """ "1,10,100" -> [1.0, 10.0, 100.0]."""
    try:
        found = [float(part) for part in given.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(value) for value in found):
        raise UsageError(f"--{parameter.name} {given}: give numbers, comma-separated, such as 1,10,100")
    return found


@click.group()
def nullspace() -> None:
    """The nullspace laboratory: what can be added to an image without changing what a model says."""


@nullspace.command()
@click.option("--models", help="timm names, comma-separated, untrained. Default: the eight of the paper's table 1.")
@click.option("--model", help="One model with its weights, before those of --models.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The weights of --model.")
@TOLERANCE
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@OUT
def dims(
    models: str | None, model: str | None, checkpoint: Path | None, tolerance: float | None, seed: int, out: Path
) -> None:
    """Dimension of the patch embedding's nullspace (table 1), with the spectrum and the tolerance that decides it."""
    with importing():
        from nsbench.laboratory.dims import architecture, dims_sheet, published_dimensions
        from nsbench.models import load_model

    names = [name.strip() for name in (models or "").split(",") if name.strip()]
    if not names and not model:
        names = [f"{name}_224" for name in published_dimensions()]
    trained = [load_model(model, checkpoint=checkpoint)] if model else []
    every = [*trained, *(architecture(name, seed) for name in names)]
    dims_sheet(
        every,
        [True] * len(trained) + [False] * len(names),
        out,
        tolerance=tolerance,
        seed=seed,
        subject="table1" if not (models or model) else every[0].name,
    )


@nullspace.command()
@bench_options
@click.option("--images", type=COUNT, default=32, show_default=True, help="Clean images that the noise is added to.")
@click.option("--norms", default="1,10,100,1000", show_default=True, callback=numbers, help="l2 of pixels in [0, 1].")
@click.option(
    "--shown-norm",
    type=click.FloatRange(min=0, min_open=True),
    help="Norm of the drawn noise. Default: 100, or less where that would cover the image.",
)
@TOLERANCE
def sample(images: int, norms: list[float], shown_norm: float | None, tolerance: float | None, **options: Any) -> None:
    """Exact noise that leaves the logits unchanged at any strength (figure 2), beside random noise."""
    with importing():
        from nsbench.laboratory import open_bench
        from nsbench.laboratory.sample import sample_sheet

    bench = open_bench(**options)
    visible = min(100.0, 0.35 * 3**0.5 * bench.model.input_size)  # a standard deviation of 0.35 per pixel value at most
    sample_sheet(bench, norms=norms, images=images, shown_norm=shown_norm or visible, tolerance=tolerance)


RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RESULTS,
    show_default=True,
    help="Written by: nsbench run --watch 1",
)


@nullspace.command()
@RESULTS
@click.option("--method", help="Default: the one that the benchmark asks about.")
@click.option("--source", default="shapes10", show_default=True, help="The data source's folder in --results.")
@click.option("--model", default="vit_shapes10", show_default=True, help="The model's folder in --results.")
@OUT
def trace(results: Path, method: str | None, source: str, model: str, out: Path) -> None:
    """Norm and influence of the noise along a training, beside accuracies (figure 4) and the paper's table 5."""
    from nsbench.laboratory.trace import trace_sheet

    trace_sheet(results, out, source=source, model=model, method=method)


@nullspace.command()
@bench_options
@RESULTS
@IMAGES
@EPSILON
@MAX_STEPS
@click.option("--noises", type=COUNT, default=3, show_default=True, help="Starts per method.")
def scatter(results: Path, **options: Any) -> None:
    """Norm of the approximate noise against robustness over the methods of a results folder."""
    with importing():
        from nsbench.laboratory import open_bench
        from nsbench.laboratory.scatter import scatter_sheet

    settings = {name: options.pop(name) for name in ("images", "epsilon", "max_steps", "noises")}
    scatter_sheet(open_bench(**options), results, **settings)


@nullspace.command()
@OUT
def report(out: Path) -> None:
    """Make the page of a laboratory's folder anew from the tables and figures in it."""
    from nsbench.laboratory.page import write_page

    if not out.is_dir():
        raise UsageError(f"--out {out}: is not a folder; make something first: nsbench nullspace dims")
    click.echo(str(write_page(out)))
