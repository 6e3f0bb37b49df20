"""`nsbench nullspace layers`: approximate noise at every depth, against random noise of equal influence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsbench.errors import UsageError
from nsbench.laboratory import Bench
from nsbench.laboratory.figures import INK, PALETTE, legend, new_figure, reference_line, series, titles
from nsbench.laboratory.learn import learn_many, unfinished
from nsbench.laboratory.page import MSE_PROBABILITY, Sheet
from nsbench.nullspace.layers import at_layer
from nsbench.nullspace.probe import Influence, Probe, permuted, random_direction, scaled_to_influence
from nsbench.progress import ConsoleProgress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def layers_sheet(
    bench: Bench,
    *,
    places: Sequence[str],
    images: int,
    val_images: int,
    epsilon: float,
    max_steps: int,
    start: float | None = None,
    batch_size: int = 32,
    repeats: int = 2,
) -> Sheet:
    """Approximate noise at any depth: its norm against that of random and permuted noise of equal influence."""
    val_BCHW = bench.images("clean", val_images).pixels_BCHW
    rows = []
    with ConsoleProgress().task("learning", len(places), unit="layers") as advance:
        for place in places:
            rows.append(_layer_row(bench, place, val_BCHW, images, epsilon, max_steps, start, batch_size, repeats))
            advance(note=f"layer {place}")
    return bench.write(
        "layers",
        "Approximate noise at every depth",
        "How large noise may be that was learnt until epsilon, against random noise that does as much to the "
        "predictions; a ratio over 1 is a direction that the rest of the model hardly sees.",
        [
            "layer",
            "shape",
            "inside epsilon",
            "steps",
            "norm, learnt",
            "random, train",
            "random, val",
            "permuted, val",
            "learnt / random, train",
            "learnt / random, val",
            "MSE probability, train",
            "MSE probability, val",
            "match %, val",
            "norm of the tokens",
        ],
        rows,
        figures={"": layers_figure(rows, epsilon)},
        facts={"epsilon": epsilon, "images": f"{images} train, {len(val_BCHW)} val", "most steps": max_steps},
        notes=[
            "random and permuted: the norm at which such noise has the learnt noise's influence, on as many "
            f"training images as val images ({len(val_BCHW)}), or on these, mean of {repeats} draws. norm of the "
            "tokens: l2 over all tokens of one image, mean over images. –: no norm of such noise does as much.",
            MSE_PROBABILITY,
            *unfinished(sum(not row[2] for row in rows), max_steps),
        ],
        order=50,
    )


def _layer_row(
    bench: Bench,
    place: str,
    val_BCHW: torch.Tensor,
    images: int,
    epsilon: float,
    max_steps: int,
    start: float | None,
    batch_size: int,
    repeats: int,
) -> list[Any]:
    model = at_layer(bench.model, place)
    (learnt,) = learn_many(model, bench, 1, images, epsilon, max_steps, start, batch_size)
    noise_1ND = learnt.noise_1ND
    train_BCHW = bench.images("train", images).pixels_BCHW[: len(val_BCHW)]
    train, val = Probe(model, train_BCHW), Probe(model, val_BCHW)
    seen, found = train.influence(noise_1ND), val.influence(noise_1ND)
    seeds = range(bench.seed, bench.seed + repeats)
    directions = [random_direction(noise_1ND, seed) for seed in seeds]
    random_train = _equal_norm(train, directions, seen)
    random_val = _equal_norm(val, directions, found)
    permuted_val = _equal_norm(val, [permuted(noise_1ND, seed) for seed in seeds], found)
    return [
        place,
        " x ".join(map(str, noise_1ND.shape[1:])),
        learnt.converged,
        learnt.steps,
        learnt.norm,
        random_train,
        random_val,
        permuted_val,
        learnt.norm / random_train,
        learnt.norm / random_val,
        seen.mse_probability,
        found.mse_probability,
        100 * found.match,
        _token_norm(val),
    ]


def _equal_norm(probe: Probe, directions: Sequence[torch.Tensor], wanted: Influence) -> float:
    """Mean norm at which these directions have the influence that is wanted; NaN where that is none, or where no norm
    gives it: behind a normalisation influence saturates."""
    try:
        norms = [scaled_to_influence(probe, one, wanted.mse_probability).norm().item() for one in directions]
    except UsageError:
        return math.nan
    return float(np.mean(norms)) if wanted.mse_probability else math.nan


def _token_norm(probe: Probe) -> float:
    return float(torch.cat([tokens.flatten(1).norm(dim=1) for tokens, _ in probe.parts]).mean())


def layers_figure(rows: Sequence[Sequence[Any]], epsilon: float) -> Figure:
    """Norms of learnt, random and permuted noise of equal influence, layer by layer; the ratio of the first two."""
    figure, axes = new_figure(1, 2, width=4.8, height=3.3)
    left, right = axes[0]
    places = np.arange(len(rows))
    kinds = ((4, f"learnt, epsilon {epsilon:g}"), (6, "random"), (7, "permuted"), (13, "the tokens themselves"))
    for index, (column, kind) in enumerate(kinds):
        series(left, places, [row[column] for row in rows], index, kind)
    for index, (column, kind) in enumerate(((8, "on training images"), (9, "on val images"))):
        bars = right.bar(
            places + 0.4 * index - 0.2,
            [row[column] for row in rows],
            color=PALETTE[len(kinds) + index],  # colours that the left panel has not
            width=0.36,
            label=kind,
            hatch=("", "///")[index],
            edgecolor="white",
        )
        right.bar_label(
            bars,
            ["" if math.isnan(row[column]) else f"{row[column]:.2f}" for row in rows],
            fontsize=7,
            color=INK,
            padding=1,
        )
    left.set_yscale("log")
    for place in (left, right):
        place.set_xticks(places, [row[0] for row in rows])
    reference_line(right, 1.0, "")
    right.margins(y=0.25)
    legend(right, loc="upper right")
    titles(left, "Noise of equal influence", "layer (0: patch embedding)", "norm, l2 over all tokens")
    titles(right, "How much larger learnt noise may be", "layer (0: patch embedding)", "norm, learnt / random")
    legend(left)
    return figure
