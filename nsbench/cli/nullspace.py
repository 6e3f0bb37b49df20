"""`nsbench nullspace`: the laboratory. Commands parse, call and print; nothing else.

Every command writes a table (terminal, JSON, CSV) and figures (SVG, PNG) into --out, and makes the page of that folder
anew. Commands on pictures (watermark, disguise, ...) stand in cli_nullspace_images.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from nsbench.cli.options import DEFAULT_LABORATORY, DEFAULT_RESULTS, bench_options
from nsbench.errors import UsageError

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
    from nsbench.laboratory import linear_sheets
    from nsbench.models import load_model

    names = [name.strip() for name in (models or "").split(",") if name.strip()]
    if not names and not model:
        names = [f"{name}_224" for name in linear_sheets.published_dimensions()]
    trained = [load_model(model, checkpoint=checkpoint)] if model else []
    every = [*trained, *(linear_sheets.architecture(name, seed) for name in names)]
    linear_sheets.dims_sheet(
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
    from nsbench.laboratory import open_bench
    from nsbench.laboratory.linear_sheets import sample_sheet

    bench = open_bench(**options)
    visible = min(100.0, 0.35 * 3**0.5 * bench.model.input_size)  # a standard deviation of 0.35 per pixel value at most
    sample_sheet(bench, norms=norms, images=images, shown_norm=shown_norm or visible, tolerance=tolerance)


LAYER = click.option(
    "--layer",
    default="0",
    show_default=True,
    help="Where noise is added: 0 is the patch embedding, k block k, 'input' the pixels.",
)
UNTRAINED = click.option("--untrained", is_flag=True, help="The architecture as timm initialises it, without weights.")
IMAGES = click.option(
    "--images",
    type=COUNT,
    default=1024,
    show_default=True,
    help="Training images to learn on; the fewer, the more the noise suits these alone.",
)
START = click.option(
    "--start",
    type=click.FloatRange(min=0, min_open=True),
    help="Noise starts uniform in (-start, start); the paper's 3. Default: 3.5 x the tokens' root mean square.",
)
VAL_IMAGES = click.option("--val-images", type=COUNT, default=128, show_default=True, help="Clean images to judge on.")
EPSILON = click.option(
    "--epsilon",
    type=click.FloatRange(min=0, min_open=True),
    default=0.03,
    show_default=True,
    help="MSE probability at which learning stops.",
)
MAX_STEPS = click.option("--max-steps", type=COUNT, default=400, show_default=True, help="Where learning gives up.")


def learning_options(command: Any) -> Any:
    """What approximate noise is learnt on, from where and how far."""
    return IMAGES(VAL_IMAGES(EPSILON(START(MAX_STEPS(command)))))


@nullspace.command()
@bench_options
@UNTRAINED
@LAYER
@IMAGES
@VAL_IMAGES
@click.option("--lambdas", default="0,3,10", show_default=True, callback=numbers, help="Regularisation strengths.")
@click.option("--starts", default="1,2", show_default=True, callback=numbers, help="Limits of the uniform start.")
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="Of gradient descent. The paper's 0.02 needs its 9,469 images and many passes.",
)
@click.option("--passes", type=COUNT, default=4, show_default=True, help="Over the training images.")
def learn(
    lambdas: list[float],
    starts: list[float],
    images: int,
    val_images: int,
    lr: float,
    passes: int,
    layer: str,
    **options: Any,
) -> None:
    """Exploratory noise of equation 4 against its permutation, for a sweep of strengths (figure 3)."""
    from nsbench.laboratory import open_bench
    from nsbench.laboratory.noise_sheets import learn_sheet

    learn_sheet(
        open_bench(**options),
        lambdas=lambdas,
        limits=starts,
        images=images,
        val_images=val_images,
        lr=lr,
        passes=passes,
        layer=layer,
    )


@nullspace.command()
@bench_options
@UNTRAINED
@LAYER
@learning_options
@click.option("--noises", type=click.IntRange(min=2), default=4, show_default=True, help="Learnt from as many starts.")
@click.option("--pairs", type=COUNT, default=3, show_default=True, help="Of these, combined over the grid.")
@click.option("--alphas", default="0,0.25,0.5,0.75,1,1.25,1.5", show_default=True, callback=numbers)
@click.option(
    "--grid", default="0,0.2,0.4,0.6,0.8,1,1.2", show_default=True, callback=numbers, help="Values of a and of b."
)
def geometry(**options: Any) -> None:
    """Scaling and convex combinations of independently learnt noises (figure 5, appendix D)."""
    from nsbench.laboratory import open_bench
    from nsbench.laboratory.noise_sheets import geometry_sheet

    own = ("noises", "pairs", "images", "val_images", "epsilon", "alphas", "grid", "max_steps", "layer", "start")
    settings = {name: options.pop(name) for name in own}
    geometry_sheet(open_bench(**options), **settings)


@nullspace.command()
@bench_options
@UNTRAINED
@click.option(
    "--layer",
    "places",
    help="Comma-separated: input, 0 (patch embedding), block numbers. Default: all but "
    "the input; a CNN's only place is its input.",
)
@learning_options
@click.option("--batch-size", type=COUNT, default=32, show_default=True, help="Training images of one step.")
def layers(
    places: str | None,
    images: int,
    val_images: int,
    epsilon: float,
    start: float | None,
    max_steps: int,
    batch_size: int,
    **options: Any,
) -> None:
    """Approximate noise after any block, in any architecture, against random noise of equal influence."""
    from nsbench.laboratory import open_bench
    from nsbench.laboratory.noise_sheets import layers_sheet
    from nsbench.nullspace.layers import INPUT
    from nsbench.nullspace.layers import layers as known_layers

    bench = open_bench(**options)
    every = [place for place in known_layers(bench.model) if place != INPUT] or [INPUT]
    chosen = [part.strip() for part in places.split(",")] if places else every
    layers_sheet(
        bench,
        places=chosen,
        images=images,
        val_images=val_images,
        epsilon=epsilon,
        max_steps=max_steps,
        start=start,
        batch_size=batch_size,
    )


RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RESULTS,
    show_default=True,
    help="Written by: nsbench run --watch 1",
)


@nullspace.command()
@RESULTS
@click.option("--method", default="ns", show_default=True)
@click.option("--source", default="shapes10", show_default=True, help="The data source's folder in --results.")
@click.option("--model", default="vit_shapes10", show_default=True, help="The model's folder in --results.")
@OUT
def trace(results: Path, method: str, source: str, model: str, out: Path) -> None:
    """Norm and influence of the noise along a training, beside accuracies (figure 4) and the paper's table 5."""
    from nsbench.laboratory.results_sheets import trace_sheet

    trace_sheet(results, out, method=method, source=source, model=model)


@nullspace.command()
@bench_options
@RESULTS
@IMAGES
@EPSILON
@MAX_STEPS
@click.option("--noises", type=COUNT, default=3, show_default=True, help="Starts per method.")
def scatter(results: Path, **options: Any) -> None:
    """Norm of the approximate noise against robustness over the methods of a results folder."""
    from nsbench.laboratory import open_bench
    from nsbench.laboratory.results_sheets import scatter_sheet

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
