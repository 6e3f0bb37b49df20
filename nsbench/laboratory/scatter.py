"""`nsbench nullspace scatter`: norm of the approximate noise against robustness, over the methods of a results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from nsbench.errors import ModelError, UsageError
from nsbench.laboratory import Bench
from nsbench.laboratory.figures import MARKERS, PALETTE, new_figure, titles
from nsbench.laboratory.learn import learn_many, unfinished
from nsbench.laboratory.page import Sheet
from nsbench.laboratory.trace import Fit, stored_fits
from nsbench.models import Model, weights_digest, with_weights
from nsbench.progress import ConsoleProgress
from nsbench.run.kept_fits import kept_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scatter_sheet(bench: Bench, results: Path, *, images: int, epsilon: float, max_steps: int, noises: int) -> Sheet:
    """Norm of the epsilon noise of every method's weights against its robustness, with rank correlations."""
    fits = stored_fits(results, bench.source.name, bench.model.name)
    loaded = {fit.label: model for fit in fits if (model := _weights(fit, bench.model)) is not None}
    missing = [fit.label for fit in fits if fit.label not in loaded]
    fits = [fit for fit in fits if fit.label in loaded]
    if len(fits) < 2:
        raise UsageError(
            f"--results {results}: of the methods that were run there on {bench.source.name} with {bench.model.name}, "
            f"the weights of {len(fits)} are on this machine, and a relation needs 2; point NSBENCH_CACHE to the "
            "cache that they were fitted into, or run the methods into another folder: nsbench run --results FOLDER"
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
        figures={"": scatter_figure(rows, found)},
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
    own = fit.first.provenance
    if weights_digest(parent) == own.weights_digest:
        return parent
    path = kept_at(None, own.fit_key)
    if not path.is_file():
        return None
    try:
        model = with_weights(parent, path)
    except ModelError:
        return None
    return model if weights_digest(model) == own.weights_digest else None


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


def scatter_figure(
    rows: Sequence[Sequence[Any]], found: Mapping[str, tuple[float | None, float | None, str]]
) -> Figure:
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
