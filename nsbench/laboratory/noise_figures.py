"""Figures of the approximate nullspace: exploratory noise, scaling and combinations, norm over depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.laboratory.figures import (
    INK,
    PALETTE,
    from_zero,
    heat_map,
    legend,
    new_figure,
    reference_line,
    series,
    titles,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def exploratory(rows: Sequence[Sequence[Any]]) -> Figure:
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


def geometry(
    alphas: Sequence[float],
    scaled: Mapping[str, np.ndarray],
    grid: Sequence[float],
    combined_AA: np.ndarray,
    epsilon: float,
    at_one: float,
) -> Figure:
    """Left: influence over the scale, mean and range. Right: over (a, b), with contours and the line a + b = 1."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.6, foreground=INK)]  # white reads on the light cells too
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
                grid, grid, combined_AA, levels=[level], colors="white", linewidths=1.6, linestyles=dash
            )
            drawn.set(path_effects=outline)
            for words in right.clabel(drawn, fmt={level: name}, fontsize=7, colors="white"):
                words.set_path_effects(outline)
    right.plot([0, 1], [1, 0], color="white", linewidth=1.4, dashes=(1, 1.5), path_effects=outline)
    right.annotate(
        "a + b = 1",
        (0.18, 0.82),
        color="white",
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


def layers(rows: Sequence[Sequence[Any]], epsilon: float) -> Figure:
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
            color=PALETTE[2 * index],
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
