"""The statistics of a check against scipy and statsmodels, and by simulation: false alarms under noise, and power."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from nsbench.regression.evidence import (
    Known,
    Observed,
    fair_pvalue,
    mean_pvalue,
    moved_pvalue,
    side,
    weigh,
)
from nsbench.regression.noise import NOT_RECORDED, Noise, Rates, Together, rates_of
from nsbench.regression.power import binomial, detectable_drop

CHECKS = 150
COLUMNS = 11
N = 500
APART = {"ns": Together(), "madry": Together()}  # no two suites share an image


def one(
    lost: int, won: int = 0, noise: Noise = NOT_RECORDED, *, n: int = N, right: int = 400, method: str = "ns"
) -> Observed:
    """An accuracy."""
    return Observed(method, n, lost, won, noise, 100 * (lost - won) / n, losable=right)


# --- each test ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (7, 2), (2, 7), (14, 0), (40, 31)])
def test_without_a_repeat_it_is_exact_mcnemar(lost: int, won: int) -> None:
    expected = mcnemar([[0, lost], [won, 0]], exact=True).pvalue
    assert weigh([one(lost, won)])[0].p == pytest.approx(expected)
    assert fair_pvalue(lost, won) == pytest.approx(
        stats.binomtest(lost, lost + won, alternative="greater").pvalue if lost else 1
    )


def test_noise_that_loses_images_is_taken_from_a_drop() -> None:
    expected = stats.binomtest(20, 25, 0.5 + 6 / 50, alternative="greater").pvalue
    assert fair_pvalue(20, 5, 6.0) == pytest.approx(expected)
    assert fair_pvalue(4, 0, 9.0) == 1.0, "noise alone loses as many"


@pytest.mark.parametrize("p", [[0.01], [0.001, 0.02, 0.02, 0.6], [0.004, 0.005, 0.006, 0.007, 0.9]])
def test_within_a_method_it_is_hommels_closed_test(p: Sequence[float]) -> None:
    """Without a repeat: paired tests of means, whose p can be set."""
    t = stats.t.isf(p, N - 1)
    observed = [Observed("ns", N, 0, 0, drop=float(x), sd=N**0.5, accuracy=False) for x in t]
    expected = multipletests(p, method="hommel")[1] if len(p) > 1 else np.array(p)
    assert [e.p_adjusted for e in weigh(observed)] == pytest.approx(np.minimum(1, 2 * expected))
    other = Observed("madry", N, 0, 0, drop=0.0, sd=1.0, accuracy=False)
    found = [e.p_adjusted for e in weigh([*observed, other])][:-1]
    assert found == pytest.approx(np.minimum(1, 4 * expected)), "methods share alpha"


def test_the_mean_without_noise_is_students_and_with_it_welchs_test() -> None:
    rng = np.random.default_rng(3)
    now, repeat = rng.normal(0.4, 2, 60), rng.normal(0.1, 1, 80)
    drop, sd = float(now.mean()), float(now.std(ddof=1))
    student = stats.ttest_1samp(now, 0, alternative="greater").pvalue
    assert mean_pvalue(drop, sd, 60) == pytest.approx(student)
    welch = stats.ttest_ind(now, repeat, equal_var=False, alternative="greater").pvalue
    assert mean_pvalue(drop, sd, 60, Noise.of(repeat)) == pytest.approx(welch)
    gain = stats.ttest_ind(-now, -repeat, equal_var=False, alternative="greater").pvalue
    assert mean_pvalue(-drop, sd, 60, Noise.of(repeat), better=True) == pytest.approx(gain)
    assert mean_pvalue(0.0, 0.0, 60) == 1.0
    assert mean_pvalue(1.0, 0.0, 60) == 2.0**-60, "every image by the same amount"
    assert mean_pvalue(1.0, 0.0, 3) == 0.125, "three images that change alike may do so by chance"


@pytest.mark.parametrize(("flipped", "n", "before", "repeated"), [(5, 100, 0, 100), (3, 400, 1, 800), (9, 60, 9, 60)])
def test_moved_is_fishers_exact_test(flipped: int, n: int, before: int, repeated: int) -> None:
    table = [[flipped, n - flipped], [before, repeated - before]]
    assert moved_pvalue(flipped, n, before, repeated) == pytest.approx(stats.fisher_exact(table, "greater").pvalue)


def test_moved_needs_a_repeat() -> None:
    assert moved_pvalue(60, 60, 0, 0) == 1.0


# --- what the repeat tells of noise ---------------------------------------------------------------------------------


def test_a_known_rate_gives_the_binomial_tail() -> None:
    (rates,) = rates_of((100_000,), (10_000_000,))
    assert rates.mean == pytest.approx(0.01, rel=0.03)
    assert rates.tail(15, N) == pytest.approx(stats.binom.sf(14, N, 0.01), rel=0.2)
    assert rates.tail(0, N) == 1.0


def test_one_suite_alone_is_predicted_from_its_own_repeat() -> None:
    """Between Jeffreys' prediction and Fisher's exact test, whatever the prior of the rates."""
    for flipped in (0, 3, 12):
        (rates,) = rates_of((flipped,), (N,))
        for seen in (8, 20, 40):
            jeffreys = stats.betabinom.sf(seen - 1, N, flipped + 0.5, N - flipped + 0.5)
            assert 0.2 * jeffreys < rates.tail(seen, N) < 5 * jeffreys


def test_suites_that_agree_are_pooled_and_one_that_is_noisier_is_not() -> None:
    alone, together = rates_of((5,), (N,))[0], rates_of((5,) * COLUMNS, (N,) * COLUMNS)[0]
    known = stats.binom.sf(19, N, 0.01)
    assert known < together.tail(20, N) < 0.05 * alone.tail(20, N)
    mixed = rates_of((0,) * (COLUMNS - 1) + (30,), (N,) * COLUMNS)
    assert mixed[-1].mean == pytest.approx(30 / N, rel=0.1)
    assert mixed[-1].tail(45, N) > 0.02
    assert mixed[0].tail(10, N) < 0.01


def test_the_posterior_is_that_of_numerical_integration() -> None:
    """Of two suites, by Monte Carlo from the priors as the module states them."""
    rng = np.random.default_rng(0)
    mu, shrinkage = rng.beta(0.5, 0.5, 2_000_000), rng.random(2_000_000)
    s = 100 * shrinkage / (1 - shrinkage)
    q = rng.beta(np.maximum(s * mu, 1e-12), np.maximum(s * (1 - mu), 1e-12), size=(2, len(mu)))
    weights = np.prod([q_**r * (1 - q_) ** (100 - r) for r, q_ in zip((2, 6), q, strict=True)], axis=0)
    rates = rates_of((2, 6), (100, 100))
    for place in (0, 1):
        assert rates[place].mean == pytest.approx(float(np.average(q[place], weights=weights)), rel=0.05)
        tail = stats.beta.cdf(q[place], 10, 91)  # P(Binomial(100, q) >= 10)
        expected = float(np.average(tail, weights=weights))
        assert rates[place].tail(10, 100) == pytest.approx(expected, rel=0.1)


def test_images_that_flip_together_tell_less() -> None:
    assert Together.of([1] * 500, 1, Noise()).design_effect == pytest.approx(1.0, abs=0.01)
    assert Together(55, 55 * 11.0, 11).design_effect == pytest.approx(11.0)
    assert Together(0, 0.0, 4).design_effect == 4.0, "none flipped, and four suites hold the same images"
    few, many = (rates_of((0,) * COLUMNS, (N,) * COLUMNS, effect)[0].tail(8, N) for effect in (11.0, 1.0))
    assert many < few


def test_where_the_direction_was_not_recorded_all_flips_count() -> None:
    directed, old = Noise(N, 9, 0.0, 13.0, 4), Noise(N, 9, 1.8, 13.0)
    assert [directed.toward(better=b) for b in (False, True)] == [4, 5]
    assert [old.toward(better=b) for b in (False, True)] == [9, 9]
    assert weigh([one(25, 0, old)])[0].p > weigh([one(25, 0, directed)])[0].p
    assert Noise.of(np.array([100.0, 0, -100, 100])).lost == 2


# --- a whole check, simulated ---------------------------------------------------------------------------------------


def simulated(
    rng: np.random.Generator, rate: float, lost_only: bool, drops: Sequence[float] = (), churn: float = 0.0
) -> list[Observed]:
    """Two methods of eleven accuracies with a repeat; `drops`: shares of all images that are lost, from the first on."""
    shares = np.zeros(2 * COLUMNS)
    shares[: len(drops)] = drops
    lose, win = (rate, 0.0) if lost_only else (rate / 2, rate / 2)
    observed = []
    for k, share in enumerate(shares):
        r_lost, r_won = rng.binomial(N, [lose, win])
        lost, won = rng.binomial(N, [lose + share + churn, win + churn])
        noise = Noise(N, int(r_lost + r_won), 100 * (r_lost - r_won) / N, 0.0, int(r_lost))
        observed.append(one(int(lost), int(won), noise, method="ns" if k < COLUMNS else "madry"))
    return observed


def called(observed: Sequence[Observed]) -> np.ndarray:
    """By suite: 1 regressed, -1 improved, as the default rules have it."""
    return np.array(
        [
            np.sign(seen.drop) * (e.p_adjusted <= 0.01 and abs(seen.drop) >= 0.5)
            for seen, e in zip(observed, weigh(observed, APART), strict=True)
        ]
    )


@pytest.mark.parametrize("lost_only", [False, True])
@pytest.mark.parametrize("rate", [0.002, 0.01, 0.03])
def test_unchanged_checks_raise_no_alarm(rate: float, lost_only: bool) -> None:
    rng = np.random.default_rng(0)
    alarms = sum(called(simulated(rng, rate, lost_only)).any() for _ in range(CHECKS))
    assert alarms <= stats.binom.ppf(0.999, CHECKS, 0.01)


@pytest.mark.parametrize("lost_only", [False, True])
def test_a_change_that_costs_nothing_raises_no_alarm(lost_only: bool) -> None:
    """Three per cent of the images of every suite are lost and as many won: more than noise, and no drop."""
    rng = np.random.default_rng(1)
    alarms = sum(called(simulated(rng, 0.01, lost_only, churn=0.03)).any() for _ in range(CHECKS))
    assert alarms <= stats.binom.ppf(0.999, CHECKS, 0.01)


@pytest.mark.parametrize("lost_only", [False, True])
@pytest.mark.parametrize(("rate", "power"), [(0.002, 0.8), (0.01, 0.5)])
def test_a_drop_of_three_points_in_one_suite_is_found(rate: float, power: float, lost_only: bool) -> None:
    rng = np.random.default_rng(2)
    found = [called(simulated(rng, rate, lost_only, [0.03]))[0] == 1 for _ in range(CHECKS)]
    assert np.mean(found) >= power


def average(observed: Sequence[Observed], method: str) -> Observed:
    """Of a method's suites, whose images are all different."""
    mine = [seen for seen in observed if seen.method == method]
    u = len(mine) * N

    def moments(lost: int, flipped: int) -> tuple[float, float]:
        drop = 100 * (2 * lost - flipped) / u
        return drop, (100**2 * flipped / u - drop**2) ** 0.5

    lost, won = sum(seen.lost for seen in mine), sum(seen.won for seen in mine)
    r_lost, r_all = sum(seen.noise.lost or 0 for seen in mine), sum(seen.noise.flipped for seen in mine)
    noise = Noise(u, r_all, *moments(r_lost, r_all), r_lost)
    return Observed(method, u, lost, won, noise, *moments(lost, lost + won), accuracy=False)


