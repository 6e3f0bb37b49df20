"""`nsbench nullspace learn, geometry, layers`: commands parse, call and print; nothing else.

They are added to the group that nullspace.py makes, which is imported from here.
"""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from nsbench.cli.nullspace import COUNT, EPSILON, IMAGES, MAX_STEPS, nullspace, numbers
from nsbench.cli.options import bench_options

__all__ = ["nullspace"]
LAYER = click.option(
    "--layer",
    default="0",
    show_default=True,
    help="Where noise is added: 0 is the patch embedding, k block k, 'input' the pixels.",
)
UNTRAINED = click.option("--untrained", is_flag=True, help="The architecture as timm initialises it, without weights.")
START = click.option(
    "--start",
    type=click.FloatRange(min=0, min_open=True),
    help="Noise starts uniform in (-start, start); the paper's 3. Default: 3.5 x the tokens' root mean square.",
)
VAL_IMAGES = click.option("--val-images", type=COUNT, default=128, show_default=True, help="Clean images to judge on.")


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
@click.option(
    "--imagenette",
    is_flag=True,
    help="The paper's set-up: all 9,469 images of ImageNette's train and 3,925 of its val (--data imagenette2), lr 0.02.",
)
@click.pass_context
def learn(
    context: click.Context,
    /,
    imagenette: bool,
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
    from nsbench.laboratory.learn import IMAGENETTE, IMAGENETTE_LR, learn_sheet

    bench, sizes = open_bench(**options), {"images": images, "val_images": val_images}
    if imagenette:
        asked = {name: value for name, value in sizes.items() if _given(context, name)}
        sizes, lr = IMAGENETTE | asked, lr if _given(context, "lr") else IMAGENETTE_LR
        for split, name in (("train", "images"), ("clean", "val_images")):
            here = len(bench.source.split(split))
            if here < sizes[name]:
                click.secho(f"{split}: {here:,} images, where ImageNette has {sizes[name]:,}", fg="yellow", err=True)
    learn_sheet(
        bench,
        lambdas=lambdas,
        limits=starts,
        **sizes,
        lr=lr,
        passes=passes,
        layer=layer,
    )


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


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
    from nsbench.laboratory.geometry import geometry_sheet

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
    from nsbench.laboratory.layers import layers_sheet
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
