"""`nsbench nullspace trace`: norm and influence of the noise along a training (figure 4) and the paper's table 5."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from nsbench.errors import UsageError
from nsbench.laboratory.figures import (
    INK,
    end_label,
    from_zero,
    legend,
    new_figure,
    reference_line,
    series,
    titles,
)
from nsbench.laboratory.page import MSE_PROBABILITY, Sheet, write_sheet
from nsbench.registry import content_folder
from nsbench.results import NoiseOfRound, Result, Round, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Fit:
    """All stored results of one set of weights."""

    label: str  # the method, with the seed where there are several
    results: Sequence[Result]

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def history(self) -> tuple[Round, ...]:
        return self.first.provenance.history

    @property
    def noises(self) -> list[NoiseOfRound]:
        """Of the rounds that trained with noise."""
        return [entry.noise for entry in self.history if entry.noise]

    def mean(self, group: str, suites: Sequence[str]) -> float:
        """Mean score over the group's suites in percent, 100 - score where lower is better; NaN without any."""
        values = [
            100 - one.score.value if one.lower_is_better else one.score.value
            for one in self.results
            if one.group == group and one.suite in suites
        ]
        return float(np.mean(values)) if values else float("nan")


def published_influence() -> list[tuple[int, float]]:
    """The paper's table 5: (finetuning step, MSE probability of the noise learnt there)."""
    with (content_folder("baselines") / "published" / "table5_noise_influence.csv").open(newline="") as file:
        return [(int(row["step"]), float(row["mse_probability"])) for row in csv.DictReader(file)]


def stored_fits(results: Path, source: str, model: str) -> list[Fit]:
    """The fits of one source and model in a results folder, in the order of their methods."""
    by_key: dict[str, list[Result]] = {}
    for one in read_results(results)[0]:
        if (one.source, one.model) == (source, model):
            by_key.setdefault(one.provenance.fit_key, []).append(one)
    groups = sorted(by_key.values(), key=lambda group: (group[0].method_order, group[0].method, group[0].seed))
    names = [group[0].method for group in groups]
    return [
        Fit(group[0].method if names.count(group[0].method) == 1 else f"{group[0].method}, seed {group[0].seed}", group)
        for group in groups
    ]


def trace_sheet(results: Path, out: Path, *, source: str, model: str, method: str | None = None) -> Sheet:
    """Figure 4 and table 5: norm and influence of each round's noise, beside what `--watch` measured on the way.

    `method`: by default the one that the benchmark asks about, by its role. Raises UsageError where it trained none.
    """
    fits = [
        fit
        for fit in stored_fits(results, source, model)
        if fit.noises and (fit.first.method == method if method else fit.first.method_role == "subject")
    ]
    if not fits:
        whose = f"method '{method}'" if method else "the method that is asked about"
        raise UsageError(
            f"{results}: holds no training of {whose} with noise for {source} and {model}; make one: "
            f"nsbench run --method {method or 'METHOD'} --suite clean --watch 1 --results {results}"
        )
    name, recipe = fits[0].first.method, fits[0].first.provenance.recipe
    watched = sorted({suite for fit in fits for entry in fit.history for suite in entry.accuracies})
    rows = [_row(fit.label, entry, entry.noise, watched) for fit in fits for entry in fit.history if entry.noise]
    epsilon = recipe.settings.get("epsilon") if recipe else None
    bound = float(epsilon) if isinstance(epsilon, int | float) else None
    published = published_influence()
    notes = [
        _compared([noise.mse_probability for fit in fits for noise in fit.noises], published, bound),
        *_moves(fits),
        MSE_PROBABILITY,
        *([] if watched else [f"No metrics were watched: nsbench run --method {name} --watch 1 adds them."]),
    ]
    columns = [
        "training",
        "step",
        "noise norm, l2",
        "noise steps",
        "inside epsilon",
        "MSE probability, learnt on",
        "MSE probability, held out",
        *(f"{suite}, %" for suite in watched),
    ]
    sheet = Sheet(
        "trace",
        f"{source}.{model}.{name}",
        "Noise along the training",
        "Norm and influence of every round's noise, beside accuracies on the way: a norm that grows while "
        "the influence stays below epsilon is an approximate nullspace that grows (figure 4, table 5).",
        columns,
        rows,
        {"results": str(results), "recipe": recipe.name if recipe else None, "epsilon": bound},
        notes,
        {"published": published},
        order=60,
    )
    write_sheet(sheet, out, {"": trace_figure(fits, watched, published, bound)})
    return sheet