@pytest.mark.parametrize(("rate", "lost_only"), [(0.002, False), (0.01, False), (0.03, True)])
def test_two_points_in_every_suite_are_found(rate: float, lost_only: bool) -> None:
    """By the averages, which no unchanged check calls."""
    rng = np.random.default_rng(3)
    found, alarms = 0, 0
    for _ in range(CHECKS // 2):
        for drops in ([0.02] * (2 * COLUMNS), []):
            observed = simulated(rng, rate, lost_only, drops)
            verdicts = called([*observed, average(observed, "ns"), average(observed, "madry")])
            found += bool(drops) and (verdicts == 1).any()
            alarms += not drops and verdicts.any()
    assert found >= 0.95 * CHECKS // 2
    assert alarms <= stats.binom.ppf(0.999, CHECKS // 2, 0.01)


def test_a_noisy_suite_among_quiet_ones_raises_no_alarm() -> None:
    """One of eleven flips 6 %, as an attack may that stops at a threshold; the others 0.2 %."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(CHECKS):
        observed = simulated(rng, 0.002, True)
        repeat, now = rng.binomial(N, 0.06, 2)
        observed[0] = one(int(now), 0, Noise(N, int(repeat), 100 * repeat / N, 0.0, int(repeat)))
        alarms += called(observed).any()
    assert alarms <= stats.binom.ppf(0.999, CHECKS, 0.01)


# --- what a check says of its power ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "lost_only"), [(0.002, False), (0.01, False), (0.01, True)])
def test_the_stated_drop_is_found_with_eighty_percent(rate: float, lost_only: bool) -> None:
    rng = np.random.default_rng(5)
    lose, win = (rate, 0.0) if lost_only else (rate / 2, rate / 2)
    found = []
    for _ in range(CHECKS):
        observed = simulated(rng, rate, lost_only)
        drop = detectable_drop(0, observed, side(observed, APART, better=False), 0.01, 0.5)
        assert drop is not None
        lost = rng.binomial(400, drop / 100 * N / 400) + rng.binomial(N, lose)
        found.append(called([one(int(lost), int(rng.binomial(N, win)), observed[0].noise), *observed[1:]])[0] == 1)
    assert np.mean(found) == pytest.approx(0.8, abs=0.05 + 2 * 0.028), "0.05, and two standard errors"


def test_the_stated_drop_without_noise_is_exact() -> None:
    """Without a repeat and alone: McNemar's smallest number of lost images, found by a search."""
    alone = [one(0, n=100, right=77)]
    drop = detectable_drop(0, alone, side(alone, {}, better=False), 0.01, 0.5)
    needed = next(k for k in range(1, 77) if 2 * 0.5**k <= 0.01)
    assert drop is not None
    assert stats.binom.sf(needed - 1, 77, drop / 77) == pytest.approx(0.8, abs=1e-6)


def stated(right: int, min_drop: float = 0.5) -> float | None:
    alone = [one(0, n=100, right=right)]
    return detectable_drop(0, alone, side(alone, {}, better=False), 0.01, min_drop)


def test_what_cannot_be_detected() -> None:
    assert stated(0) is None
    assert stated(5) is None, "five images lost of five give p = 0.06"
    assert stated(8, min_drop=9) is None
    assert stated(90, min_drop=30) == pytest.approx(33.6, abs=0.5)


def test_what_is_known_of_a_suite() -> None:
    def at(rate: float) -> Rates:
        return Rates(np.array([rate]), np.ones(1))

    known = Known(at(0.02), at(0.005), at(0.025))
    assert known.surplus(N) == pytest.approx(7.5)
    assert Known(at(0.005), at(0.02), at(0.025)).surplus(N) == 0.0


@pytest.mark.parametrize(("flipped", "n", "before", "n_before"), [(3, 60, 1, 60), (1, 500, 0, 400), (60, 60, 5, 600)])
def test_the_tail_of_more_flips_than_in_the_repeat_is_scipys(flipped: int, n: int, before: int, n_before: int) -> None:
    expected = stats.hypergeom.sf(flipped - 1, n + n_before, flipped + before, n)
    assert moved_pvalue(flipped, n, before, n_before) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "share"), [(1, 0.5), (500, 0.004), (2000, 0.2), (30, 0.0), (30, 1.0)])
def test_the_binomial_distribution_is_scipys(n: int, share: float) -> None:
    k = np.arange(n + 1)
    np.testing.assert_allclose(binomial(k, n, share), stats.binom.pmf(k, n, share), rtol=1e-9, atol=1e-15)
