"""Paired comparisons against statsmodels, hand computation and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbench.errors import DataError
from nsbench.statistics import (
    Holm,
    difference_interval,
    holm,
    hommel,
    mcnemar_exact,
    mcnemar_of_counts,
    paired_difference,
)


def flags(both, only_a, only_b, neither):
    """Flags of right images for a and b with these counts."""
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any))
def test_mcnemar_agrees_with_statsmodels(counts):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    both, only_a, only_b, neither = counts
    if only_a + only_b == 0:
        assert mcnemar_exact(*flags(*counts)) == 1
        return
    expected = tables.mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
    assert mcnemar_exact(*flags(*counts)) == pytest.approx(min(1, expected), rel=1e-9)


def test_mcnemar_by_hand():
    # 1 and 7 discordant images: 2 * (C(8,0) + C(8,1)) / 2^8
    assert mcnemar_exact(*flags(1, 1, 7, 12)) == pytest.approx(18 / 256)
    assert mcnemar_of_counts([[1, 7], [0, 0]], [[7, 1], [0, 6]]) == pytest.approx(
        np.array([[18 / 256, 18 / 256], [1, 2 / 64]])
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_agrees_with_statsmodels(pvalues):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    np.testing.assert_allclose(holm(pvalues), multitest.multipletests(pvalues, method="holm")[1], rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0, 1e-4, 0.001, 0.004, 0.01, 0.01, 0.03, 0.5, 1]), min_size=1, max_size=40))
def test_one_family_in_parts_claims_what_the_adjusted_values_do(pvalues):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    parts = [np.array(pvalues[:3]), np.array(pvalues[3:])]
    family, expected = Holm.of(parts), multitest.multipletests(pvalues, method="holm")[1]
    np.testing.assert_allclose(np.concatenate([family.adjusted(part) for part in parts]), expected, rtol=1e-12)
    for alpha in (0.05, 0.01, 1e-9):
        claimed = np.concatenate([family.claimed(part, alpha) for part in parts])
        assert claimed.tolist() == (holm(pvalues) <= alpha).tolist()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_hommel_agrees_with_statsmodels_and_claims_no_less_than_holm(pvalues):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    np.testing.assert_allclose(hommel(pvalues), multitest.multipletests(pvalues, method="hommel")[1], rtol=1e-9)
    assert (hommel(pvalues) <= holm(pvalues) + 1e-12).all()


def test_hommel_of_one_and_of_nothing():
    assert hommel([0.2]).tolist() == [0.2]
    assert hommel([]).size == 0
    for wrong in ([1.1], [-0.1], [[0.1]]):
        with pytest.raises(DataError, match="between 0 and 1"):
            hommel(wrong)


def test_holm_by_hand_and_of_nothing():
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])
    assert holm([]).size == 0
    for wrong in ([0.1, np.nan], [1.2], [-0.1], [[0.1]]):
        with pytest.raises(DataError, match="p values"):
            holm(wrong)


def test_paired_difference_by_hand():
    # 2/23 against 8/23 after one more image each: -6/23 -+ 1.96 sqrt((10/23 - (6/23)^2) / 23)
    difference, low, high = paired_difference(*flags(1, 1, 7, 12))
    assert difference == pytest.approx(-6 / 21)
    assert (round(low, 3), round(high, 3)) == (-0.508, -0.013)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any))
def test_paired_difference_is_antisymmetric_and_inside_its_interval(counts):
    a, b = flags(*counts)
    difference, low, high = paired_difference(a, b)
    assert paired_difference(b, a) == pytest.approx((-difference, -high, -low))
    assert difference == pytest.approx(a.mean() - b.mean())
    assert -1 <= low < high <= 1


def test_pairing_narrows_the_interval():
    same = paired_difference(*flags(700, 10, 10, 280))
    independent = paired_difference(*flags(504, 206, 206, 84))
    assert same[2] - same[1] < (independent[2] - independent[1]) / 4


def test_paired_difference_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(500, [0.6, 0.1, 0.07, 0.23], 4000)
    low, high = difference_interval(counts[:, 1], counts[:, 2], 500)
    assert 0.94 <= np.mean((low <= 0.03) & (high >= 0.03)) <= 0.965


def test_mcnemar_claims_no_difference_more_often_than_it_says():
    rng = np.random.default_rng(1)
    counts = rng.multinomial(300, [0.6, 0.1, 0.1, 0.2], 4000)
    assert np.mean(mcnemar_of_counts(counts[:, 1], counts[:, 2]) <= 0.05) <= 0.05


def test_different_images_are_refused():
    for a, b in (([True], [True, False]), ([], []), ([[True]], [[True]])):
        with pytest.raises(DataError, match="same images"):
            mcnemar_exact(a, b)
        with pytest.raises(DataError, match="same images"):
            paired_difference(a, b)
