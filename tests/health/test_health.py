"""Health flags of made-up outcomes: a weaker attack that wins, curves, gradients and outputs; noise raises nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest
import scipy.stats
from health_rows import Measured, N, Row, attacked, beforehand, clean, described, names, right_on
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbench.health import fisher_exact, flags, flags_by_row
from nsbench.results import OutputCheck, outcomes_path
from nsbench.statistics import accuracy


@pytest.fixture
def row(tmp_path: Path) -> Row:
    return Row(tmp_path)


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("single", "single-step beats multi-step"),
        ("foreign", "transfer beats white-box"),
        ("black", "black-box beats white-box"),
    ],
)
def test_a_weaker_attack_that_wins_is_flagged_beyond_noise(tmp_path: Path, kind: str, flag: str) -> None:
    for better, budget, expected in [(300, 4, True), (300, 8, False), (300, 2, True), (104, 4, False), (80, 4, False)]:
        row = Row(tmp_path / f"{better} {budget}")
        row.add("clean", {"clean": clean(380)})
        row.add("weak", {"a": attacked(kind, budget, 100)})
        row.add("strong", {"a": attacked("multi", 4, better)})
        found = flags(row.results)
        assert (names(found) == [flag]) == expected, (better, budget, found)
        if expected:
            assert found[0].suites == ("weak", "strong")
            assert f"WEAK at linf {budget}/255 leaves 25.0 % right and STRONG at linf 4/255 75.0 %" in found[0].sentence
            assert "400 images, exact McNemar, p < 1e-6" in found[0].sentence
        else:
            assert not found


def test_pre_generated_images_count_as_transfer_in_their_own_budget(row: Row, tmp_path: Path) -> None:
    row.add("damagenet", {"d": beforehand(25.5, 100)})
    row.add("pgd", {"a": attacked("multi", 8, 300)})
    assert not flags(row.results)  # 25.5/255 may well beat 8/255
    row.add("pgd26", {"a": attacked("multi", 26, 300)})
    (flag,) = flags(row.results)
    assert flag.name == "transfer beats white-box"
    assert "400 and 400 images, Fisher's exact test" in flag.sentence


@pytest.mark.parametrize(("surrogate", "expected"), [("w", ["judged on its own transfer set"]), ("v", []), (None, [])])
def test_images_attacked_on_the_judged_weights_themselves(row: Row, surrogate: str | None, expected: list[str]) -> None:
    condition, outcomes, _ = beforehand(8, 100)
    one = replace(described("x", condition, outcomes, None), surrogate_digest=surrogate, origin="attacked on w")
    result = made.stored(
        row.folder, {"x": outcomes}, conditions=(one,), score=accuracy({"x": outcomes}), weights_digest="w"
    )
    found = flags([result])
    assert names(found) == expected
    assert all("the images were attacked on w, the very weights" in flag.sentence for flag in found)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_fishers_exact_test_is_scipys(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    expected = scipy.stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert fisher_exact(a, n, b, m) == pytest.approx(expected, rel=1e-6)


def test_robust_accuracy_above_clean(row: Row) -> None:
    row.add("clean", {"clean": clean(200)})
    row.add("damagenet", {"d": beforehand(25.5, 205)})
    assert not flags(row.results)
    row.add("pgd", {"a": attacked("multi", 8, 260)})
    assert names(flags(row.results)) == ["robust accuracy above clean"]


def curve(kind: str, *hits: float) -> Measured:
    return {f"{k}": attacked(kind, 2.0**k, h) for k, h in enumerate(hits)}


@pytest.mark.parametrize(
    ("kind", "hits", "flagged"),
    [
        ("multi", (300, 200, 100), False),
        ("multi", (300, 299, 298), False),
        ("multi", (10, 10, 10), False),
        ("multi", (300, 300, 300), True),
        ("multi", (300, 200, 260), True),
        ("single", (300, 100, 200), False),  # a single step overshoots
        ("single", (200, 100, 300), True),
        ("single", (300, 300), False),
    ],
)
def test_a_curve_that_does_not_fall(row: Row, kind: str, hits: tuple, flagged: bool) -> None:
    row.add("curve", curve(kind, *hits))
    found = flags(row.results)
    assert names(found) == (["curve does not fall"] if flagged else []), found


@pytest.mark.parametrize(("zero", "flagged"), [(0, False), (4, False), (20, True), (400, True)])
def test_zero_gradients(row: Row, zero: int, flagged: bool) -> None:
    condition, outcomes, card = attacked("multi", 4, 100)
    row.add("pgd", {"a": (condition, outcomes, replace(card, zero_gradients=zero, looked_at=N))})
    found = flags(row.results)
    assert names(found) == (["zero gradients"] if flagged else [])
    if flagged:
        assert f"exactly zero at {zero} of 400 images" in found[0].sentence


def test_predictions_that_differ_between_conditions(row: Row) -> None:
    for suite, hits in (("clean", 200), ("other", 201)):
        row.add(suite, {"clean": clean(hits)})
    assert not flags(row.results)  # one image of 400 may sit on a boundary
    row.add("third", {"clean": clean(210)})
    (flag,) = flags(row.results)
    assert flag.name == "random outputs"
    assert "9 of 400" in flag.sentence


def test_untouched_images_that_change_their_prediction(row: Row) -> None:
    untouched = np.zeros(N, dtype=np.float32)
    before = right_on(300).predictions
    row.add("cw", {"a": attacked("multi", 4, 250, linf=untouched, predictions_clean=before)})
    assert names(flags(row.results)) == ["random outputs"]
    row.results.clear()
    row.add("cw2", {"a": attacked("multi", 4, 250, linf=untouched + 1, predictions_clean=before)})
    assert not flags(row.results)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (OutputCheck(8, True, 0.0), ["softmax instead of logits"]),
        (OutputCheck(8, False, 0.2), ["random outputs"]),
        (OutputCheck(8, False, 1e-4), []),
        (None, []),
    ],
)
def test_what_the_outputs_look_like(row: Row, outputs: OutputCheck | None, expected: list[str]) -> None:
    row.add("clean", {"clean": clean(300)}, outputs=outputs)
    assert names(flags(row.results)) == expected


@pytest.mark.parametrize(("passes", "words"), [(None, "one draw"), (1, "one draw"), (16, "the mean of 16 draws")])
def test_it_is_said_how_many_draws_an_attack_followed(row: Row, passes: int | None, words: str) -> None:
    condition, outcomes, card = attacked("multi", 4, 100)
    condition = replace(condition, params={} if passes is None else {"eot": passes})
    row.add("pgd", {"a": (condition, outcomes, card)}, outputs=OutputCheck(8, False, 0.2))
    (flag,) = flags(row.results)
    assert f"so attacks follow {words} and are judged on another" in flag.sentence


def test_rows_are_kept_apart_and_unreadable_outcomes_take_no_part(row: Row) -> None:
    for seed in (0, 1):
        row.add("fgsm", {"a": attacked("single", 4, 100)}, seed)
    row.add("pgd", {"a": attacked("multi", 4, 300)}, 1)
    assert {key: names(found) for key, found in flags_by_row(row.results).items()} == {
        ("noise", "tiny", "pretrained", 1, "w"): ["single-step beats multi-step"]
    }
    outcomes_path(row.results[-1]).unlink()
    assert not flags_by_row(row.results)