def _row(label: str, entry: Round, noise: NoiseOfRound, watched: Sequence[str]) -> list[Any]:
    return [
        label,
        entry.step,
        noise.norm,
        noise.steps,
        noise.converged,
        noise.mse_probability,
        noise.mse_probability_held_out,
        *(entry.accuracies.get(suite) for suite in watched),
    ]


def _compared(measured: Sequence[float | None], published: Sequence[tuple[int, float]], epsilon: float | None) -> str:
    own = [value for value in measured if value is not None]
    theirs = [value for _, value in published]
    mine = f"Here {min(own):.3g} to {max(own):.3g} over {len(own)} rounds" if own else "Here it was not recorded"
    return (
        f"Published (table 5): {min(theirs):.3g} to {max(theirs):.3g} at steps {published[0][0]} to "
        f"{published[-1][0]}, each below epsilon 0.03. {mine}, epsilon {epsilon:g}."
        if epsilon
        else mine
    )


def _moves(fits: Sequence[Fit]) -> list[str]:
    """First and last norm of each training, with the rank correlation over rounds."""
    lines = []
    for fit in fits:
        norms = [noise.norm for noise in fit.noises]
        line = f"{fit.label}: the norm goes from {norms[0]:.3g} to {norms[-1]:.3g}"
        lines.append(
            f"{line}; Spearman's rho of norm and round {stats.spearmanr(range(len(norms)), norms)[0]:.2f}."
            if len(norms) > 2
            else f"{line}."
        )
    return lines


def trace_figure(
    fits: Sequence[Fit], watched: Sequence[str], published: Sequence[tuple[int, float]], epsilon: float | None
) -> Figure:
    """Norm, influence (with the published one) and watched accuracies over training steps.

    A training has one colour in all panels; values on held-out images are a thin line with hollow marks.
    """
    figure, axes = new_figure(1, 3 if watched else 2, width=4.3, height=3.3)
    norm, influence = axes[0, 0], axes[0, 1]
    for index, fit in enumerate(fits):
        series(norm, *_of_noise(fit, lambda noise: noise.norm), index, fit.label)
        learnt, held_out = (
            _of_noise(fit, lambda noise: noise.mse_probability),
            _of_noise(fit, lambda noise: noise.mse_probability_held_out),
        )
        series(influence, *learnt, index, f"{fit.label}, learnt on")
        series(influence, *held_out, index, f"{fit.label}, held out", markerfacecolor="none", linewidth=1)
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
    if len(fits) > 1:
        legend(norm)
    if watched:
        _draw_accuracies(axes[0, 2], fits[0], watched, len(fits))
    return figure


def _draw_accuracies(axes: Axes, fit: Fit, watched: Sequence[str], first: int) -> None:
    """A line for each suite, in the palette from `first` on: the colours before it are those of trainings."""
    for index, suite in enumerate(watched, first):
        steps, values = _points(fit.history, partial(_accuracy, suite))
        series(axes, steps, values, index)
        if steps:
            end_label(axes, steps[-1], values[-1], suite, index)
    titles(axes, f"Accuracy along {fit.label}", "training step", "top-1 accuracy, %")


def _accuracy(suite: str, entry: Round) -> float | None:
    return entry.accuracies.get(suite)


def _of_noise(fit: Fit, value: Callable[[NoiseOfRound], float | None]) -> tuple[list[float], list[float]]:
    return _points(fit.history, lambda entry: value(entry.noise) if entry.noise else None)


def _points(history: Sequence[Round], value: Callable[[Round], float | None]) -> tuple[list[float], list[float]]:
    """Steps and values of the rounds that have this value; noise is learnt before its round's steps."""
    points = [(float(entry.step), found) for entry in history if (found := value(entry)) is not None]
    return [step for step, _ in points], [found for _, found in points]
