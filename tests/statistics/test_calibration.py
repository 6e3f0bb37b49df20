"""Top-5, calibration and selective accuracy against hand-made cases and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbench.statistics.calibration import (
    CALIBRATION,
    SELECTIVE,
    TOP5,
    calibration_error,
    figures,
    reliability,
    selective_accuracy,
)
from nsbench.types import Outcomes


def plain_error(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Nguyen and O'Connor's, as their words say it."""
    order = np.argsort(confidence, kind="stable")
    total = 0.0
    for part in np.array_split(order, bins):
        if len(part):
            total += len(part) / len(order) * abs(correct[part].mean() - confidence[part].mean())
    return total


@pytest.mark.parametrize("n", [3, 15, 16, 100, 1000])
def test_calibration_error_against_a_plain_loop(n: int) -> None:
    rng = np.random.default_rng(n)
    confidence = rng.random(n)  # all different
    correct = rng.random(n) < confidence**2
    assert calibration_error(confidence, correct) == pytest.approx(plain_error(confidence, correct, 15))


def test_a_calibrated_model_has_a_small_error_and_a_sure_and_wrong_one_a_large() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    assert calibration_error(confidence, rng.random(200_000) < confidence) < 0.01
    assert calibration_error(np.ones(50), np.zeros(50, dtype=bool)) == 1.0
    assert calibration_error(np.full(8, 0.25), np.arange(8) < 2) == pytest.approx(0.0)


def test_reliability_is_of_bins_of_equal_width_with_their_upper_ends() -> None:
    confidence = np.array([0.1, 0.11, 0.2, 0.95, 1.0, 1.0], dtype=np.float32)
    found = reliability(confidence, np.array([True, False, True, False, True, True]))
    assert [one.n for one in found] == [1, 2, 3]
    assert [one.confidence for one in found] == pytest.approx([0.1, 0.155, 2.95 / 3])
    assert [one.accuracy for one in found] == pytest.approx([1, 0.5, 2 / 3])
    assert [one.n for one in reliability(np.array([0.0, 1.0]), np.array([True, True]), bins=2)] == [1, 1]


def test_selective_accuracy() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, True, False, True, False])
    assert selective_accuracy(confidence, correct, 1.0) == pytest.approx(0.6)
    assert selective_accuracy(confidence, correct, 0.4) == 1.0
    assert selective_accuracy(confidence, correct, 0.6) == pytest.approx(2 / 3)
    assert selective_accuracy(np.ones(4), np.array([True, False, False, False]), 0.5) == pytest.approx(0.25)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_the_order_of_images_is_no_matter(rows: list[tuple[int, bool]], random: object) -> None:
    confidence, correct = np.array([row[0] / 3 for row in rows]), np.array([row[1] for row in rows])
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    assert calibration_error(confidence, correct) == pytest.approx(calibration_error(confidence[order], correct[order]))
    assert selective_accuracy(confidence, correct) == pytest.approx(
        selective_accuracy(confidence[order], correct[order])
    )


def test_figures_are_of_what_is_kept() -> None:
    ids, labels = np.array(["a", "b"]), np.array([1, 6])
    assert figures(Outcomes(ids, labels, labels)) == {}
    top5 = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
    whole = Outcomes(ids, labels, np.array([1, 1]), confidence=np.array([1.0, 0.5], dtype=np.float32), top5=top5)
    assert figures(whole) == pytest.approx({TOP5: 50.0, CALIBRATION: 25.0, SELECTIVE: 50.0})
    three = Outcomes(ids, labels, labels, confidence=np.array([1.0, 1.0]), top5=top5[:, :3])
    assert TOP5 not in figures(three)  # of three classes everything is among the best five
