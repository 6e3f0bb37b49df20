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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nsbench.statistics import holm, mcnemar_of_counts, paired_pvalues

AVERAGE = "average"  # stands for a suite's name where the average is meant
ALPHA = 0.05
MCNEMAR, SEEDS, BOOTSTRAP, UNPAIRED = "McNemar, exact", "paired, over seeds", "paired bootstrap", "unpaired"
TRAININGS = "images and trainings"
Z95 = 1.959963984540054
LISTED = 1 << 23  # pairs of counts that are listed whether they occur or not


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of k rows, as the upper triangle of a (k, k) table."""

    rows: tuple[int, ...]  # positions of the k rows in Table.rows
    p: np.ndarray  # (k * (k - 1) / 2,) two-sided p values
    adjusted: np.ndarray  # the same after Holm over the table

    def at(self, row: int, other: int) -> tuple[float, float]:
        """(p, adjusted p) of two rows, by their positions in Table.rows."""
        i, j = sorted((self.rows.index(row), self.rows.index(other)))
        if i == j:
            return 1.0, 1.0
        place = i * len(self.rows) - i * (i + 1) // 2 + j - i - 1
        return float(self.p[place]), float(self.adjusted[place])

    def separable(self) -> np.ndarray:
        """(k, k) bool."""
        k = len(self.rows)
        apart = np.zeros((k, k), dtype=bool)
        apart[np.triu_indices(k, 1)] = self.adjusted <= ALPHA
        return apart | apart.T


def upper(square: np.ndarray) -> np.ndarray:
    return square[np.triu_indices(len(square), 1)]


def column_pvalues(
    values: Sequence[float], intervals: Sequence[tuple[float, float]], paired: np.ndarray | None, where: Sequence[int]
) -> np.ndarray:
    """Upper triangle for k rows: by `paired`, a square over the rows `where`, and by their intervals elsewhere."""
    k = len(values)
    p = np.ones((k, k)) if len(where) == k else interval_pvalues(values, intervals)
    if paired is not None and len(where):
        p[np.ix_(where, where)] = paired
    return upper(p)


def interval_pvalues(values: Sequence[float], intervals: Sequence[tuple[float, float]]) -> np.ndarray:
    """(k, k) p values from 95 % intervals alone, as if drawn apart."""
    from scipy.special import ndtr

    value = np.asarray(values)
    error = np.array([(high - low) / (2 * Z95) for low, high in intervals])
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
    share = values_MN.astype(np.float64) / 100
    both = share @ share.T
    own = np.diag(both)
    if single.all():
        return _mcnemar(own[:, None] - both, own[None, :] - both)
    p = _sign_flip(share.sum(axis=1), own[:, None] + own[None, :] - 2 * both)
    if single.any():
        where = np.flatnonzero(single)
        one = both[np.ix_(where, where)]
        mine = np.diag(one)
        p[np.ix_(where, where)] = _mcnemar(mine[:, None] - one, mine[None, :] - one)
    return p


def _mcnemar(only_a: np.ndarray, only_b: np.ndarray) -> np.ndarray:
    """Over counts that repeat a lot among many pairs: each is worked out once."""
    a, b = np.rint(only_a).astype(np.int64), np.rint(only_b).astype(np.int64)
    least, all_ = np.minimum(a, b), a + b
    most = int(all_.max()) + 1
    code = least * most + all_
    if most * most > LISTED:
        keys, inverse = np.unique(code, return_inverse=True)
    else:  # many times as fast
        there = np.zeros(most * most, dtype=bool)
        there[code] = True
        keys, inverse = np.flatnonzero(there), (np.cumsum(there) - 1)[code]
    fewer, total = np.divmod(keys, most)
    return mcnemar_of_counts(fewer, total - fewer)[inverse].reshape(a.shape)


def _sign_flip(sums_M: np.ndarray, squares_MM: np.ndarray) -> np.ndarray:
    """p values from sums of d and of d^2 over images, |d| <= 1, no smaller than so few images can give."""
    from scipy.special import ndtr

    difference = np.abs(sums_M[:, None] - sums_M[None, :])
    none = difference < 1e-6
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(none, 0.0, difference / np.sqrt(np.maximum(squares_MM, 0)))
    return np.where(none, 1.0, np.clip(2 * ndtr(-z), 2.0 ** (1 - np.maximum(squares_MM, 0)), 1.0))


def corrected(columns: dict[str, tuple[tuple[int, ...], np.ndarray]]) -> dict[str, Pairs]:
    """Pairs of each column, adjusted over all of them; `columns`: rows and upper triangle.

    It is emptied on the way, as the pairs of a thousand rows are millions.
    """
    if not columns:
        return {}
    rows = {suite: mine for suite, (mine, _) in columns.items()}
    ends = np.cumsum([len(p) for _, p in columns.values()])
    every = np.empty(ends[-1])
    for end in ends:
        _, p = columns.pop(next(iter(columns)))
        every[end - len(p) : end] = p
    adjusted = holm(every)
    parts = zip(np.split(every, ends[:-1]), np.split(adjusted, ends[:-1]), strict=True)
    return {suite: Pairs(mine, *part) for (suite, mine), part in zip(rows.items(), parts, strict=True)}
