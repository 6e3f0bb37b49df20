"""Ranks that say only what the data support: ranges from pairwise tests, and ranks over suites.

A rank range holds every place that the separable pairs allow, as the chatbot arenas show ranks (Chiang et al. 2024,
arXiv 2403.04132, section 5). Over suites: Friedman's test and Nemenyi's critical difference (J. Demsar 2006, JMLR
7:1-30).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nsbench.errors import DataError


def rank_ranges(values: Sequence[float] | np.ndarray, separable: np.ndarray) -> list[tuple[int, int]]:
    """(best, worst place) of each of k values, higher is better; `separable`: (k, k) bool, symmetric."""
    value = np.asarray(values, dtype=np.float64)
    better = (value[None, :] > value[:, None]) & separable  # [i, j]: j is better than i for sure
    worse = (value[None, :] < value[:, None]) & separable
    return [(1 + int(b), len(value) - int(w)) for b, w in zip(better.sum(axis=1), worse.sum(axis=1), strict=True)]


def separable_neighbours(values: Sequence[float] | np.ndarray, separable: np.ndarray) -> tuple[int, int]:
    """(separable, all) pairs of adjacent places in the order of the values."""
    order = np.argsort(-np.asarray(values, dtype=np.float64), kind="stable")
    return int(separable[order[:-1], order[1:]].sum()), max(len(order) - 1, 0)


def friedman(scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Average ranks (1 is best; ties share) of k methods over N suites and Friedman's p value; scores (k, N).

    Higher is better. Raises DataError for fewer than three methods or two suites, for which the test does not exist.
    """
    from scipy.special import chdtrc
    from scipy.stats import rankdata

    methods, suites = np.shape(scores)
    if methods < 3 or suites < 2:
        raise DataError(f"ranks over suites need at least 3 methods and 2 suites; got {methods} and {suites}")
    ranks = rankdata(-np.asarray(scores, dtype=np.float64), axis=0)
    average = ranks.mean(axis=1)
    ties = sum(
        float((count**3 - count).sum()) for count in (np.unique(column, return_counts=True)[1] for column in ranks.T)
    )
    correction = 1 - ties / (suites * methods * (methods**2 - 1))
    if correction <= 0:  # every suite ties all methods
        return average, 1.0
    spread = 12 * suites / (methods * (methods + 1)) * float(((average - (methods + 1) / 2) ** 2).sum())
    return average, float(chdtrc(methods - 1, spread / correction))


def nemenyi_difference(methods: int, suites: int, alpha: float = 0.05) -> float:
    """Critical difference of average ranks: two methods further apart differ (Demsar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, methods, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * suites)))


def cliques(average_ranks: Sequence[float] | np.ndarray, difference: float) -> list[tuple[int, ...]]:
    """Longest runs, in rank order, of two or more methods that the critical difference does not tell apart."""
    order = np.argsort(np.asarray(average_ranks), kind="stable")
    ordered = np.asarray(average_ranks)[order]
    runs: list[tuple[int, ...]] = []
    last = -1
    for start in range(len(order)):
        end = int(np.searchsorted(ordered, ordered[start] + difference, side="right")) - 1
        if end > start and end > last:
            runs.append(tuple(order[start : end + 1].tolist()))
        last = max(last, end)
    return runs
