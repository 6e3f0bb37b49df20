"""A score that is a weighted sum over conditions, with all that makes it comparable image by image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from nsbench.errors import DataError
from nsbench.statistics.accuracy import wilson
from nsbench.statistics.intervals import mean_interval
from nsbench.types import Composition, Outcomes, Score


def weighted(
    outcomes: Mapping[str, Outcomes],
    weights: Mapping[str, float] | None = None,
    counts: Literal["right", "wrong"] = "right",
) -> Score:
    """Sum over conditions of weight x share of images whose outcome counts; by default their mean in percent.

    For suites of one's own: `weighted(outcomes)` is the mean accuracy over all conditions, `weighted(outcomes,
    counts="wrong")` their mean error. The conditions are on the same images, which are drawn together for the interval
    (Wilson's for the accuracy of one condition). Raises DataError where they are not, or a weight names no condition.
    """
    if not outcomes:
        raise DataError("weighted: no condition was evaluated; a suite needs at least one")
    weights = weights if weights is not None else dict.fromkeys(outcomes, 100 / len(outcomes))
    if unknown := [name for name in weights if name not in outcomes]:
        raise DataError(f"weighted: there is no condition '{unknown[0]}'; there are {', '.join(outcomes)}")
    composition = Composition(dict(weights), counts)
    values_N = per_image(outcomes, composition)
    if composition.is_accuracy:
        (weight,) = [weight for weight in weights.values() if weight]
        low, high = (weight * bound for bound in wilson(round(values_N.sum() / weight), len(values_N)))
    else:
        low, high = mean_interval(values_N, *composition.bounds)
    return Score(float(values_N.mean()), low, high, len(values_N), {}, composition)


def per_image(outcomes: Mapping[str, Outcomes], composition: Composition) -> np.ndarray:
    """(n,) what each image adds, in the order of the sorted ids: the mean is the score. Raises DataError."""
    total: np.ndarray | None = None
    ids: np.ndarray | None = None
    for name, weight in composition.weights.items():
        if name not in outcomes:
            raise DataError(f"the score counts condition '{name}', which was not evaluated")
        order = np.argsort(outcomes[name].ids)
        if ids is not None and not np.array_equal(outcomes[name].ids[order], ids):
            raise DataError("its conditions are on different images")
        ids = outcomes[name].ids[order]
        correct = outcomes[name].correct[order]
        part = weight * (correct if composition.counts == "right" else ~correct).astype(np.float64)
        total = part if total is None else total + part
    if total is None or not len(total):
        raise DataError("no image was evaluated")
    return total
