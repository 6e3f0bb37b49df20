"""Rank ranges by hand; Friedman against scipy; Nemenyi against the published table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare, studentized_range

from nsbench.errors import DataError
from nsbench.statistics import cliques, friedman, nemenyi_difference, rank_ranges, separable_neighbours
from nsbench.statistics.ranks import range_quantile


def symmetric(k, *pairs):
    found = np.zeros((k, k), dtype=bool)
    for i, j in pairs:
        found[i, j] = found[j, i] = True
    return found


def test_rank_ranges_by_hand():
    separable = symmetric(3, (0, 1), (0, 2))  # the first is ahead of both others, which cannot be told apart
    assert rank_ranges([80, 50, 51], separable) == [(1, 1), (2, 3), (2, 3)]
    assert rank_ranges([80, 50, 51], symmetric(3)) == [(1, 3)] * 3
    assert rank_ranges([50], symmetric(1)) == [(1, 1)]


def test_adjacent_places_by_hand():
    assert separable_neighbours([80, 50, 51], symmetric(3, (0, 1), (0, 2))) == (1, 2)  # 80 > 51 > 50
    assert separable_neighbours([80, 50, 51], symmetric(3, (0, 1))) == (0, 2)
    assert separable_neighbours([1], symmetric(1)) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.randoms())
def test_ranges_hold_the_plain_rank_and_do_not_depend_on_order(values, random):
    k = len(values)
    pairs = [(i, j) for i in range(k) for j in range(i) if values[i] != values[j] and random.random() < 0.5]
    ranges = rank_ranges(values, symmetric(k, *pairs))
    for (first, last), value in zip(ranges, values, strict=True):
        ahead, behind = sum(other > value for other in values), sum(other < value for other in values)
        assert 1 <= first <= 1 + ahead <= k - behind <= last <= k


@settings(deadline=None)
@given(st.integers(3, 6), st.integers(2, 8), st.integers(0, 10_000))
def test_friedman_agrees_with_scipy(methods, suites, seed):
    scores = np.random.default_rng(seed).integers(0, 5, (methods, suites))
    average, p = friedman(scores)
    assert average.sum() == pytest.approx(methods * (methods + 1) / 2)
    if (scores == scores[0]).all():
        assert p == 1
    else:
        assert p == pytest.approx(friedmanchisquare(*scores).pvalue, abs=1e-12)


def test_friedman_needs_three_methods_and_two_suites():
    for shape in ((2, 5), (3, 1)):
        with pytest.raises(DataError, match="at least 3 methods and 2 suites"):
            friedman(np.zeros(shape))


def test_nemenyi_is_that_of_the_literature():
    # Demsar 2006, table 5(a): q = 2.569 for four classifiers; section 3.2.2's example has 14 data sets: CD = 1.25
    assert nemenyi_difference(4, 14) == pytest.approx(1.25, abs=0.005)


@pytest.mark.parametrize("k", [2, 3, 12, 1000])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_the_quantile_of_the_range_is_scipys(k, share):
    assert range_quantile(share, k) == pytest.approx(studentized_range.ppf(share, k, np.inf), abs=1e-9)


def test_cliques_are_the_longest_runs():
    assert cliques([1.0, 2.0, 2.5, 4.0], 1.5) == [(0, 1, 2), (2, 3)]
    assert cliques([3.0, 1.0], 0.5) == []
    assert cliques([1.0, 1.2, 1.4], 5) == [(0, 1, 2)]
