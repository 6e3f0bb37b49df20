"""`nsbench nullspace geometry`: scaling and combinations of independently learnt noises (figure 5, appendix D)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nsbench.laboratory import Bench
from nsbench.laboratory.figures import (
    ON_DARK,
    ON_LIGHT,
    PALETTE,
    from_zero,
    heat_map,
    legend,
    new_figure,
    reference_line,
    series,
    titles,
)
from nsbench.laboratory.learn import learn_many, qualifier, unfinished
from nsbench.laboratory.page import MSE_PROBABILITY, Sheet
from nsbench.nullspace.geometry import combination_grid, convex_line, pairs_of, scaling
from nsbench.nullspace.layers import at_layer
from nsbench.nullspace.probe import Probe, permuted

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        ["alpha", "MSE probability, learnt", "MSE probability, permuted"],
        rows,
        figures={"": geometry_figure(alphas, scaled, grid, combined_AA, epsilon, at_one)},
        facts={
            "layer": layer,
            "epsilon": epsilon,
            "noises": len(vectors),
            "pairs": len(chosen),
            "norms": ", ".join(f"{one.norm:.1f}" for one in learnt),
            "images": f"{images} train, {len(probe)} val",
            "inside epsilon": f"{sum(one.converged for one in learnt)} of {len(learnt)}",
        },
        notes=[*notes, MSE_PROBABILITY, *unfinished(sum(not one.converged for one in learnt), max_steps)],
        data={
            "grid": list(map(float, grid)),
            "mse_probability": combined_AA.tolist(),
            "convex_line": line,
            "at_one": at_one,
        },
        qualifier=qualifier(layer),
        order=40,
    )


def geometry_figure(
    alphas: Sequence[float],
    scaled: Mapping[str, np.ndarray],
    grid: Sequence[float],
    combined_AA: np.ndarray,
    epsilon: float,
    at_one: float,
) -> Figure:
    """Left: influence over the scale, mean and range. Right: over (a, b), with contours and the line a + b = 1."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.6, foreground=ON_LIGHT)]  # white reads on the light cells too
    figure, axes = new_figure(1, 2, width=5.0, height=3.9)
    left, right = axes[0]
    for index, (kind, values) in enumerate(scaled.items()):
        series(left, list(alphas), values.mean(axis=0), index, kind)
        left.fill_between(alphas, values.min(axis=0), values.max(axis=0), color=PALETTE[index], alpha=0.15, linewidth=0)
    from_zero(left)
    reference_line(left, epsilon, f"epsilon {epsilon:g}")
    titles(left, "Scaling", "alpha", "MSE probability of alpha v")
    legend(left)
    heat_map(figure, right, combined_AA, grid, grid, "mean MSE probability of a v1 + b v2")
    contours = ((epsilon, "solid", f"epsilon {epsilon:g}"), (at_one, "dashed", f"of one noise: {at_one:.2g}"))
    for level, dash, name in contours:
        if combined_AA.min() < level < combined_AA.max():
            drawn = right.contour(
                grid, grid, combined_AA, levels=[level], colors=ON_DARK, linewidths=1.6, linestyles=dash
            )
            drawn.set(path_effects=outline)
            for words in right.clabel(drawn, fmt={level: name}, fontsize=7, colors=ON_DARK):
                words.set_path_effects(outline)
    right.plot([0, 1], [1, 0], color=ON_DARK, linewidth=1.4, dashes=(1, 1.5), path_effects=outline)
    right.annotate(
        "a + b = 1",
        (0.18, 0.82),
        color=ON_DARK,
        fontsize=8,
        rotation=-45,
        ha="center",
        va="top",
        rotation_mode="anchor",
        path_effects=outline,
    )
    right.set_xlim(min(grid), max(grid))
    right.set_ylim(min(grid), max(grid))
    right.set_aspect("equal")
    titles(right, "Combinations", "a", "b")
    return figure
