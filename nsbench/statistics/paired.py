"""Two methods on the same images: exact McNemar, the interval of the difference, Holm's correction.

McNemar's exact test (Q. McNemar 1947, Psychometrika 12:153-157) is the two-sided binomial test of the discordant
images. The interval of the difference is Wald's with the Laplace adjustment of Bonett & Price (2012, J. Educational
and Behavioral Statistics 37:479-488), which keeps its coverage where few images are discordant and, unlike a
bootstrap, is not empty where none is. Holm's step-down correction (1979, Scand. J. Statistics 6:65-70) bounds the
chance of any false claim in a family of tests, whatever their dependence; Hommel's (1988, Biometrika 75:383-386) claims
more where the tests are independent or positively dependent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nsbench.errors import DataError


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


@dataclass(frozen=True, eq=False)
class Holm:
    """The correction of one family of tests, as the function of p that it is: equal p values have equal adjusted ones.

    The pairs of a thousand rows are millions, and their different p values are far fewer.
    """

    steps: np.ndarray  # (s,) the different p values, ascending
    corrected: np.ndarray  # (s,) the adjusted p value of each

    @classmethod
    def of(cls, families: Sequence[np.ndarray]) -> Holm:
        """Of all these p values, flat arrays, as one family. Raises DataError for what is no p value."""
        ascending = np.concatenate([np.empty(0), *families]) if all(p.ndim == 1 for p in families) else np.full(1, -1.0)
        ascending.sort()
        if ascending.size and not (ascending[0] >= 0 and ascending[-1] <= 1):  # nan is last
            raise DataError("holm: needs a list of p values between 0 and 1")
        first = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]])[: ascending.size])
        steps = ascending[first]
        stepped = steps * (ascending.size - first)
        return cls(steps, np.minimum(np.maximum.accumulate(stepped, out=stepped), 1.0, out=stepped))

    def adjusted(self, pvalues: ArrayLike) -> np.ndarray:
        """Of p values of the family."""
        found: np.ndarray = self.corrected[np.searchsorted(self.steps, pvalues)]
        return found

    def claimed(self, pvalues: np.ndarray, alpha: float) -> np.ndarray:
        """Whether the adjusted p value of each p value of the family is at most alpha."""
        claims = int(np.searchsorted(self.corrected, alpha, side="right"))
        claimed: np.ndarray = pvalues <= (self.steps[claims - 1] if claims else -1.0)
        return claimed


def holm(pvalues: ArrayLike) -> np.ndarray:
    """Adjusted p values of one family of tests, in the order given. Raises DataError for what is no p value."""
    p = np.asarray(pvalues, dtype=np.float64)
    return Holm.of([p]).adjusted(p)


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
