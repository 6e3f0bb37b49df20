"""Figures of merit and their 95 % intervals, from per-image outcomes.

Accuracy has Wilson's score interval (E. B. Wilson 1927, JASA 22:209-212). mCE is Hendrycks & Dietterich's mean
corruption error (ICLR 2019, arXiv 1903.12261, section 4.2); its interval is a percentile bootstrap over images: one
draw of images serves all 75 conditions, because the same images appear in all of them. The average of several suites
has Zou & Donner's interval for a sum of estimates (2008, Statistics in Medicine 27:1693-1702).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cache

import numpy as np

from nsbench.errors import DataError
from nsbench.statistics import calibration
from nsbench.types import Composition, Outcomes, Score

ALEXNET_ERROR = {  # top-1 error of AlexNet, mean over the five severities of the official ImageNet-C
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
SEVERITIES = (1, 2, 3, 4, 5)
MCE_WEIGHTS = {  # what one wrong image in all of a condition's images adds to mCE: mCE = sum of weight x error rate
    f"{corruption}/{severity}": 100 / (len(ALEXNET_ERROR) * len(SEVERITIES) * error)
    for corruption, error in ALEXNET_ERROR.items()
    for severity in SEVERITIES
}
L2_BUDGETS = (0.5, 1.0, 2.0, 3.0)  # [0, 1] pixel units
L2_TOLERANCE = 1e-6  # norms are kept in single precision: 0.5 must count as within 0.5


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, as fractions of 1. Raises DataError where it does not exist."""
    if not 0 <= successes <= n or n == 0:
        raise DataError(f"wilson({successes:g} of {n:g}): needs at least one image and successes between 0 and n")
    z = _normal_quantile(0.5 + confidence / 2)
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


@cache
def _normal_quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def accuracy(outcomes: Mapping[str, Outcomes]) -> Score:
    """Top-1 accuracy in percent on the first condition; what else was measured stands in `extra`.

    extra: "accuracy <name>" of every further condition; of the first one, where it has what is needed: "accuracy over
    all classes", "accuracy after 8-bit rounding", "median l2 of successes" and "accuracy at l2 <budget>" (which say
    something about attacks that look for a near adversarial image, and little about attacks of one fixed size), and
    the figures of `calibration.figures`.
    """
    if not outcomes:
        raise DataError("accuracy: no condition was evaluated; a suite needs at least one")
    (name, first), *others = outcomes.items()
    hits, n = int(first.correct.sum()), len(first)
    low, high = wilson(hits, n)
    extra = {f"accuracy {other}": percent(outcome.correct) for other, outcome in others} | beside_accuracy(first)
    return Score(100 * hits / n, 100 * low, 100 * high, n, extra, Composition({name: 100.0}, "right"))


def beside_accuracy(outcomes: Outcomes) -> dict[str, float]:
    """The figures beside an accuracy that its own condition gives: see `accuracy`."""
    found = {}
    for key, label in (("predictions_all", "over all classes"), ("predictions_uint8", "after 8-bit rounding")):
        if key in outcomes.extra:
            found[f"accuracy {label}"] = percent(outcomes.extra[key] == outcomes.labels)
    return found | _within_l2_budgets(outcomes) | calibration.figures(outcomes)


def percent(flags: np.ndarray) -> float:
    """Share of true flags in percent."""
    if not len(flags):
        raise DataError("a condition holds no images; look at its split of the data source")
    return 100 * (np.count_nonzero(flags) / len(flags))


def _within_l2_budgets(outcomes: Outcomes) -> dict[str, float]:
    """An image counts as broken at a budget if it was wrong before the attack or is wrong now with l2 <= budget."""
    if "l2" not in outcomes.extra:
        return {}
    l2 = np.asarray(outcomes.extra["l2"], dtype=np.float64)
    lost = ~outcomes.correct
    before = (
        outcomes.extra["predictions_clean"] != outcomes.labels
        if "predictions_clean" in outcomes.extra
        else (lost & (l2 == 0))
    )
    norms = l2[lost & ~before]  # of the changes that broke images
    n, kept = len(l2), np.count_nonzero(~before)
    figures = {
        f"accuracy at l2 {budget:g}": 100 * ((kept - np.count_nonzero(norms <= budget * (1 + L2_TOLERANCE))) / n)
        for budget in L2_BUDGETS
    }
    return figures | ({"median l2 of successes": float(np.median(norms))} if len(norms) else {})


def average(scores: Sequence[Score], lower_is_better: Sequence[bool], image_sets: Sequence[Hashable]) -> Score:
    """Mean of several suites' scores, with 100 - score where lower is better (protocol: 100 - mCE).

    Interval after Zou & Donner: deviations from independent image sets add in quadrature. Suites with equal
    `image_sets` share their images, so that their errors go together; their deviations add linearly, which is the
    worst case. The interval is thus never too narrow for what it covers: the drawing of images.
    """
    if not scores:
        raise DataError("average: no scores were given")
    values, below, above = [], dict.fromkeys(image_sets, 0.0), dict.fromkeys(image_sets, 0.0)
    for score, inverted, images in zip(scores, lower_is_better, image_sets, strict=True):
        down, up = score.value - score.low, score.high - score.value
        values.append(100 - score.value if inverted else score.value)
        below[images] += up if inverted else down
        above[images] += down if inverted else up
    value = sum(values) / len(values)
    return Score(
        value,
        value - math.hypot(*below.values()) / len(values),
        value + math.hypot(*above.values()) / len(values),
        sum(score.n for score in scores),
    )
