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

    methods, suites = np.shape(scores)
    if methods < 3 or suites < 2:
        raise DataError(f"ranks over suites need at least 3 methods and 2 suites; got {methods} and {suites}")
    columns = [_ranks(column) for column in -np.asarray(scores, dtype=np.float64).T]
    average = np.stack([ranks for ranks, _ in columns], axis=1).mean(axis=1)
    ties = sum(float((count**3 - count).sum()) for _, count in columns)
    correction = 1 - ties / (suites * methods * (methods**2 - 1))
    if correction <= 0:  # every suite ties all methods
        return average, 1.0
    spread = 12 * suites / (methods * (methods + 1)) * float(((average - (methods + 1) / 2) ** 2).sum())
    return average, float(chdtrc(methods - 1, spread / correction))


def _ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks from 1, the smallest first, ties by their mean; and how many values share each rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place], count


def nemenyi_difference(methods: int, suites: int, alpha: float = 0.05) -> float:
    """Critical difference of average ranks: two methods further apart differ (Demsar 2006, section 3.2.2)."""
    return range_quantile(1 - alpha, methods) / 2**0.5 * float(np.sqrt(methods * (methods + 1) / (6 * suites)))


def range_quantile(share: float, k: int) -> float:
    """The quantile of the range of k standard normal values: the studentized range with infinite degrees of freedom.

    P(range <= q) = k times the integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1) over the largest value z (H. A. David &
    H. N. Nagaraja 2003, Order Statistics, section 2.3), by the trapezoidal rule, which is exact to rounding for it.
    scipy.stats has it too; what it imports takes longer than all other ranks of a board.
    """
    from scipy.special import ndtr

    z, step = np.linspace(-12, 12, 4801, retstep=True)
    density, below = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), ndtr(z)
    low, high = 0.0, 24.0
    while high - low > 1e-12:
        q = (low + high) / 2
        reached = k * step * float((density * (below - ndtr(z - q)) ** (k - 1)).sum())
        low, high = (q, high) if reached < share else (low, q)
    return (low + high) / 2


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
