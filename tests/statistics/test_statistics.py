"""Figures of merit against hand computation, statsmodels and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbench.errors import DataError
from nsbench.statistics import (
    ALEXNET_ERROR,
    SEVERITIES,
    accuracy,
    average,
    bootstrap_mean,
    wilson,
)
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Outcomes, Score


def outcomes(correct, ids=None, **extra):
    """Outcomes with label 0 whose prediction is 0 where `correct`, else 1."""
    correct = np.asarray(correct, dtype=bool)
    ids = np.array([f"image{i:05d}" for i in range(len(correct))]) if ids is None else ids
    return Outcomes(
        ids,
        np.zeros(len(correct), dtype=np.int64),
        (~correct).astype(np.int64),
        {name: np.asarray(values) for name, values in extra.items()},
    )


def corrupted(wrong_of):
    """All 75 conditions; `wrong_of(corruption, severity)` gives the flags of wrong images."""
    return {f"{c}/{s}": outcomes(~np.asarray(wrong_of(c, s))) for c in ALEXNET_ERROR for s in SEVERITIES}


@settings(deadline=None)  # the first call imports scipy
@given(
    st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_wilson_agrees_with_statsmodels(counts, confidence):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(*counts, alpha=1 - confidence, method="wilson")
    assert wilson(*counts, confidence) == pytest.approx(expected, abs=1e-9)


def test_wilson_at_the_edges():
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    for successes, n in [(0, 0), (-1, 5), (6, 5)]:
        with pytest.raises(DataError, match="at least one image"):
            wilson(successes, n)


def test_wilson_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).binomial(500, 0.3, 2000)
    hits = np.mean([low <= 0.3 <= high for low, high in (wilson(int(k), 500) for k in draws)])
    assert 0.935 <= hits <= 0.965


def test_accuracy_is_that_of_the_first_condition():
    score = accuracy({"eps 1/255": outcomes([1, 1, 0, 0]), "eps 4/255": outcomes([1, 0, 0, 0])})
    assert (score.value, score.n) == (50, 4)
    assert score.low == pytest.approx(100 * wilson(2, 4)[0])
    assert score.extra == {"accuracy eps 4/255": 25}


def test_accuracy_over_all_classes_and_after_rounding():
    score = accuracy({"a": outcomes([1, 1, 1, 0], predictions_all=[0, 7, 7, 7], predictions_uint8=[0, 0, 0, 0])})
    assert score.extra == {"accuracy over all classes": 25, "accuracy after 8-bit rounding": 100}


def test_l2_budgets_count_images_that_were_wrong_before_as_broken_at_any_budget():
    score = accuracy(
        {
            "cw": outcomes(  # wrong before; found at 0.3, exactly 0.5 and 2.5; never found
                [0, 0, 0, 0, 1],
                l2=np.array([0, 0.3, 0.5, 2.5, 0.1], dtype=np.float32),
                predictions_clean=[1, 0, 0, 0, 0],
            )
        }
    )
    assert score.value == 20
    assert score.extra["median l2 of successes"] == pytest.approx(0.5)
    budgets = [score.extra[f"accuracy at l2 {budget}"] for budget in ("0.5", "1", "2", "3")]
    assert budgets == [40, 40, 40, 20]


def test_no_median_where_nothing_was_broken():
    assert "median l2 of successes" not in accuracy({"cw": outcomes([1, 1], l2=[0, 0])}).extra


def test_accuracy_of_nothing_is_an_error():
    with pytest.raises(DataError):
        accuracy({})
    with pytest.raises(DataError):
        accuracy({"clean": outcomes([])})


def test_mce_of_alexnet_is_100():
    n = 50_000

    def wrong_of(corruption, severity):
        total = round(ALEXNET_ERROR[corruption] * n * 5)  # wrong images over the five severities
        share = total // 5 + (severity <= total % 5)
        return np.arange(n) < share

    score = mean_corruption_error(corrupted(wrong_of))
    assert score.value == pytest.approx(100, abs=1e-9)
    assert score.n == n
    assert score.low < 100 < score.high


def test_mce_by_hand():
    # Everything right but one corruption, where 1, 2, 2, 3 and 4 of 4 images are wrong: mean error 12/20.
    wrong = dict(zip(SEVERITIES, (1, 2, 2, 3, 4), strict=True))
    score = mean_corruption_error(corrupted(lambda c, s: np.arange(4) < (wrong[s] if c == "fog" else 0)))
    assert score.value == pytest.approx(100 * 0.6 / 0.819324 / 15)
    assert score.extra["error fog"] == pytest.approx(60)
    assert score.extra["error snow"] == 0
    assert score.extra["mean error"] == pytest.approx(60 / 15)


def test_mce_matches_images_by_id_and_not_by_position():
    rng = np.random.default_rng(1)
    plain = corrupted(lambda c, s: rng.random(40) < 0.5)
    shuffled = {}
    for name, one in plain.items():
        order = rng.permutation(40)
        shuffled[name] = outcomes(one.correct[order], one.ids[order])
    assert mean_corruption_error(shuffled) == mean_corruption_error(plain)


def test_a_part_of_the_corruptions_is_no_mce():
    parts = corrupted(lambda c, s: [True, False])
    del parts["fog/3"], parts["snow/5"]
    with pytest.raises(DataError, match=r"2 missing: snow/5, fog/3"):
        mean_corruption_error(parts)


def test_mce_refuses_conditions_on_different_images():
    parts = corrupted(lambda c, s: [True, False])
    parts["fog/3"] = outcomes([True])
    with pytest.raises(DataError, match=r"fog/3 .*half copied"):
        mean_corruption_error(parts)


def test_mce_interval_resamples_images_and_not_conditions():
    """Images that fail under every corruption make the conditions depend on each other: the interval must be wide."""
    hard = np.arange(400) < 200
    dependent = mean_corruption_error(corrupted(lambda c, s: hard))
    rng = np.random.default_rng(2)
    independent = mean_corruption_error(corrupted(lambda c, s: rng.random(400) < 0.5))
    scale = 100 * np.mean([1 / error for error in ALEXNET_ERROR.values()])
    assert dependent.high - dependent.low == pytest.approx(2 * 1.96 * scale * 0.5 / np.sqrt(400), rel=0.1)
    assert independent.high - independent.low < (dependent.high - dependent.low) / 4


def test_bootstrap_is_seeded_and_has_the_width_of_the_normal_interval():
    values = np.random.default_rng(3).normal(10, 2, 900)
    low, high = bootstrap_mean(values)
    assert bootstrap_mean(values) == (low, high)
    assert bootstrap_mean(values, seed=1) != (low, high)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.1)


def test_average_puts_100_minus_the_score_where_lower_is_better():
    vit_small = [74.19, 0.68, 4.63, 13.79, 29.82, 16.35, 71.13, 62.51, 34.67, 14.26, 12.15]  # table 2, first row
    scores = [Score(value, value, value, 50_000) for value in vit_small]
    score = average(scores, [value == 71.13 for value in vit_small], range(11))
    assert round(score.value, 2) == 26.54
    assert (score.low, score.high) == (score.value, score.value)


def test_average_interval_by_hand():
    scores = [Score(50, 47, 54, 10), Score(60, 58, 61, 10)]
    apart = average(scores, [False, True], ["val", "sketch"])
    assert apart.value == 45
    assert apart.low == pytest.approx(45 - np.hypot(3, 1) / 2)  # the second enters as 100 - 60 = 40, from 39 to 42
    assert apart.high == pytest.approx(45 + np.hypot(4, 2) / 2)
    same = average(scores, [False, True], ["val", "val"])
    assert (same.low, same.high) == (45 - (3 + 1) / 2, 45 + (4 + 2) / 2)
