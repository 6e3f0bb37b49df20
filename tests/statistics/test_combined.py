"""A suite's own score: the weighted sum over conditions, its interval, and what it is made of."""

from __future__ import annotations

import numpy as np
import pytest

import nsbench as nb
from nsbench.errors import DataError
from nsbench.statistics import accuracy, wilson
from nsbench.statistics.combined import per_image, weighted
from nsbench.types import Composition, Outcomes


def outcomes(right: list[bool], prefix: str = "i") -> Outcomes:
    n = len(right)
    return Outcomes(np.array([f"{prefix}{k}" for k in range(n)]), np.zeros(n, int), (~np.array(right)).astype(int))


A, B = outcomes([True, True, False, False]), outcomes([True, False, False, True])


def test_the_mean_error_of_conditions() -> None:
    score = weighted({"a": A, "b": B}, counts="wrong")
    assert (score.value, score.n) == (50.0, 4)
    assert score.made_of == Composition({"a": 50.0, "b": 50.0}, "wrong")
    assert 0 <= score.low < 50 < score.high <= 100


def test_right_and_wrong_images_add_up_to_all() -> None:
    mostly = {"a": outcomes([True, True, True, False]), "b": A}
    right, wrong = weighted(mostly), weighted(mostly, counts="wrong")
    assert (right.value, wrong.value) == (62.5, 37.5)
    assert per_image(mostly, wrong.made_of).tolist() == [0.0, 0.0, 50.0, 100.0]
    assert (wrong.low, wrong.high) == pytest.approx((100 - right.high, 100 - right.low))


def test_the_accuracy_of_one_condition_has_wilsons_interval() -> None:
    score, plain = weighted({"a": A, "b": B}, {"a": 100.0}), accuracy({"a": A, "b": B})
    low, high = wilson(2, 4)
    assert (score.low, score.high) == pytest.approx((100 * low, 100 * high))
    assert (score.value, score.made_of) == (plain.value, plain.made_of)


@pytest.mark.parametrize("right", [True, False])
def test_images_that_are_all_alike_do_not_make_a_figure_certain(right: bool) -> None:
    """Of one condition the interval is Wilson's; so it is of two that agree, whose images are as many, and no better."""
    few, many = (weighted({"a": outcomes([right] * n), "b": outcomes([right] * n)}) for n in (20, 500))
    low, high = wilson(20 * right, 20)
    assert (few.low, few.high) == pytest.approx((100 * low, 100 * high))
    assert few.high - few.low > 10 > many.high - many.low > 0.5
    # half of all outcomes, and of each image the same half: it may be none or both of another image
    half = weighted({"a": outcomes([right] * 20), "b": outcomes([not right] * 20)})
    assert (half.low, half.high) == pytest.approx((50 - 50 * wilson(0, 20)[1], 50 + 50 * wilson(0, 20)[1]))


def test_images_are_met_by_id_and_their_mean_is_the_score() -> None:
    turned = Outcomes(B.ids[::-1], B.labels[::-1], B.predictions[::-1])
    score = weighted({"a": A, "b": turned}, {"a": 30.0, "b": 70.0})
    assert score.made_of is not None
    values = per_image({"a": A, "b": turned}, score.made_of)
    assert values.tolist() == [100.0, 30.0, 0.0, 70.0]
    assert values.mean() == score.value


def test_what_cannot_be_combined_is_named() -> None:
    with pytest.raises(DataError, match="no condition 'c'; there are a, b"):
        weighted({"a": A, "b": B}, {"c": 1.0})
    with pytest.raises(DataError, match="on different images"):
        weighted({"a": A, "b": outcomes([True] * 4, "other")})
    with pytest.raises(DataError, match="no condition was evaluated"):
        weighted({})


def test_it_is_a_part_of_the_surface() -> None:
    assert nb.weighted is weighted
