"""Figures beside the benchmark: noise along a training, noise norm against robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nsbench.laboratory.figures import (
    INK,
    MARKERS,
    PALETTE,
    end_label,
    from_zero,
    legend,
    new_figure,
    reference_line,
    series,
    titles,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCURACY = "accuracy_"


def trace(
    trainings: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    watched: Sequence[str],
    published: Sequence[tuple[int, float]],
    epsilon: float | None,
) -> Figure:
    """Norm, influence (with the published one) and watched accuracies over training steps."""
    figure, axes = new_figure(1, 3 if watched else 2, width=4.3, height=3.3)
    norm, influence = axes[0, 0], axes[0, 1]
    for index, (label, history) in enumerate(trainings):
        series(norm, *_points(history, "noise_norm"), index, label)
        series(influence, *_points(history, "mse_probability"), 2 * index, f"{label}, learnt on")
        series(influence, *_points(history, "mse_probability_held_out"), 2 * index + 1, f"{label}, held out")
    influence.plot(
        [step for step, _ in published], [value for _, value in published], "x", color=INK, label="published (table 5)"
    )
    if epsilon:
        reference_line(influence, epsilon, f"epsilon {epsilon:g}")
    from_zero(norm)
    from_zero(influence)
    titles(norm, "Norm of the noise", "training step", "l2 norm")
    titles(influence, "Influence of the noise", "training step", "MSE probability")
    legend(influence)
    if len(trainings) > 1:
        legend(norm)
    if watched:
        label, history = trainings[0]
        for index, key in enumerate(watched):
            steps, values = _points(history, key)
            series(axes[0, 2], steps, values, index)
            if steps:
                end_label(axes[0, 2], steps[-1], values[-1], key.removeprefix(ACCURACY), index)
        titles(axes[0, 2], f"Accuracy along {label}", "training step", "top-1 accuracy, %")
    return figure


def _points(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of the rounds that have this entry; noise is learnt before its round's steps."""
    found = [entry for entry in history if entry.get(key) is not None]
    return [entry["step"] for entry in found], [entry[key] for entry in found]


def scatter(rows: Sequence[Sequence[Any]], found: Mapping[str, tuple[float | None, float | None, str]]) -> Figure:
    """Robustness over the norm of the epsilon noise, one mark a method with the range over starts."""
    figure, axes = new_figure(1, 2, width=4.6, height=3.4)
    for place, column, (group, (rho, p, _)) in zip(axes[0], (6, 7), found.items(), strict=True):
        for index, row in enumerate(rows):
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            place.errorbar(
                row[1],
                row[column],
                xerr=[[row[1] - row[2]], [row[3] - row[1]]],
                color=colour,
                marker=marker,
                markersize=7,
                linewidth=1.2,
            )
            place.annotate(
                row[0],
                (row[1], row[column]),
                xytext=(6, -13 if index % 2 else 6),
                fontsize=8,
                textcoords="offset points",
                color=colour,
            )
        place.margins(0.18)
        said = f"rho {rho:.2f}, p {p:.2g}" if rho is not None and p is not None else "no rank correlation"
        titles(place, f"{group.capitalize()}: {said}", "norm of the epsilon noise, l2", "mean score, %")
    return figure
