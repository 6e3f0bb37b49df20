"""Verdicts, exit statuses, what cannot be compared, and the baseline file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest
from click.testing import CliRunner
from regression_results import CORRUPTED, baseline, flags, outcomes_of, store

import nsbench as nb
from nsbench import regression
from nsbench.cli import main
from nsbench.data.source import Split
from nsbench.errors import ResultError
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
from nsbench.regression.evidence import Noise, mean_pvalue
from nsbench.results import Result
from nsbench.run.opening import open_source
from nsbench.run.recording import Pair
from nsbench.types import Composition, ThreatModel

REPOSITORY = Path(__file__).parents[2]
N = 100


@pytest.fixture
def before(tmp_path: Path) -> Result:
    return store(tmp_path / "before", {"clean": flags(N, 80)})


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


def test_holm_covers_the_whole_check(tmp_path: Path) -> None:
    names = [f"suite{k}" for k in range(20)]
    held = baseline(*(store(tmp_path / "a", {"clean": flags(N, 80)}, suite=name) for name in names))
    results = [
        store(tmp_path / "b", {"clean": flags(N, 80, lose=10 * (name == "suite3"))}, suite=name) for name in names
    ]
    assert verdict(held, *results).exit_status == 0, "p = 0.002, times twenty"
    alone = check_results(held, results, Rules(), pairs=[("ns", "suite3")])
    assert alone.exit_status == 1
    assert alone.suites[0].p_holm == pytest.approx(2 * 0.5**10)


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
    assert comparison.p == mean_pvalue(values[1] - values[0])
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


# --- the baseline file


def test_a_baseline_comes_back_as_it_was(tmp_path: Path, before: Result) -> None:
    many = store(tmp_path / "c", {name: flags(60, 30) for name in CORRUPTED}, suite="imagenet_c")
    held = baseline(
        before,
        many,
        noise=Noise(200, 3, 0.5, 2.0),
        options={"limit": 100, "settings": {"rounds": "2"}},
        repeats=2,
        moved={"ns": (3, 200)},
        reference=Reference(0.5, 300.0),
        needs=("data",),
        versions={"torch": "2.15.0"},
    )
    write_baseline(tmp_path / "b.json", held)
    back = read_baseline(tmp_path / "b.json")
    for old, new in zip(held.entries, back.entries, strict=True):
        assert np.array_equal(old.right_CN, new.right_CN)
        assert np.array_equal(old.images.ids, new.images.ids)
        assert np.array_equal(old.images.labels, new.images.labels)
        assert (old.key, old.score, old.definition, old.noise) == (new.key, new.score, new.definition, new.noise)
        assert (old.model_facts, old.run_facts) == (new.model_facts, new.run_facts)
    assert replace(back, entries=()) == replace(held, entries=())
    assert verdict(back, before, many).exit_status == 0


def test_twelve_suites_of_five_hundred_images_stay_under_100_kb(tmp_path: Path) -> None:
    """With file names as in ImageNet's sets, and outcomes that do not compress."""
    rng = np.random.default_rng(0)
    wnids = [f"n{number:08d}" for number in rng.integers(1_440_000, 15_000_000, 1000)]

    def names(kind: str) -> list[str]:
        k = rng.integers(0, 1000, 500)
        stems = {
            "val": lambda i: f"ILSVRC2012_val_{rng.integers(1, 50_001):08d}.JPEG",
            "v2": lambda i: f"{rng.bytes(20).hex()}.jpeg",
            "a": lambda i: f"0.{rng.integers(0, 999_999):06d}_crane _ crane_0.{rng.integers(0, 9**8)}.jpg",
        }
        return [f"{wnids[i]}/{stems[kind](i)}" for i in k]

    labels = rng.integers(0, 1000, 500).tolist()
    validation = names("val")  # clean and the attacks share their images, as the corruptions do
    sets = [validation] * 4 + [names(kind) for kind in ("val", "a", "v2", "a", "val", "val", "val")]
    results = [
        store(tmp_path, {"clean": rng.random(500) < 0.7}, suite=f"suite{k}", ids=ids, labels=labels)
        for k, ids in enumerate(sets)
    ]
    results.append(
        store(tmp_path, {name: rng.random(500) < 0.6 for name in CORRUPTED}, suite="imagenet_c", ids=names("val"))
    )
    write_baseline(tmp_path / "b.json", baseline(*results, noise=Noise(500, 2, 0.1, 0.2)))
    assert (tmp_path / "b.json").stat().st_size < 100_000


