"""The nullspace beside the benchmark: noise along a training (figure 4, table 5), noise norm against robustness."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from nsbench.errors import ModelError, UsageError
from nsbench.files import cache_folder
from nsbench.laboratory import Bench, console
from nsbench.laboratory import results_figures as draw
from nsbench.laboratory.noise_sheets import learn_many, unfinished
from nsbench.laboratory.page import Sheet, write_sheet
from nsbench.models import Model, weights_digest, with_weights
from nsbench.progress import ConsoleProgress
from nsbench.registry import content_folder
from nsbench.results import Result, read_results

WATCHED = "accuracy_"  # keys of a round's entry that `nsbench run --watch` adds


@dataclass(frozen=True)
class Fit:
    """All stored results of one set of weights."""

    label: str  # "ns", with the seed where there are several
    results: Sequence[Result]

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per round of the training."""
        return self.first.provenance.get("history") or []

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
    found: dict[str, list[Result]] = {}
    for one in read_results(results)[0]:
        if (one.source, one.model) == (source, model):
            found.setdefault(str(one.provenance.get("fit_key")), []).append(one)
    groups = sorted(found.values(), key=lambda group: (group[0].method_order, group[0].method, group[0].seed))
    names = [group[0].method for group in groups]
    return [
        Fit(group[0].method if names.count(group[0].method) == 1 else f"{group[0].method}, seed {group[0].seed}", group)
        for group in groups
    ]


def trace_sheet(
    results: Path, out: Path, *, method: str = "ns", source: str = "shapes10", model: str = "vit_shapes10"
) -> Sheet:
    """Figure 4 and table 5: norm and influence of each round's noise, beside what `--watch` measured on the way."""
    fits = [fit for fit in stored_fits(results, source, model) if fit.first.method == method]
    fits = [fit for fit in fits if any("noise_norm" in entry for entry in fit.history)]
    if not fits:
        raise UsageError(
            f"{results}: holds no training of method '{method}' with noise for {source} and {model}; make "
            f"one: nsbench run --method {method} --suite clean --watch 1 --results {results}"
        )
    watched = sorted({key for fit in fits for entry in fit.history for key in entry if key.startswith(WATCHED)})
    columns = [
        "training",
        "step",
        "noise norm, l2",
        "noise steps",
        "inside epsilon",
        "MSE prob., learnt on",
        "MSE prob., held out",
        *(f"{key.removeprefix(WATCHED)}, %" for key in watched),
    ]
    keys = ["step", "noise_norm", "noise_steps", "noise_converged", "mse_probability", "mse_probability_held_out"]
    rows = [
        [fit.label, *(entry.get(key) for key in [*keys, *watched])]
        for fit in fits
        for entry in fit.history
        if "noise_norm" in entry
    ]
    published, recipe = published_influence(), fits[0].first.provenance["recipe"] or {}
    notes = [
        _compared(rows, published, recipe.get("epsilon")),
        *_moves(fits),
        *([] if watched else [f"No metrics were watched: nsbench run --method {method} --watch 1 adds them."]),
    ]
    sheet = Sheet(
        "trace",
        f"{source}.{model}.{method}",
        "Noise along the training",
        "Norm and influence of every round's noise, beside accuracies on the way: a norm that grows while "
        "the influence stays below epsilon is an approximate nullspace that grows (figure 4, table 5).",
        columns,
        rows,
        {"results": str(results), "recipe": recipe.get("name"), "epsilon": recipe.get("epsilon")},
        notes,
        {"published": published},
        order=60,
    )
    write_sheet(
        sheet,
        out,
        console(),
        {"": draw.trace([(fit.label, fit.history) for fit in fits], watched, published, recipe.get("epsilon"))},
    )
    return sheet


def _compared(rows: Sequence[Sequence[Any]], published: Sequence[tuple[int, float]], epsilon: float | None) -> str:
    own = [row[5] for row in rows if row[5] is not None]
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
    found = []
    for fit in fits:
        norms = [entry["noise_norm"] for entry in fit.history if "noise_norm" in entry]
        line = f"{fit.label}: the norm goes from {norms[0]:.3g} to {norms[-1]:.3g}"
        found.append(
            f"{line}; Spearman's rho of norm and round {stats.spearmanr(range(len(norms)), norms)[0]:.2f}."
            if len(norms) > 2
            else f"{line}."
        )
    return found


