"""Figures from the kept probabilities: top-5 accuracy, calibration, selective accuracy. All of one condition's images.

Calibration error is the expected calibration error over 15 bins of equal mass (K. Nguyen & B. O'Connor 2015, EMNLP;
M. P. Naeini et al. 2015, AAAI): images in order of their confidence, in 15 runs of as equal size as can be, the mean
over images of |accuracy - mean confidence| of their run. Selective accuracy is the accuracy on the most confident
images (R. El-Yaniv & Y. Wiener 2010, JMLR 11:1605-1641), ties in confidence by the mean over their orders.
"""

from __future__ import annotations

import numpy as np

from nsbench.types import Outcomes

BINS = 15
COVERAGE = 0.8  # share of images that selective accuracy is over
TOP5, CALIBRATION, SELECTIVE = "top-5 accuracy", "calibration error", "accuracy on the most confident 80 %"


def figures(outcomes: Outcomes) -> dict[str, float]:
    """TOP5, CALIBRATION and SELECTIVE in percent, of what the outcomes hold; results of old versions hold none."""
    found: dict[str, float] = {}
    if outcomes.top5 is not None and outcomes.top5.shape[1] >= 5:
        found[TOP5] = 100 * float((outcomes.top5 == outcomes.labels[:, None]).any(axis=1).mean())
    if outcomes.confidence is not None:
        found[CALIBRATION] = 100 * calibration_error(outcomes.confidence, outcomes.correct)
        found[SELECTIVE] = 100 * selective_accuracy(outcomes.confidence, outcomes.correct)
    return found


def calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]. Equal confidences share their mean accuracy, so that order is no matter."""
    order = np.argsort(confidence_N, kind="stable")
    confidence, correct = confidence_N[order].astype(np.float64), _shared(confidence_N[order], correct_N[order])
    runs = np.array_split(np.arange(len(order)), min(bins, len(order)))
    return float(sum(abs(correct[run].sum() - confidence[run].sum()) for run in runs) / len(order))


def selective_accuracy(confidence_N: np.ndarray, correct_N: np.ndarray, coverage: float = COVERAGE) -> float:
    """Accuracy in [0, 1] on the `coverage` share of images (at least one) with the largest confidence."""
    order = np.argsort(-confidence_N, kind="stable")
    correct = _shared(confidence_N[order], correct_N[order])
    return float(correct[: max(1, round(coverage * len(order)))].mean())


def _shared(sorted_N: np.ndarray, correct_N: np.ndarray) -> np.ndarray:
    """(n,) share of right ones among the images of equal confidence."""
    _, which, counts = np.unique(sorted_N, return_inverse=True, return_counts=True)
    return (np.bincount(which, weights=correct_N.astype(np.float64)) / counts)[which]