def test_a_broken_baseline_is_one_line(tmp_path: Path, before: Result) -> None:
    path = tmp_path / "b.json"
    write_baseline(path, baseline(before))
    whole = path.read_bytes()
    broken = [whole[:cut] for cut in range(0, len(whole) - 2, 97)]
    broken += [
        whole.replace(b'"score":80.0', b'"score":90.0'),
        b"[]",
        b"null",
        b"\xff\xfe",
        whole.replace(b'"schema": 1', b'"schema": 2'),
    ]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ResultError, match=r"b\.json") as caught:
            read_baseline(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert read_baseline(path).entries, "line ends of another system do no harm"
    path.write_bytes(whole[:500])
    done = CliRunner().invoke(main, ["check", "--baseline", str(path), "--results", str(tmp_path)])
    assert done.exit_code == 3, "nothing was compared, which is no regression"


# --- subsets and the command line


@pytest.mark.parametrize("name", ["clean", "imagenet_r"])
def test_subsets_are_nested_stratified_and_the_same_in_any_order(name: str) -> None:
    split = open_source("shapes10").split({"clean": "clean", "imagenet_r": "r"}[name])

    class Shuffled(Split):
        def __init__(self) -> None:
            order = np.random.default_rng(0).permutation(len(split))
            self.name, self.ids, self.labels = split.name, split.ids[order], split.labels[order]

        def load(self, index: int):  # pragma: no cover
            raise AssertionError

        @property
        def digest(self) -> str:
            return "other order"

    chosen = {n: set(split.limited(n).ids.tolist()) for n in (60, 200, 500)}
    assert chosen[60] < chosen[200] < chosen[500]
    for n, ids in chosen.items():
        assert len(ids) == n
        assert set(Shuffled().limited(n).ids.tolist()) == ids
        counts = np.unique(split.limited(n).labels, return_counts=True)[1]
        assert counts.max() - counts.min() <= 1


def test_the_command(tmp_path: Path, before: Result) -> None:
    file, results = str(tmp_path / "b.json"), str(tmp_path / "after")
    write_baseline(Path(file), baseline(before))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["check", "--baseline", file, *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    store(tmp_path / "after", {"clean": flags(N, 80, lose=30)})
    status, text = run("--results", results)
    assert status == 1
    assert "1 regressed" in text
    assert run("--results", str(tmp_path / "before"))[0] == 0
    assert run("--results", results, "--min-drop", "40")[0] == 0
    assert run("--results", results, "--method", "all")[0] == 1
    assert run("--results", str(tmp_path / "before"), "--method", "pretrained,ns", "--suite", "clean")[0] == 3
    for wrong in (
        ["--results", str(tmp_path / "none")],
        ["--run", "--results", results],
        ["--method", "nss"],
        ["--results", results, "--normalisation", "imagenet"],
        ["--alpha", "2"],
        ["--limit", "3"],
    ):
        assert run(*wrong)[0] == 2, wrong


def test_an_unexpected_error_is_no_regression(tmp_path: Path, before: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    write_baseline(tmp_path / "b.json", baseline(before))

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(regression, "check_results", broken)
    arguments = ["check", "--baseline", str(tmp_path / "b.json"), "--results", str(tmp_path / "before")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 4
    assert done.output.startswith("nsbench: unexpected ZeroDivisionError: two lines (")
    assert done.output.count("\n") == 1


def test_a_check_of_stored_results_starts_without_torch(tmp_path: Path, before: Result) -> None:
    write_baseline(tmp_path / "b.json", baseline(before))
    code = (
        f"import sys; sys.argv = ['nsbench', 'check', '--baseline', {str(tmp_path / 'b.json')!r}, '--results', "
        f"{str(tmp_path / 'before')!r}]\n"
        "from nsbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=REPOSITORY)
