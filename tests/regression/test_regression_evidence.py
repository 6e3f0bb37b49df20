"""The statistics of a check against scipy and statsmodels, and by simulation: level under noise, and power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from nsbench.regression.evidence import Noise, detectable_drop, lost_pvalue, mean_pvalue, moved_pvalue
from nsbench.statistics import mcnemar_of_counts

SIMULATED = 2000


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (7, 2), (2, 7), (14, 0), (40, 31)])
def test_without_a_repeat_it_is_exact_mcnemar(lost: int, won: int) -> None:
    expected = mcnemar([[0, lost], [won, 0]], exact=True).pvalue
    assert lost_pvalue(lost, won, 100) == pytest.approx(expected)


def test_noise_never_makes_a_drop_surer() -> None:
    for lost in range(25):
        for won in range(0, 25, 3):
            plain = lost_pvalue(lost, won, 100)
            clean, noisy = (lost_pvalue(lost, won, 100, Noise(100, flipped)) for flipped in (0, 10))
            assert plain <= clean + 1e-12
            assert clean <= noisy + 1e-12
    assert lost_pvalue(14, 2, 100, Noise(10**9, 0)) == pytest.approx(lost_pvalue(14, 2, 100), rel=1e-4), (
        "a rate that is known to be zero changes nothing"
    )


@pytest.mark.parametrize(
    ("n", "rate", "both_ways"), [(100, 0.0, 0.05), (100, 0.05, 0.0), (100, 0.1, 0.1), (500, 0.02, 0.02)]
)
def test_noise_that_only_loses_images_raises_no_alarm(n: int, rate: float, both_ways: float) -> None:
    """Noise in its worst case: all that it flips is lost, at the repeat's rate. Plain McNemar takes it for a drop."""
    rng = np.random.default_rng(0)
    alarms = plain = 0
    for _ in range(SIMULATED):
        repeat, noise, other = rng.binomial(n, [rate, rate, both_ways])
        won = rng.binomial(other, 0.5)
        lost = noise + other - won
        alarms += lost_pvalue(lost, won, n, Noise(n, int(repeat))) <= 0.01
        plain += mcnemar_of_counts(lost, won) <= 0.01
    assert alarms <= stats.binom.ppf(0.9999, SIMULATED, 0.01)
    if rate >= 0.02:
        assert plain > 0.1 * SIMULATED, "the case would not tell the two tests apart"


def test_a_real_drop_is_found_in_spite_of_noise() -> None:
    rng = np.random.default_rng(1)
    found = [
        lost_pvalue(
            int(rng.binomial(100, 0.02) + rng.binomial(75, 0.3)),
            int(rng.binomial(25, 0.05)),
            100,
            Noise(100, int(rng.binomial(100, 0.02))),
        )
        <= 0.01 / 11
        for _ in range(SIMULATED)
    ]
    assert np.mean(found) > 0.8


@pytest.mark.parametrize(
    ("n", "right", "noise"), [(60, 45, Noise()), (100, 77, Noise(100, 0)), (500, 400, Noise(500, 3))]
)
def test_the_detectable_drop_is_found_with_eighty_percent(n: int, right: int, noise: Noise) -> None:
    alpha = 0.01 / 11
    drop = detectable_drop(n, right, alpha, noise)
    assert drop is not None
    rng = np.random.default_rng(2)
    lost = rng.binomial(right, drop / 100 * n / right, 20_000)
    called = {k: lost_pvalue(int(k), 0, n, noise) <= alpha for k in np.unique(lost)}
    assert np.mean([called[k] for k in lost]) == pytest.approx(0.8, abs=0.01)


def test_what_cannot_be_detected() -> None:
    assert detectable_drop(100, 5, 0.01) is None, "five images lost of five give p = 0.06"
    assert detectable_drop(100, 8, 0.01, min_drop=9) is None
    assert detectable_drop(100, 90, 0.01, min_drop=30) == pytest.approx(33.6, abs=0.5)


def test_the_mean_without_noise_is_students_test() -> None:
    changes = np.random.default_rng(3).normal(0.4, 2, 60)
    assert mean_pvalue(changes) == pytest.approx(stats.ttest_1samp(changes, 0).pvalue)
    assert mean_pvalue(-changes) == pytest.approx(mean_pvalue(changes))
    assert mean_pvalue(np.zeros(60)) == 1.0


def test_the_level_of_the_mean_under_noise_that_only_worsens() -> None:
    """Contributions to mCE: multiples of 4/3 points; noise adds to a tenth of the images, in the repeat and now."""
    rng = np.random.default_rng(4)

    def change() -> np.ndarray:
        return 4 / 3 * rng.binomial(3, 0.5, 60) * (rng.random(60) < 0.3)

    pairs = [(change(), change()) for _ in range(SIMULATED)]
    assert sum(mean_pvalue(now, Noise.of(repeat)) <= 0.01 for repeat, now in pairs) <= stats.binom.ppf(
        0.9999, SIMULATED, 0.01
    )
    assert sum(mean_pvalue(now) <= 0.01 for _, now in pairs) > 0.5 * SIMULATED


@pytest.mark.parametrize(("flipped", "n", "before", "repeated"), [(5, 100, 0, 100), (3, 400, 1, 800), (9, 60, 9, 60)])
def test_moved_is_fishers_exact_test(flipped: int, n: int, before: int, repeated: int) -> None:
    table = [[flipped, n - flipped], [before, repeated - before]]
    assert moved_pvalue(flipped, n, before, repeated) == pytest.approx(stats.fisher_exact(table, "greater").pvalue)


def test_moved_needs_a_repeat() -> None:
    assert moved_pvalue(60, 60, 0, 0) == 1.0
