"""`nsbench nullspace learn`: exploratory noise of equation 4 (figure 3), and how the approximate noise of the other
commands is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from nsbench.laboratory import Bench
from nsbench.laboratory.figures import from_zero, legend, new_figure, series, titles
from nsbench.laboratory.page import Sheet
from nsbench.nullspace.approximate import LearntNoise, learn_noise
from nsbench.nullspace.exploratory import explore_noise
from nsbench.nullspace.layers import at_layer
from nsbench.nullspace.probe import Probe, permuted
from nsbench.progress import ConsoleProgress
from nsbench.randomness import derive_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START = 3.5  # where the search starts, in units of the tokens' root mean square: outside epsilon at any depth
IMAGENETTE = {"images": 9469, "val_images": 3925}  # of the paper's figure 3: all of train and val
IMAGENETTE_LR = 0.02
RATE = 1 / 20  # its learning rate in units of the start; the paper's are 3 and 0.1 behind the patch embedding


def learn_sheet(
    bench: Bench,
    *,
    lambdas: Sequence[float],
    limits: Sequence[float],
    images: int,
    val_images: int,
    lr: float,
    passes: int,
    layer: str = "0",
    batch_size: int = 64,
) -> Sheet:
    """Figure 3: noise of equation 4 for each lambda and start, on train and val images, against its permutation."""
    model = at_layer(bench.model, layer)
    pixels = {"train": bench.images("train", images).pixels_BCHW, "val": bench.images("clean", val_images).pixels_BCHW}
    probes = {name: Probe(model, part) for name, part in pixels.items()}
    rows = []
    with ConsoleProgress().task("learning", len(lambdas) * len(limits), unit="noises") as advance:
        for limit in limits:
            for value in lambdas:
                noise_1ND = explore_noise(
                    model,
                    pixels["train"],
                    regularisation=value,
                    limit=limit,
                    lr=lr,
                    passes=passes,
                    batch_size=batch_size,
                    seed=bench.seed,
                ).noise_1ND
                control_1ND = permuted(noise_1ND, bench.seed)
                found = [probe.influence(noise) for probe in probes.values() for noise in (noise_1ND, control_1ND)]
                rows.append(
                    [
                        float(limit),
                        float(value),
                        noise_1ND.norm().item(),
                        *(100 * one.match for one in found),
                        *(one.mse_confidence for one in found),
                    ]
                )
                advance()
    kinds = ["train", "train, permuted", "val", "val, permuted"]
    return bench.write(
        "learn",
        "Exploratory noise of the encoder",
        "How many predictions survive a noise that was learnt to be large and harmless (equation 4), and how many "
        "survive the same numbers in another order (figure 3).",
        [
            "start",
            "lambda",
            "norm, l2",
            *(f"match %, {kind}" for kind in kinds),
            *(f"MSE confidence, {kind}" for kind in kinds),
        ],
        rows,
        figures={"": exploratory_figure(rows)},
        facts={
            "layer": layer,
            "images": f"{len(probes['train'])} train, {len(probes['val'])} val",
            "lr": lr,
            "passes": passes,
        },
        notes=[
            "start: the noise begins uniform in (-start, start). match: share of images whose prediction stays. "
            "MSE confidence: mean squared change of the clean prediction's probability. permuted: the same noise with "
            "its elements in a random order."
        ],
        qualifier=qualifier(layer),
        order=30,
    )


def exploratory_figure(rows: Sequence[Sequence[Any]]) -> Figure:
    """Matching predictions and squared confidence change over the norm, learnt and permuted; norm over lambda."""
    figure, axes = new_figure(1, 3, width=4.1, height=3.3)
    left, middle, right = axes[0]
    order = sorted(rows, key=lambda row: row[2])
    norms = [row[2] for row in order]
    for index, (kind, style) in enumerate((("train", 0), ("train, permuted", 1), ("val", 2), ("val, permuted", 3))):
        series(left, norms, [row[3 + index] for row in order], style, kind)
        series(middle, norms, [row[7 + index] for row in order], style)
    for index, start in enumerate(dict.fromkeys(row[0] for row in rows)):
        mine = [row for row in rows if row[0] == start]
        series(right, [row[1] for row in mine], [row[2] for row in mine], 4 + index, f"start {start:g}")
    left.set_ylim(0, 102)
    from_zero(middle)
    from_zero(right)
    titles(left, "Predictions that stay", "norm of the noise, l2", "matching predictions, %")
    titles(middle, "Confidence", "norm of the noise, l2", "MSE confidence")
    titles(right, "Regularisation sets the norm", "lambda", "norm of the noise, l2")
    legend(left, loc="lower left")
    legend(right, loc="lower right")
    return figure


def learn_many(
    model: Any,
    bench: Bench,
    count: int,
    images: int,
    epsilon: float,
    max_steps: int,
    start: float | None = None,
    batch_size: int = 32,
) -> list[LearntNoise]:
    """Noises of independent starts, each learnt on `images` training images, batch after batch, until it is inside
    epsilon on a batch and on the images held out (an eighth, at most 128). It starts uniform in (-start, start)."""
    pixels_BCHW = bench.images("train", images).pixels_BCHW
    draws = torch.Generator().manual_seed(derive_seed(bench.seed, "held out"))
    shuffled = torch.randperm(len(pixels_BCHW), generator=draws)
    held = min(128, max(1, len(pixels_BCHW) // 8))
    parts = pixels_BCHW[shuffled[held:]].split(batch_size) or (pixels_BCHW,)
    with torch.no_grad():
        limit = start or START * model.embed(parts[0]).square().mean().sqrt().item()
    return [
        learn_noise(
            model,
            list(parts),
            held_out=pixels_BCHW[shuffled[:held]],
            epsilon=epsilon,
            limit=limit,
            lr=RATE * limit,
            max_steps=max_steps,
            seed=bench.seed,
            round=index,
        )
        for index in range(count)
    ]


def unfinished(count: int, max_steps: int) -> list[str]:
    """What must be said of noises that the search did not get inside epsilon."""
    return (
        [
            f"{count} noise{'s' if count > 1 else ''} did not get inside epsilon in {max_steps} steps: the norm is "
            "that of where the search stopped. More --max-steps, or more --epsilon."
        ]
        if count
        else []
    )


def qualifier(layer: str) -> str:
    """What the name of a sheet says of the layer."""
    return "" if layer == "0" else f"layer{layer}"
