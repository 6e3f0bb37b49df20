"""The bootstrap against closed forms and simulation: pairing, strata, coverage, false claims."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from nsbench.leaderboard.pairs import interval_pvalues, suite_pvalues
from nsbench.statistics import (
    bootstrap_mean,
    holm,
    mcnemar_of_counts,
    no_smaller_than_signs,
    paired_pvalues,
    percentile_interval,
    resampled_sums,
    wilson,
)
from nsbench.statistics import intervals as module
from nsbench.statistics.intervals import counts

DRAWS = 1000


def test_counts_are_those_of_n_draws():
    drawn = counts(np.random.default_rng(0), 7, 500)
    assert drawn.shape == (500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)


def test_sums_have_the_spread_of_the_closed_form_and_keep_pairing():
    rng = np.random.default_rng(1)
    shared = rng.normal(5, 1, 800)
    strata = [np.array([shared, shared + rng.normal(0, 0.1, 800)]) / 800, rng.normal(0, 2, (2, 50)) / 50]
    sums = resampled_sums(strata)
    assert sums.shape == (10_000, 2)
    assert sums.mean(axis=0) == pytest.approx(sum(y.sum(axis=1) for y in strata), abs=0.01)
    expected = np.sqrt(sum(y.var(axis=1) * y.shape[1] for y in strata))
    assert sums.std(axis=0) == pytest.approx(expected, rel=0.03)
    difference = np.sqrt(sum((y[0] - y[1]).var() * y.shape[1] for y in strata))
    assert (sums[:, 0] - sums[:, 1]).std() == pytest.approx(difference, rel=0.03)


def test_memory_chunks_and_row_order_move_nothing(monkeypatch):
    y = np.random.default_rng(2).random((3, 200))
    whole = resampled_sums([y], 500)
    np.testing.assert_allclose(resampled_sums([y[::-1]], 500)[:, ::-1], whole, rtol=1e-6)
    assert not np.array_equal(resampled_sums([y], 500, seed=1), whole)
    monkeypatch.setattr(module, "CELLS", 200 * 7)
    np.testing.assert_allclose(resampled_sums([y], 500), whole, rtol=1e-6)


def test_groups_of_images_have_the_spread_of_images(monkeypatch):
    monkeypatch.setattr(module, "UNITS", 1000)
    values = np.random.default_rng(3).normal(50, 10, 7777)
    low, high = bootstrap_mean(values)
    assert high - low == pytest.approx(2 * 1.96 * 10 / np.sqrt(7777), rel=0.08)
    assert low < values.mean() < high


def test_paired_pvalues_are_those_of_the_paired_t_test():
    stats = pytest.importorskip("scipy.stats")
    y = np.random.default_rng(4).normal(0, 1, (4, 60))
    p = paired_pvalues([y / 60])
    for i in range(4):
        for j in range(4):
            expected = 1.0 if i == j else stats.ttest_rel(y[i], y[j]).pvalue
            assert p[i, j] == pytest.approx(expected, rel=1e-6)


def test_methods_that_agree_everywhere_are_equal():
    y = np.random.default_rng(5).random((1, 30)) * 1e3
    assert (paired_pvalues([np.repeat(y, 3, axis=0)]) == 1).all()


# --- simulation: 1,000 data sets with a known truth -----------------------------------------------------------------


def images(rng, n, suites, strength=1.5):
    """(suites, n) right predictions that go together within an image, each with probability about 0.6."""
    difficulty = rng.normal(0, strength, n)
    return rng.random((suites, n)) < 1 / (1 + np.exp(difficulty - 0.5))


def truth(strength=1.5):
    difficulty = np.random.default_rng(99).normal(0, strength, 4_000_000)
    return float((1 / (1 + np.exp(difficulty - 0.5))).mean())


def covered(intervals, value):
    return float(np.mean([low <= value <= high for low, high in intervals]))


def test_coverage_of_accuracy():
    rng, p = np.random.default_rng(7), truth()
    intervals = [wilson(int(images(rng, 400, 1).sum()), 400) for _ in range(DRAWS)]
    assert 0.935 <= covered(intervals, p) <= 0.965


def test_coverage_of_a_mean_over_conditions_as_in_mce():
    """The interval of mCE is `bootstrap_mean` of one number per image, which sums up its 75 conditions."""
    rng, p = np.random.default_rng(8), truth()
    weights = np.linspace(0.5, 2, 75)[:, None] / 75
    intervals = [bootstrap_mean(((~images(rng, 300, 75)) * weights).sum(axis=0), resamples=2000) for _ in range(DRAWS)]
    assert 0.935 <= covered(intervals, (1 - p) * float(weights.sum())) <= 0.965


def test_coverage_of_the_average_over_suites_that_share_images():
    """Three suites on the same images, one of them on a subset, and a fourth on images of its own."""
    rng, p = np.random.default_rng(9), truth()
    intervals = []
    for _ in range(DRAWS):
        shared, own = images(rng, 300, 3).astype(float), images(rng, 200, 1).astype(float)
        whole, part = slice(0, 100), slice(100, 300)  # the third suite holds the first 100 images alone
        strata = [
            (shared[:2, whole].sum(0) / 300 + shared[2, whole] / 100)[None] / 4,
            shared[:2, part].sum(0)[None] / 300 / 4,
            own / 200 / 4,
        ]
        low, high = percentile_interval(resampled_sums(strata, 2000)[:, 0])
        intervals.append((low, high))
    assert 0.935 <= covered(intervals, p) <= 0.965


def three_seeds(rng, n, shift=0.0):
    """(3, n) right predictions of three trainings, which differ a little in which images they find hard."""
    difficulty = rng.normal(0, 1.5, n)
    return rng.random((3, n)) < 1 / (1 + np.exp(difficulty + rng.normal(0, 0.5, (3, n)) - 0.5 + shift))


def test_false_claims_of_means_over_seeds_stay_below_five_percent():
    """Two equal methods with three seeds each, and one with three against one with one."""
    rng = np.random.default_rng(12)
    claims = np.zeros(2)
    for _ in range(DRAWS):
        difficulty = rng.normal(0, 1.5, 300)
        right = (rng.random((6, 300)) < 1 / (1 + np.exp(difficulty - 0.5))).astype(np.float64)
        rows = 100 * np.array([right[:3].mean(axis=0), right[3:].mean(axis=0), right[3]])
        p = suite_pvalues(rows, np.array([False, False, True]), np.ones(3, dtype=bool))
        claims += [p[0, 1] <= 0.05, p[0, 2] <= 0.05]
    assert (claims / DRAWS <= 0.05 + 2 * (0.05 * 0.95 / DRAWS) ** 0.5).all()  # two standard errors of the simulation


def test_the_test_over_seeds_is_that_of_scipys_sign_flips():
    rng = np.random.default_rng(13)
    one, other = three_seeds(rng, 200).mean(axis=0), three_seeds(rng, 200, 0.4).mean(axis=0)
    (p, *_) = suite_pvalues(100 * np.array([one, other]), np.zeros(2, dtype=bool), np.ones(2, dtype=bool))[0][1:]
    expected = permutation_test(
        (one, other),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=1,
    ).pvalue
    assert p == pytest.approx(expected, rel=0.1)


def test_false_claims_under_the_null_stay_below_five_percent():
    """Six equal methods, three columns: chance that any of the 45 pairs is called separable after Holm."""
    rng = np.random.default_rng(10)
    upper = np.triu_indices(6, 1)
    claims = 0
    for _ in range(DRAWS):
        pvalues = []
        for column in range(3):
            right = images(rng, 150, 6)
            if column == 2:
                pvalues.append(paired_pvalues([right / 150])[upper])
                continue
            both = right.astype(np.int64) @ right.T.astype(np.int64)
            pvalues.append(mcnemar_of_counts(np.diag(both)[:, None] - both, np.diag(both)[None] - both)[upper])
        claims += bool((holm(np.concatenate(pvalues)) <= 0.05).any())
    assert claims / DRAWS <= 0.05


def sign_flip_pvalue(d: np.ndarray) -> float:
    """Two-sided, over all 2^k signs of the k differences that are not zero."""
    d = d[np.abs(d) > 1e-9]
    signs = 1 - 2 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
    return float((np.abs(signs @ d) >= abs(d.sum()) - 1e-9).mean())


@pytest.mark.parametrize(("seeds", "hard", "gained"), [(3, 16, 7), (5, 16, 5), (10, 16, 3)])
def test_small_differences_of_means_over_seeds_are_no_few_images(seeds: int, hard: int, gained: int) -> None:
    """Sixteen images that differ by a fifth each are sixteen images: sums of squares, which stand for the number where
    differences are 0 and 1, would allow no p below 0.6."""
    rng, n = np.random.default_rng(seeds), 400
    base = np.arange(n) < n // 2
    one = np.repeat(base[None], seeds, axis=0)
    for mine in one:
        mine[n // 2 + rng.permutation(hard)[:gained]] = True
    shares = np.array([one.mean(axis=0), base])
    p = suite_pvalues(100 * shares, np.array([False, True]), np.ones(2, dtype=bool))[0, 1]
    exact = sign_flip_pvalue(shares[0] - shares[1])
    assert exact < 0.001
    assert exact / 3 <= p <= 10 * exact


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_few_images_that_all_differ_alike_prove_no_more_than_a_sign_test(n: int) -> None:
    """Of means of several conditions, whose standard error is zero there."""
    strata = [np.array([np.full(n, 100.0), np.zeros(n)]) / n]
    assert paired_pvalues(strata)[0, 1] == 2.0 ** (1 - n)
    split = [one[:, part] for one in strata for part in (slice(0, n // 2), slice(n // 2, n)) if n > 1]
    assert not split or paired_pvalues(split)[0, 1] == 2.0 ** (1 - n)


def test_images_that_differ_are_counted_over_strata_and_pairs() -> None:
    rng = np.random.default_rng(1)
    strata = [np.round(rng.normal(0, 1, (40, m)) * (rng.random((40, m)) < 0.2), 1) for m in (30, 170)]
    found = no_smaller_than_signs(np.zeros((40, 40)), strata, np.zeros((40, 40)))
    k = sum((one[:, None] != one[None]).sum(axis=2) for one in strata)
    few = k <= 50
    expected = np.where(few, 2.0 ** (1 - np.maximum(k, 1)), 0.0)
    np.fill_diagonal(expected, 0)
    assert 0 < few.sum() < few.size
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 100.0])
def test_no_p_value_is_below_that_of_the_images_that_differ(unit: float) -> None:
    """Whatever the size of the differences and their unit: the bound that saves counting is a bound."""
    rng = np.random.default_rng(2)
    sparse = rng.normal(3, 1, (60, 300)) * (rng.random((60, 300)) < rng.uniform(0, 0.05, (60, 1)))
    sparse[:, 0] *= rng.integers(1, 30, 60)
    p = paired_pvalues([unit * sparse / 300])
    k = (sparse[:, None] != sparse[None]).sum(axis=2)
    assert (k[np.triu_indices(60, 1)] < 12).any()
    assert (p >= 2.0 ** (1 - np.maximum(k, 1)) * (1 - 1e-9)).all()


def test_an_interval_without_width_proves_nothing() -> None:
    p = interval_pvalues([50.0, 50.001, 70.0], [(50.0, 50.0), (50.001, 50.001), (65.0, 75.0)])
    np.testing.assert_array_equal(p, np.ones((3, 3)))
