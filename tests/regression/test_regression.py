"""Verdicts, exit statuses, and what cannot be compared."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest
from regression_results import CORRUPTED, baseline, flags, outcomes_of, store
from scipy import stats

import nsbench as nb
from nsbench.regression import (
    Baseline,
    BaselineCheck,
    Entry,
    Reference,
    Rules,
    Verdict,
    check_results,
    read_baseline,
    write_baseline,
)
from nsbench.regression.junit import to_junit
from nsbench.regression.noise import Noise, Together
from nsbench.regression.output import to_annotations, to_json, to_markdown, to_text
from nsbench.results import Result
from nsbench.run.recording import Pair
from nsbench.types import Composition, ThreatModel

REPOSITORY = Path(__file__).parents[2]
N = 100


def verdict(held: Baseline, *results: Result, rules: Rules | None = None, **options) -> BaselineCheck:
    return check_results(held, results, rules or Rules(), **options)


@pytest.mark.parametrize(
    ("lose", "win", "expected"),
    [
        (0, 0, Verdict.OK),
        (7, 0, Verdict.OK),
        (12, 0, Verdict.REGRESSED),
        (0, 12, Verdict.IMPROVED),
        (14, 13, Verdict.OK),
        (20, 4, Verdict.REGRESSED),
    ],
)
def test_verdicts_of_an_accuracy(tmp_path: Path, before: Result, lose: int, win: int, expected: Verdict) -> None:
    after = store(tmp_path / "after", {"clean": flags(N, 80, lose=lose, win=win)})
    found = verdict(baseline(before), after)
    (comparison,) = found.suites
    assert comparison.verdict is expected
    assert (len(comparison.lost), len(comparison.won)) == (lose, win)
    assert comparison.drop == pytest.approx(lose - win)
    assert comparison.lost.tolist() == [f"clean/{k:05d}" for k in range(lose)]
    assert found.exit_status == (expected is Verdict.REGRESSED)


def test_a_drop_within_the_recorded_noise_is_none(tmp_path: Path, before: Result) -> None:
    after = store(tmp_path / "after", {"clean": flags(N, 80, lose=12)})
    assert verdict(baseline(before, noise=Noise(N, 0)), after).exit_status == 1
    assert verdict(baseline(before, noise=Noise(N, 9)), after).exit_status == 0


def test_rules(tmp_path: Path, before: Result) -> None:
    after = store(tmp_path / "after", {"clean": flags(N, 80, lose=12)})
    assert verdict(baseline(before), after, rules=Rules(min_drop=12.5)).exit_status == 0
    assert verdict(baseline(before), after, rules=Rules(min_drop=12)).exit_status == 1
    assert verdict(baseline(before), after, rules=Rules(alpha=1e-4)).exit_status == 0


def test_the_correction_covers_the_whole_check(tmp_path: Path) -> None:
    names = [f"suite{k}" for k in range(20)]
    held = baseline(*(store(tmp_path / "a", {"clean": flags(N, 80)}, suite=name) for name in names))
    results = [
        store(tmp_path / "b", {"clean": flags(N, 80, lose=10 * (name == "suite3"))}, suite=name) for name in names
    ]
    assert verdict(held, *results).exit_status == 0, (
        "p = 0.002, times twenty: no repeat tells that the others are quiet"
    )
    alone = check_results(held, results, Rules(), pairs=[("ns", "suite3")])
    assert alone.exit_status == 1
    assert alone.suites[0].p_adjusted == pytest.approx(2 * 0.5**10)


def test_min_drop_is_a_floor_on_the_drop_and_no_part_of_the_test(tmp_path: Path, before: Result) -> None:
    after = store(tmp_path / "after", {"clean": flags(N, 80, lose=12)})
    p = {floor: verdict(baseline(before), after, rules=Rules(min_drop=floor)).suites[0].p_adjusted for floor in (0, 12)}
    assert p[0] == p[12]


def test_a_small_drop_of_every_accuracy_is_found_on_average(tmp_path: Path) -> None:
    """Two images of each of ten suites: none can be named, and all of them together are beyond chance."""
    names = [f"suite{k}" for k in range(10)]
    ids = {name: [f"{name}/{k:05d}" for k in range(N)] for name in names}
    before = [store(tmp_path / "a", {"clean": flags(N, 80)}, suite=name, ids=ids[name]) for name in names]
    after = [store(tmp_path / "b", {"clean": flags(N, 80, lose=2)}, suite=name, ids=ids[name]) for name in names]
    quiet = Together(0, 0.0, 1, Noise(10 * N, 0, 0.0, 0.0, 0))
    held = baseline(*before, noise=Noise(N, 0, 0.0, 0.0, 0), repeats=1, moved={"ns": (0, 1000)}, together={"ns": quiet})
    found = verdict(held, *after)
    assert found.counts[Verdict.OK] == 10
    (average,) = found.methods
    assert (average.suites, average.verdict) == (10, Verdict.REGRESSED)
    assert average.drop == pytest.approx(2.0)
    assert found.exit_status == 1
    assert "10 ok; ns regressed on average" in to_text(found)
    assert "- ✗ <code>ns</code>: regressed on average" in to_markdown(found)
    assert [
        line for line in to_annotations(found) if line.startswith("::error title=nsbench check%3A ns::regressed on")
    ]
    assert json.loads(to_json(found))["methods"][0]["verdict"] == "regressed"
    cases = {case.get("name"): case.find("failure") for case in ET.fromstring(to_junit(found)).iter("testcase")}
    assert [name for name, failure in cases.items() if failure is not None] == ["average"]
    assert verdict(held, *before).exit_status == 0
    assert not check_results(held, after, Rules(), pairs=[("ns", "suite1")]).methods, "its noise was not recorded"


def test_mce_is_compared_over_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    right = {name: rng.random(60) < 0.7 for name in CORRUPTED}
    worse = {name: values & (rng.random(60) < 0.9) for name, values in right.items()}
    before, same, after = (
        store(tmp_path / where, outcome, suite="imagenet_c")
        for where, outcome in (("a", right), ("b", right), ("c", worse))
    )
    held = baseline(before)
    assert verdict(held, same).counts[Verdict.OK] == 1
    (comparison,) = verdict(held, after).suites
    assert comparison.verdict is Verdict.REGRESSED
    assert comparison.drop == pytest.approx(after.score.value - before.score.value)
    assert comparison.drop > 0, "mCE rose"
    values = [Entry.of(result).values for result in (before, after)]
    assert values[0].mean() == pytest.approx(before.score.value)
    assert comparison.p == pytest.approx(stats.ttest_rel(values[1], values[0]).pvalue)
    assert verdict(baseline(after), before).suites[0].verdict is Verdict.IMPROVED


STRONGER = {"attack": "fgsm", "threat": ThreatModel("linf", 8 / 255)}
INCOMPARABLE = {
    "no result": ({"suite": "fgsm"}, "no result"),
    "model": ({"model": "other"}, "model: other instead of vit_shapes10"),
    "source": ({"source": "imagenet"}, "source: imagenet instead of shapes10"),
    "version": ({"suite_version": 2}, "suite version: 2 instead of 1"),
    "pictures": ({"condition": {"data_digest": "1" * 16}}, "other data"),
    "threat": (
        {"condition": {"attack": "fgsm", "threat": ThreatModel("linf", 8 / 255)}},
        "conditions: fgsm instead of None",
    ),
    "resize": ({"condition": {"preprocess": "none"}}, "preprocessing: none instead of checkpoint"),
    "labels": ({"labels": [1] * N}, "90 (such as clean/00000) of 100 images have another label"),
    "images": ({"ids": [f"clean/{k:05d}" for k in range(1, N + 1)]}, "1 (such as clean/00000) of 100 images are not"),
}


@pytest.mark.parametrize("case", INCOMPARABLE)
def test_what_cannot_be_compared_is_named(tmp_path: Path, before: Result, case: str) -> None:
    changes, reason = INCOMPARABLE[case]
    found = verdict(baseline(before), store(tmp_path / "after", {"clean": flags(N, 80)}, **changes))
    (comparison,) = found.suites
    assert comparison.verdict is Verdict.INCOMPARABLE
    assert reason in comparison.reason
    assert found.exit_status == 3


def test_fewer_images_are_named(tmp_path: Path, before: Result) -> None:
    found = verdict(baseline(before), store(tmp_path / "after", {"clean": flags(60, 50)}))
    assert "images per condition: 60 instead of 100; 40 (such as clean/00060)" in found.suites[0].reason


def test_a_changed_score_function_is_incomparable(tmp_path: Path, before: Result) -> None:
    result = store(tmp_path / "after", {"clean": flags(N, 80)})
    wrong = replace(result, score=replace(result.score, value=81.0))
    (suite,) = verdict(baseline(before), wrong).suites
    assert suite.verdict is Verdict.INCOMPARABLE
    assert "says 81.0000, and the outcomes that its score is made of give 80.0000" in suite.reason
    halved = replace(result, score=replace(result.score, value=40.0, made_of=Composition({"clean": 50.0})))
    (suite,) = verdict(baseline(before), halved).suites
    assert suite.reason == "the score is made of its outcomes in another way than in the baseline"


def test_a_score_that_does_not_say_what_it_is_made_of(tmp_path: Path, before: Result) -> None:
    result = store(tmp_path / "after", {"clean": flags(N, 80)})
    silent = replace(result, score=replace(result.score, made_of=None))
    found = verdict(baseline(before), silent)
    assert found.suites[0].reason.endswith(
        "its suite does not say what its score is made of, so it cannot be compared image by image"
    )
    assert found.exit_status == 3


THREE_SEVERITIES = [f"{corruption}/{severity}" for corruption in ("fog", "snow") for severity in (1, 3, 5)]


@pytest.mark.parametrize(("lost", "status"), [(0, 0), (2, 0), (20, 1)])
def test_a_suite_of_ones_own_is_checked(tmp_path: Path, lost: int, status: int) -> None:
    """The mean error of three severities of two corruptions, with a planted drop under half of the conditions."""
    rng = np.random.default_rng(0)
    right = {name: rng.random(N) < 0.7 for name in THREE_SEVERITIES}
    planted = {name: values & ~((values.cumsum() <= lost) & name.startswith("fog")) for name, values in right.items()}

    def own(folder: Path, outcome: Mapping[str, np.ndarray]) -> Result:
        score = nb.weighted(outcomes_of(outcome), counts="wrong")
        return store(folder, outcome, suite="two_corruptions", score=score, unit="% error")

    before, after = own(tmp_path / "a", right), own(tmp_path / "b", planted)
    write_baseline(tmp_path / "b.json", baseline(before))
    found = verdict(read_baseline(tmp_path / "b.json"), after)
    (suite,) = found.suites
    assert found.exit_status == status, suite.reason
    assert suite.drop == pytest.approx(after.score.value - before.score.value)
    assert suite.drop == pytest.approx(100 * 3 * lost / (6 * N))
    assert suite.mcnemar is None, "a mean over conditions"


def test_a_regression_outweighs_what_is_incomparable(tmp_path: Path, before: Result) -> None:
    other = store(tmp_path / "before", {"clean": flags(N, 80)}, suite="fgsm")
    found = verdict(baseline(before, other), store(tmp_path / "after", {"clean": flags(N, 80, lose=30)}))
    assert found.counts == {Verdict.OK: 0, Verdict.IMPROVED: 0, Verdict.REGRESSED: 1, Verdict.INCOMPARABLE: 1}
    assert found.exit_status == 1


def test_a_pair_that_the_baseline_lacks(before: Result) -> None:
    found = verdict(baseline(before), before, pairs=[("ns", "clean"), ("madry", "clean")])
    assert found.exit_status == 3
    assert "record it anew" in found.suites[1].reason


def test_seeds_are_compared_one_by_one_and_a_failed_one_is_named(tmp_path: Path) -> None:
    seeds = [store(tmp_path / "a", {"clean": flags(N, 80)}, seed=seed) for seed in (0, 1, 2)]
    after = [store(tmp_path / "b", {"clean": flags(N, 80, lose=20 * seed)}, seed=seed) for seed in (0, 1)]
    found = verdict(baseline(*seeds), *after, why_missing={Pair("ns", "clean", 2, name_seed=True): "the disk is full"})
    assert [c.verdict for c in found.suites] == [Verdict.OK, Verdict.REGRESSED, Verdict.INCOMPARABLE]
    assert [c.key for c in found.suites] == ["ns x clean", "ns x clean (seed 1)", "ns x clean (seed 2)"]
    assert found.suites[2].reason == "the disk is full"


def test_of_several_results_the_same_recipe_counts(tmp_path: Path) -> None:
    recipes = {"a": made.recipe("shapes10"), "b": made.recipe("quick")}
    held = baseline(store(tmp_path / "0", {"clean": flags(N, 80)}, recipe=recipes["a"]))
    results = [
        store(
            tmp_path / name,
            {"clean": flags(N, 80, lose=40 * (name == "b"))},
            recipe=recipe,
            date=f"2026-0{k}-01T00:00:00",
            identity=name,
        )
        for k, (name, recipe) in enumerate(recipes.items(), 1)
    ]
    assert verdict(held, *results).exit_status == 0
    found = verdict(held, results[1])
    assert found.exit_status == 1
    assert found.suites[0].changes == ("recipe: name quick instead of shapes10",)


def test_moved_counts_an_image_once_and_fails_where_it_is_strict(tmp_path: Path) -> None:
    suites = ("clean", "fgsm", "cw")
    results = [store(tmp_path / "a", {"clean": flags(N, 80)}, suite=suite) for suite in suites]
    after = [store(tmp_path / "b", {"clean": flags(N, 80, lose=5, win=5)}, suite=suite) for suite in suites]
    held = baseline(*results, repeats=1, moved={"ns": (0, N)})
    found = verdict(held, *after)
    (moved,) = found.moved
    assert (moved.flipped, moved.images, moved.moved) == (10, N, True)
    assert found.exit_status == 0
    assert verdict(held, *after, rules=Rules(strict=True)).exit_status == 1
    assert verdict(held, *results, rules=Rules(strict=True)).exit_status == 0
    noisy = baseline(*results, repeats=1, moved={"ns": (8, N)})
    assert verdict(noisy, *after, rules=Rules(strict=True)).exit_status == 0


def test_cost_is_a_ratio_of_ratios(tmp_path: Path, before: Result) -> None:
    slow = store(tmp_path / "after", {"clean": flags(N, 80)}, seconds=12.0, fit_seconds=24.0)
    held = baseline(before, reference=Reference(1.0, 400))
    machine = Reference(2.0, 400)  # twice as slow, so three times the seconds are 1.5 times the work
    assert [cost.ratio for cost in verdict(held, slow, reference=machine).costs] == [1.5, 1.0]
    assert verdict(held, slow, reference=machine).exit_status == 0
    assert verdict(held, slow, reference=machine, rules=Rules(max_slowdown=1.4)).exit_status == 1
    assert not verdict(held, slow).costs
