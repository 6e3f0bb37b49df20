"""Two methods on the same images: exact McNemar, the interval of the difference, Holm's correction.

McNemar's exact test (Q. McNemar 1947, Psychometrika 12:153-157) is the two-sided binomial test of the discordant
images. The interval of the difference is Wald's with the Laplace adjustment of Bonett & Price (2012, J. Educational
and Behavioral Statistics 37:479-488), which keeps its coverage where few images are discordant and, unlike a
bootstrap, is not empty where none is. Holm's step-down correction (1979, Scand. J. Statistics 6:65-70) bounds the
chance of any false claim in a family of tests, whatever their dependence; Hommel's (1988, Biometrika 75:383-386) claims
more where the tests are independent or positively dependent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nsbench.errors import DataError

BLOCK = 1 << 16  # p values that are multiplied at a time


def mcnemar_exact(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """Two-sided p value of "a and b are equally often right"; flags of the same n images in one order. 1 if they agree.

    Raises DataError unless both hold the same number of images, at least one.
    """
    only_a, only_b, _ = discordant(correct_a, correct_b)
    return float(mcnemar_of_counts(only_a, only_b))


def mcnemar_of_counts(only_a: ArrayLike, only_b: ArrayLike) -> np.ndarray:
    """The same from the numbers of discordant images, for arrays of any one shape."""
    from scipy.special import bdtr

    a, b = np.asarray(only_a, dtype=np.int64), np.asarray(only_b, dtype=np.int64)
    pvalues: np.ndarray = np.minimum(1.0, 2 * bdtr(np.minimum(a, b).astype(float), a + b, 0.5))
    return pvalues


def paired_difference(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """(difference, low, high) of the accuracies, a - b, as fractions of 1; flags of the same n images in one order.

    The interval lies around (only_a - only_b) / (n + 2), Bonett & Price's estimate; the difference is the plain one.
    Raises DataError unless both hold the same number of images, at least one.
    """
    only_a, only_b, n = discordant(correct_a, correct_b)
    low, high = difference_interval(only_a, only_b, n, confidence)
    return (only_a - only_b) / n, float(low), float(high)


def difference_interval(
    only_a: ArrayLike,
    only_b: ArrayLike,
    n: ArrayLike,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Bonett & Price's interval from counts, for arrays of any one shape; fractions of 1, inside [-1, 1]."""
    from scipy.special import ndtri

    size = np.asarray(n) + 2.0
    p, q = (np.asarray(only_a) + 1) / size, (np.asarray(only_b) + 1) / size
    half = ndtri(0.5 + confidence / 2) * np.sqrt(np.maximum(p + q - (p - q) ** 2, 0) / size)
    return np.maximum(p - q - half, -1.0), np.minimum(p - q + half, 1.0)


def discordant(correct_a: ArrayLike, correct_b: ArrayLike) -> tuple[int, int, int]:
    """Images that only a has right, images that only b has right, and all images."""
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise DataError(
            f"a paired comparison needs the same images, at least one, in both; got {a.shape} and {b.shape}"
        )
    return int((a & ~b).sum()), int((b & ~a).sum()), a.size


def holm(pvalues: ArrayLike) -> np.ndarray:
    """Adjusted p values of one family of tests, in the order given. Raises DataError for what is no p value."""
    p = np.asarray(pvalues, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise DataError("holm: needs a list of p values between 0 and 1")
    order = np.argsort(p)  # the order among equal values moves nothing
    if p.size <= np.iinfo(np.int32).max:
        order = order.astype(np.int32)
    stepped = p[order]  # in place from here on: the pairs of a thousand rows are millions
    for start in range(0, p.size, BLOCK):
        part = stepped[start : start + BLOCK]
        part *= np.arange(p.size - start, p.size - start - len(part), -1)
    np.maximum.accumulate(stepped, out=stepped)
    np.minimum(stepped, 1.0, out=stepped)
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    return adjusted


def hommel(pvalues: ArrayLike) -> np.ndarray:
    """Adjusted p values by closed testing with Simes' tests, in the order given. Raises DataError as `holm` does."""
    p = np.asarray(pvalues, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise DataError("hommel: needs a list of p values between 0 and 1")
    order = np.argsort(p)
    ascending, total = p[order], p.size
    adjusted = ascending.copy()
    for size in range(total, 1, -1):  # sets of so many hypotheses; the hardest hold the largest p values
        first = total - size + 1  # p values that every hypothesis before this place meets with the last ones only
        least = float((size * ascending[first:] / np.arange(2, size + 1)).min())
        adjusted[first:] = np.maximum(adjusted[first:], least)
        adjusted[:first] = np.maximum(adjusted[:first], np.minimum(least, size * ascending[:first]))
    found = np.empty_like(p)
    found[order] = np.minimum(adjusted, 1.0)
    return found