def scatter_sheet(bench: Bench, results: Path, *, images: int, epsilon: float, max_steps: int, noises: int) -> Sheet:
    """Norm of the epsilon noise of every method's weights against its robustness, with rank correlations."""
    fits = stored_fits(results, bench.source.name, bench.model.name)
    loaded = {fit.label: model for fit in fits if (model := _weights(fit, bench.model)) is not None}
    missing = [fit.label for fit in fits if fit.label not in loaded]
    fits = [fit for fit in fits if fit.label in loaded]
    if len(fits) < 2:
        raise UsageError(
            f"{results}: the weights of {len(fits)} methods on {bench.source.name} with "
            f"{bench.model.name} are here, and a relation needs at least 2; run the methods on this "
            "machine, or point NSBENCH_CACHE to the cache they were fitted into"
        )
    shared: list[str] = sorted(set.intersection(*({one.suite for one in fit.results} for fit in fits)))
    rows: list[list[Any]] = []
    with ConsoleProgress().task("learning", len(fits), unit="methods") as advance:
        for fit in fits:
            learnt = learn_many(loaded[fit.label], bench, noises, images, epsilon, max_steps)
            norms = [one.norm for one in learnt]
            rows.append(
                [
                    fit.label,
                    float(np.mean(norms)),
                    min(norms),
                    max(norms),
                    sum(one.converged for one in learnt),
                    *(fit.mean(group, shared) for group in ("clean", "adversarial", "ood")),
                ]
            )
            advance(note=fit.label)
    found = {
        group: _correlation([row[1] for row in rows], [row[column] for row in rows])
        for column, group in ((6, "adversarial"), (7, "out of distribution"))
    }
    return bench.write(
        "scatter",
        "Noise norm and robustness",
        "If a larger approximate nullspace means a more robust model, methods with a larger epsilon noise lie higher.",
        [
            "method",
            "norm, mean",
            "norm, least",
            "norm, largest",
            "inside epsilon",
            "clean, %",
            "adversarial, %",
            "out of distribution, %",
        ],
        rows,
        figures={"": draw.scatter(rows, found)},
        facts={
            "results": str(results),
            "epsilon": epsilon,
            "noises per method": noises,
            "images": images,
            "suites": ", ".join(shared),
        },
        notes=[
            *(f"{group}: {words}" for group, (_, _, words) in found.items()),
            *([f"Left out, weights not in the cache: {', '.join(missing)}."] if missing else []),
            *unfinished(noises * len(fits) - sum(row[4] for row in rows), max_steps),
            "Groups are plain means over the suites that all methods have, with 100 - mCE in place of mCE.",
        ],
        data={group: {"rho": rho, "p": p} for group, (rho, p, _) in found.items()},
        order=70,
    )


def _weights(fit: Fit, parent: Model) -> Model | None:
    """The fitted model, from the parent itself or from the cache; None where it is not here."""
    wanted = fit.first.provenance["weights_digest"]
    if weights_digest(parent) == wanted:
        return parent
    try:
        model = with_weights(parent, cache_folder() / "fitted" / f"{fit.first.provenance['fit_key']}.safetensors")
    except ModelError:
        return None
    return model if weights_digest(model) == wanted else None


def _correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float | None, float | None, str]:
    """Spearman's rho with a permutation p-value, and a sentence."""
    if len(x) < 4 or np.isnan(y).any() or 1 in (len(set(x)), len(set(y))):
        return (
            None,
            None,
            f"{len(x)} methods are too few for a rank correlation to say anything."
            if len(x) < 4
            else ("no rank correlation: scores are missing, or all values are equal."),
        )
    test = stats.permutation_test(
        (list(x),),
        lambda order: stats.spearmanr(order, y)[0],
        permutation_type="pairings",
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    rho, p = float(test.statistic), float(test.pvalue)
    return rho, p, f"Spearman's rho {rho:.2f}, permutation p = {p:.3f}, {len(x)} methods."
