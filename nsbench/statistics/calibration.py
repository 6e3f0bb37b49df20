"""Figures from the kept probabilities: top-5 accuracy, calibration, selective accuracy. All of one condition's images.

Calibration error is the expected calibration error over 15 bins of equal mass (K. Nguyen & B. O'Connor 2015, EMNLP;
M. P. Naeini et al. 2015, AAAI): images in order of their confidence, in 15 runs of as equal size as can be, the mean
over images of |accuracy - mean confidence| of their run. Selective accuracy is the accuracy on the most confident
images (R. El-Yaniv & Y. Wiener 2010, JMLR 11:1605-1641), ties in confidence by the mean over their orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nsbench.types import Outcomes

BINS = 15
COVERAGE = 0.8  # share of images that selective accuracy is over
TOP5, CALIBRATION, SELECTIVE = "top-5 accuracy", "calibration error", "accuracy on the most confident 80 %"


def figures(outcomes: Outcomes) -> dict[str, float]:
    """TOP5, CALIBRATION and SELECTIVE in percent, of what the outcomes hold; results of old versions hold none."""
    found: dict[str, float] = {}
    if outcomes.top5 is not None and outcomes.top5.shape[1] >= 5:
        among_them = (outcomes.top5 == outcomes.labels[:, None]).any(axis=1)
        found[TOP5] = 100 * (np.count_nonzero(among_them) / len(among_them))
    if outcomes.confidence is not None:
        ordered = _by_confidence(outcomes.confidence, outcomes.correct)
        found[CALIBRATION] = 100 * _calibration_error(*ordered, BINS)
        found[SELECTIVE] = 100 * _selective_accuracy(ordered[1], COVERAGE)
    return found


def calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]. Equal confidences share their mean accuracy, so that order is no matter."""
    return _calibration_error(*_by_confidence(confidence_N, correct_N), bins)


def selective_accuracy(confidence_N: np.ndarray, correct_N: np.ndarray, coverage: float = COVERAGE) -> float:
    """Accuracy in [0, 1] on the `coverage` share of images (at least one) with the largest confidence."""
    return _selective_accuracy(_by_confidence(confidence_N, correct_N)[1], coverage)


@dataclass(frozen=True)
class Bin:
    """Images of nearly the same confidence: means over them, in [0, 1]."""

    confidence: float
    accuracy: float
    n: int


def reliability(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = 10) -> list[Bin]:
    """Accuracy over confidence: bins of equal width on [0, 1], each with its upper end; empty ones are left out."""
    places = np.clip(np.ceil(np.round(confidence_N.astype(np.float64) * bins, 6)).astype(np.int64) - 1, 0, bins - 1)
    members = [places == place for place in range(bins)]
    return [
        Bin(float(confidence_N[mine].astype(np.float64).mean()), float(correct_N[mine].mean()), int(mine.sum()))
        for mine in members
        if mine.any()
    ]


def _calibration_error(sorted_N: np.ndarray, share_N: np.ndarray, bins: int) -> float:
    """Runs of as equal size as can be: the first ones are longer by one image."""
    n = len(sorted_N)
    size, longer = divmod(n, min(bins, n))
    starts = size * np.arange(min(bins, n)) + np.minimum(np.arange(min(bins, n)), longer)
    return float(np.abs(np.add.reduceat(share_N - sorted_N, starts)).sum() / n)


def _selective_accuracy(share_N: np.ndarray, coverage: float) -> float:
    return float(share_N[-max(1, round(coverage * len(share_N))) :].mean())


def _by_confidence(confidence_N: np.ndarray, correct_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidences in rising order, and of each image the share of right ones among those of its confidence."""
    order = np.argsort(confidence_N)  # the order among equal ones is no matter
    ordered = confidence_N[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(starts, len(ordered)))
    return ordered, np.repeat(np.add.reduceat(correct_N[order].astype(np.float64), starts) / counts, counts)
