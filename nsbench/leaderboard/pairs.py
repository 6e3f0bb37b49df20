"""Every pair of a column's rows: tests on the same images, corrected over the whole table.

Where both rows have several seeds, or one of them was not trained at all: the test over images and trainings (see
`statistics.trainings`), which speaks of methods. Elsewhere tests are over images and speak of these weights: exact
McNemar for the accuracy of one seed; for an accuracy of several seeds the sign-flip test of the images' mean differences
in its normal form (V. Durkalski et al. 2003, Statistics in Medicine 22:2417-2428); for mCE and the average the paired
bootstrap's standard error. Rows without per-image outcomes: the two intervals as if the images were different ones,
which is on the careful side. Holm's correction is over all pairs in all columns of a table, so that at most one table
in twenty holds any false claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nsbench.statistics import Holm, mcnemar_of_counts, no_smaller_than_signs, paired_pvalues

AVERAGE = "average"  # stands for a suite's name where the average is meant
ALPHA = 0.05
MCNEMAR, SEEDS, BOOTSTRAP, UNPAIRED = "McNemar, exact", "paired, over seeds", "paired bootstrap", "unpaired"
TRAININGS = "images and trainings"
Z95 = 1.959963984540054
EXACT = 1 << 24  # whole numbers below it are exact in single precision
LISTED = 1 << 23  # pairs of counts that are listed whether they occur or not


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of k rows, as the upper triangle of a (k, k) table."""

    rows: tuple[int, ...]  # positions of the k rows in Table.rows
    p: np.ndarray  # (k * (k - 1) / 2,) two-sided p values
    family: Holm  # over the table

    @property
    def adjusted(self) -> np.ndarray:
        """`p` after Holm over the table."""
        return self.family.adjusted(self.p)

    def at(self, row: int, other: int) -> tuple[float, float]:
        """(p, adjusted p) of two rows, by their positions in Table.rows."""
        i, j = sorted((self._places[row], self._places[other]))
        if i == j:
            return 1.0, 1.0
        p = self.p[i * len(self.rows) - i * (i + 1) // 2 + j - i - 1]
        return float(p), float(self.family.adjusted(p))

    def separable(self) -> np.ndarray:
        """(k, k) bool."""
        k = len(self.rows)
        apart = np.zeros((k, k), dtype=bool)
        apart[above(k)] = self.family.claimed(self.p, ALPHA)
        return apart | apart.T

    @cached_property
    def _places(self) -> dict[int, int]:
        return {row: place for place, row in enumerate(self.rows)}


def above(k: int) -> np.ndarray:
    """(k, k) bool, true above the diagonal, whose places are in the order of `Pairs`."""
    return ~np.tri(k, dtype=bool)


def upper(square: np.ndarray) -> np.ndarray:
    mine: np.ndarray = square[above(len(square))]
    return mine


def column_pvalues(
    values: Sequence[float], intervals: Sequence[tuple[float, float]], paired: np.ndarray | None, where: Sequence[int]
) -> np.ndarray:
    """Upper triangle for k rows: by `paired`, a square over the rows `where`, and by their intervals elsewhere."""
    if len(where) == len(values):
        return upper(np.ones((1, 1)) if paired is None else paired)
    p = interval_pvalues(values, intervals)
    if paired is not None and len(where):
        p[np.ix_(where, where)] = paired
    return upper(p)


def interval_pvalues(values: Sequence[float], intervals: Sequence[tuple[float, float]]) -> np.ndarray:
    """(k, k) p values from 95 % intervals alone, as if drawn apart."""
    from scipy.special import ndtr

    value = np.asarray(values)
    error = np.array([(high - low) / (2 * Z95) for low, high in intervals])
    error[error <= 0] = np.inf  # an interval without width says nothing of the error
    difference = np.abs(value[:, None] - value[None, :])
    joint = np.hypot(error[:, None], error[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / joint)
    p: np.ndarray = np.minimum(1.0, 2 * ndtr(-z))
    return p


def suite_pvalues(values_MN: np.ndarray, single: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """(M, M) p values of rows x images in percent; `single`, `accuracy`: (M,) bool, as in SuiteEvidence."""
    if not accuracy.all():
        return paired_pvalues([values_MN / values_MN.shape[1]])
    if single.all() and values_MN.shape[1] < EXACT:
        right = (values_MN > 50).astype(np.float32)
        return _mcnemar((right @ right.T).astype(np.int32))
    share = values_MN.astype(np.float64) / 100
    both = share @ share.T
    own = np.diag(both)
    p = _sign_flip(share, own[:, None] + own[None, :] - 2 * both)
    if single.any():
        where = np.ix_(np.flatnonzero(single), np.flatnonzero(single))
        p[where] = _mcnemar(np.rint(both[where]).astype(np.int32))
    return p


def _mcnemar(both: np.ndarray) -> np.ndarray:
    """(M, M) from how many images each two rows have right together; counts that repeat a lot among many pairs are each
    worked out once."""
    own = np.diag(both)
    fewer = np.minimum.outer(own, own) - both  # images that only one of the two has right, of the two the fewer
    apart = np.add.outer(own, own) - 2 * both
    most = int(apart.max()) + 1
    if most * most > LISTED:
        keys, inverse = np.unique(fewer.astype(np.int64) * most + apart, return_inverse=True)
    else:  # many times as fast
        code = fewer * most + apart
        there = np.zeros(most * most, dtype=bool)
        there[code] = True
        keys, inverse = np.flatnonzero(there), (np.cumsum(there, dtype=np.int32) - 1)[code]
    only, total = np.divmod(keys, most)
    return mcnemar_of_counts(only, total - only)[inverse].reshape(both.shape)


def _sign_flip(share_MN: np.ndarray, squares_MM: np.ndarray) -> np.ndarray:
    """p values from rows x images and the sums of squared differences, no smaller than so few images can give."""
    from scipy.special import ndtr

    sums_M, squares_MM = share_MN.sum(axis=1), np.maximum(squares_MM, 0)
    difference = np.abs(sums_M[:, None] - sums_M[None, :])
    none = difference < 1e-6
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(none, 0.0, difference / np.sqrt(squares_MM))
    p = np.where(none, 1.0, 2 * ndtr(-z))
    # |d| <= 1, so at least as many images differ as the squares sum up to: where that allows p, they are not counted
    return no_smaller_than_signs(p, [share_MN], np.floor(squares_MM))


def corrected(columns: Mapping[str, tuple[tuple[int, ...], np.ndarray]]) -> dict[str, Pairs]:
    """Pairs of each column, adjusted over all of them; `columns`: rows and upper triangle."""
    family = Holm.of([p for _, p in columns.values()])
    return {suite: Pairs(rows, p, family) for suite, (rows, p) in columns.items()}
