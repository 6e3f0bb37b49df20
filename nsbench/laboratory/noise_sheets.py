"""The approximate nullspace as tables and figures: exploratory noise (figure 3), geometry (figure 5), every layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nsbench.errors import UsageError
from nsbench.laboratory import Bench
from nsbench.laboratory import noise_figures as draw
from nsbench.laboratory.page import Sheet
from nsbench.nullspace.approximate import LearntNoise, learn_noise
from nsbench.nullspace.exploratory import explore_noise
from nsbench.nullspace.geometry import combination_grid, convex_line, pairs_of, scaling
from nsbench.nullspace.layers import at_layer
from nsbench.nullspace.probe import Influence, Probe, permuted, random_direction, scaled_to_influence
from nsbench.progress import ConsoleProgress
from nsbench.randomness import derive_seed

START = 3.5  # where the search starts, in units of the tokens' root mean square: outside epsilon at any depth
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
            *(f"MSE conf., {kind}" for kind in kinds),
        ],
        rows,
        figures={"": draw.exploratory(rows)},
        facts={
            "layer": layer,
            "images": f"{len(probes['train'])} train, {len(probes['val'])} val",
            "lr": lr,
            "passes": passes,
        },
        notes=[
            "start: the noise begins uniform in (-start, start). match: share of images whose prediction stays. "
            "MSE conf.: mean squared change of the clean prediction's probability. permuted: the same noise with "
            "its elements in a random order."
        ],
        qualifier=_qualifier(layer),
        order=30,
    )


def geometry_sheet(
    bench: Bench,
    *,
    noises: int,
    pairs: int,
    images: int,
    val_images: int,
    epsilon: float,
    alphas: Sequence[float],
    grid: Sequence[float],
    max_steps: int,
    layer: str = "0",
    start: float | None = None,
) -> Sheet:
    """Figure 5: influence of scaled noise, and of combinations of independently learnt noises."""
    model = at_layer(bench.model, layer)
    learnt = learn_many(model, bench, noises, images, epsilon, max_steps, start)
    probe = Probe(model, bench.images("clean", val_images).pixels_BCHW)
    vectors = [one.noise_1ND for one in learnt]
    controls = [permuted(one, bench.seed + index) for index, one in enumerate(vectors)]
    scaled = {"learnt": scaling(probe, vectors, alphas), "permuted": scaling(probe, controls, alphas)}
    chosen = pairs_of(vectors, pairs)
    combined_AA = combination_grid(probe, chosen, grid)
    line = convex_line(combined_AA, grid)
    rows = [
        [float(alpha), *(float(part[:, index].mean()) for part in scaled.values())]
        for index, alpha in enumerate(alphas)
    ]
    at_one = float(np.mean([probe.influence(one).mse_probability for one in vectors]))
    notes = [
        f"Mean influence of the {len(vectors)} noises themselves on these images, which they were not learnt on: "
        f"{at_one:.3g}; the contour is drawn there too, since epsilon bounds the images that the search saw.",
        f"Along a + b = 1 the largest mean influence is {max(value for _, value in line):.3g}, at a = "
        f"{max(line, key=lambda point: point[1])[0]:g}."
        if line
        else "The grid holds no a + b = 1.",
    ]
    return bench.write(
        "geometry",
        "Geometry of the approximate nullspace",
        "Influence of a scaled noise, and of combinations of two that were learnt independently: in a vector space all "
        "of them would be as harmless as the noises themselves (figure 5).",
        ["alpha", "MSE prob., learnt", "MSE prob., permuted"],
        rows,
        figures={"": draw.geometry(alphas, scaled, grid, combined_AA, epsilon, at_one)},
        facts={
            "layer": layer,
            "epsilon": epsilon,
            "noises": len(vectors),
            "pairs": len(chosen),
            "norms": ", ".join(f"{one.norm:.1f}" for one in learnt),
            "images": f"{images} train, {len(probe)} val",
            "inside epsilon": f"{sum(one.converged for one in learnt)} of {len(learnt)}",
        },
        notes=[*notes, *unfinished(sum(not one.converged for one in learnt), max_steps)],
        data={
            "grid": list(map(float, grid)),
            "mse_probability": combined_AA.tolist(),
            "convex_line": line,
            "at_one": at_one,
        },
        qualifier=_qualifier(layer),
        order=40,
    )


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
            "MSE prob., train",
            "MSE prob., val",
            "match %, val",
            "norm of the tokens",
        ],
        rows,
        figures={"": draw.layers(rows, epsilon)},
        facts={"epsilon": epsilon, "images": f"{images} train, {len(val_BCHW)} val", "most steps": max_steps},
        notes=[
            "random and permuted: the norm at which such noise has the learnt noise's influence, on as many "
            f"training images as val images ({len(val_BCHW)}), or on these, mean of {repeats} draws. norm of the "
            "tokens: l2 over all tokens of one image, mean over images. –: no norm of such noise does as much.",
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


def _qualifier(layer: str) -> str:
    return "" if layer == "0" else f"layer{layer}"
