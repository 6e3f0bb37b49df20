"""Labels in another order: told from chance, explained where one order explains them, and silent for honest weak models."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import store
from click.testing import CliRunner

from nsbench.cli import main
from nsbench.data import wnids
from nsbench.health import flags
from nsbench.health.labels import NAME, doubts
from nsbench.leaderboard import build
from nsbench.results import ConditionResult, read_results, write_result
from nsbench.results.reader import OutcomesReader
from nsbench.statistics import accuracy
from nsbench.types import Outcomes, ThreatModel

N, K = 300, 10
IDS = np.array([f"{k:04}" for k in range(N)])
TRUE = np.arange(N) % K


def condition(split: str = "clean", **fields: object) -> ConditionResult:
    about = {"attack": None, "params": {}, "threat": None, "preprocess": "checkpoint", "n": N, "origin": "official",
             "data_digest": "0" * 16, "accuracy": 0.0}  # fmt: skip
    return ConditionResult(name=split, split=split, **(about | fields))  # type: ignore[arg-type]


def doubt(labels: np.ndarray, predictions: np.ndarray, **fields: object) -> str:
    one = condition(**fields)  # type: ignore[arg-type]
    found = doubts([one], {one.name: Outcomes(IDS, labels, predictions)})
    return found[0].words() if found else ""


def mostly(labels: np.ndarray, accuracy: float = 0.8, seed: int = 0) -> np.ndarray:
    """Predictions of a model with this accuracy."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(labels)) < accuracy, labels, rng.integers(0, K, len(labels)))


def test_a_weak_model_is_not_doubted() -> None:
    for share in (0.1, 0.2, 0.8):  # of which a tenth of the rest is right by luck
        assert doubt(TRUE, mostly(TRUE, share)) == ""


def test_few_images_of_many_classes_are_right_by_more_than_chance() -> None:
    """Twenty images of twenty classes, of a model of a thousand: four right ones are no accident, as 1 in 20 would say."""
    rng, flagged = np.random.default_rng(0), 0
    one, ids = condition("sketch"), np.array([f"{k:02}" for k in range(20)])
    for _ in range(100):
        labels = rng.permutation(1000)[:20]
        predictions = np.where(rng.random(20) < 0.3, labels, rng.integers(0, 1000, 20))
        flagged += bool(doubts([one], {one.name: Outcomes(ids, labels, predictions)}))
    assert flagged <= 5  # 22 of them against 1 in 20


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (TRUE + 1, "model's? Labels counted from one instead of zero would explain 7"),
        (TRUE - 1, "Labels one too low would explain 7"),
        (np.random.default_rng(3).permutation(K)[TRUE], "One and the same other class for each label would explain 7"),
        (np.random.default_rng(4).permutation(TRUE), ""),
    ],
)
def test_another_order_is_named(labels: np.ndarray, words: str) -> None:
    found = doubt(labels, mostly(TRUE))
    assert re.search(r"no more than by chance \((8\.9|9|10) %\)", found)  # labels of a class that nobody names are none
    assert found.endswith("?") if not words else words in found


def test_the_order_of_the_classes_names_is_recognised() -> None:
    """ImageNet's names sorted, as a list that somebody numbered anew has them: "abacus" is 0 there and 398 in truth."""
    names = wnids.names()
    in_order = sorted(names, key=str.lower)
    assert names[398].startswith("abacus")
    true = np.arange(1000).repeat(2)
    given = np.array([in_order.index(names[label]) for label in true])
    one = condition()
    ids = np.array([f"{k:04}" for k in range(2000)])
    (found,) = doubts([one], {one.name: Outcomes(ids, given, true)})
    assert "Labels in the order of the classes' names, not of their wnids, would explain 100 %" in found.words()


def test_what_is_hard_on_purpose_or_attacked_is_not_doubted() -> None:
    wrong = mostly(TRUE)
    assert doubt(TRUE + 1, wrong, split="a") == doubt(TRUE + 1, wrong, split="c/fog/5") == ""
    assert doubt(TRUE + 1, wrong, attack="fgsm", threat=ThreatModel("linf", 1 / 255)) == ""
    assert doubt(TRUE + 1, wrong, beforehand=ThreatModel("linf", 0.1)) == ""
    assert doubt(TRUE + 1, wrong, split="v2") != ""


def stored(folder: Path, suite: str, labels: np.ndarray) -> None:
    """A result of predictions that are mostly the true classes, held against these labels."""
    measured = {"clean": Outcomes(IDS, labels, mostly(TRUE))}
    made = store(folder, "mine", suite, np.ones(N, dtype=bool))
    made.path.unlink()
    ((name, one),) = measured.items()
    about = replace(made.conditions[0], name=name, accuracy=round(100 * float(one.correct.mean()), 4))
    write_result(folder, replace(made, score=accuracy(measured), conditions=(about,)), measured)


def test_the_page_flags_it_with_what_another_set_says(tmp_path: Path) -> None:
    stored(tmp_path, "clean", TRUE + 1)
    stored(tmp_path, "imagenet_v2", TRUE)
    results, _ = read_results(tmp_path)
    (flag,) = [one for one in flags(results, OutcomesReader()) if one.name == NAME]
    assert flag.suites == ("clean",)
    assert "The same weights have 7" in flag.sentence
    board = build(results)
    assert board.problems == ()
    (row,) = board.tables[0].rows
    assert NAME in {one.name for one in row.flags}
    shown = CliRunner().invoke(main, ["show", "--results", str(tmp_path), "--beside", "none"])
    assert NAME in shown.output
