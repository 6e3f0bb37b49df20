"""The plan of a run: hours and bounds worked out by hand, and a plan beside what the run then counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from nsbench import registry
from nsbench.cli.main import main
from nsbench.errors import ModelError
from nsbench.progress import SILENT
from nsbench.results import read_results
from nsbench.run import kept_fits
from nsbench.run import plan as planning
from nsbench.run.cost import FitCost, PairCost, Work
from nsbench.run.job import open_job
from nsbench.run.options import RunOptions
from nsbench.run.plan import Plan, Planned, PlannedFit, plan
from nsbench.run.recording import Pair
from nsbench.run.runner import run
from nsbench.run.throughput import SECONDS, Throughput, measure
from nsbench.types import Passes


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


FAST = Throughput("this device", forward=0.001, backward=0.002, training=0.009)


def pair(method: str, suite: str, forwards: float, backwards: float = 0, fits: tuple[str, ...] = ()) -> Planned:
    return Planned(Pair(method, suite, 0), "to run", cost=PairCost(10, Passes(forwards, backwards)), fits=fits)


def fit(method: str, training: float, held: bool = False) -> PlannedFit:
    return PlannedFit(method, 0, FitCost(1, 1, Work(), Work(Passes(1000), training)), held)


def test_seconds_are_passes_times_what_one_takes() -> None:
    assert FAST.seconds(Work(Passes(1000, 500), 300)) == pytest.approx(1 + 1 + 300 / 3 * 0.009)
    assert Throughput("d", 0.001).seconds(Work(Passes(2000))) == 2
    assert Throughput("d", 0.001).seconds(Work(Passes(2000, 1))) is None  # no gradient comes back
    assert Throughput("d", 0.001).seconds(Work(Passes(), 1)) is None


def test_workers_share_the_work_but_no_chain() -> None:
    fits = {"a": fit("a", 3000), "b": fit("a+b", 6000), "c": fit("c", 9000, held=True)}  # 10 s, 19 s, none
    pairs = (
        pair("a", "x", 1000, fits=("a",)),  # 1 s
        pair("a+b", "x", 2000, 2000, fits=("a", "b")),  # 6 s
        pair("c", "x", 8000, fits=("c",)),  # 8 s
        Planned(Pair("d", "x", 0), "held already"),
    )
    found = Plan(pairs, fits, FAST)
    assert found.seconds(found.work) == pytest.approx(10 + 19 + 1 + 6 + 8)
    longest = found.longest()
    assert longest
    assert longest.pair.method == "a+b"
    assert found.seconds(longest.work) == pytest.approx(10 + 19 + 6)
    assert [found.seconds_with(n) for n in (1, 2, 8)] == [pytest.approx(n) for n in (44, 35, 35)]


def test_without_a_measurement_there_are_no_hours() -> None:
    found = Plan((pair("a", "x", 1000),))
    assert found.seconds(found.work) is None
    assert found.longest() is None
    assert found.seconds_with(2) is None


def test_the_measurement_is_of_the_model_and_short(tmp_path: Path) -> None:
    job = open_job(RunOptions((), (), results=tmp_path, recipe="quick", batch_size=8), SILENT)
    before = [value.clone() for value in job.parent.parameters()]
    found = measure(job, backwards=True, training=True)
    assert found.forward > 0
    assert found.backward is not None
    assert found.training is not None
    assert found.training > found.forward
    assert all(torch.equal(a, b) for a, b in zip(before, job.parent.parameters(), strict=True))
    assert measure(job, backwards=False, training=False).training is None
    assert SECONDS <= 3


def options(folder: Path, **more: object) -> RunOptions:
    return RunOptions(
        ("pretrained", "finetune"),
        ("clean", "fgsm"),
        results=folder / "results",
        weights=folder / "weights",
        limit=12,
        recipe="quick",
        **more,  # type: ignore[arg-type]
    )


def test_a_plan_beside_what_the_run_counted(tmp_path: Path) -> None:
    chosen = options(tmp_path)
    found = plan(chosen, measured=False)
    costs = {(one.pair.method, one.pair.suite): one.cost for one in found.pairs}
    # clean predictions are made once for both suites; each of five conditions attacks all and judges them twice
    assert costs["finetune", "clean"] == PairCost(12, Passes(12))
    assert costs["finetune", "fgsm"] == PairCost(5 * 12, Passes(5 * 12 * (1 + 2), 5 * 12))
    (training,) = found.fits.values()
    assert training.cost
    assert training.cost.most == training.cost.least == Work(training=3 * 8 * 16)
    assert not (tmp_path / "results").exists()
    run(chosen, SILENT)
    stored = {(one.method, one.suite): one for one in read_results(chosen.results)[0]}
    assert stored["finetune", "clean"].provenance.forward_equivalents == 3 * 8 * 16
    for name in ("pretrained", "finetune"):
        cards = [one.attack_card for one in stored[name, "fgsm"].conditions]
        attacked = sum(card.images for card in cards if card)
        assert sum(card.images * (card.forwards + 2) for card in cards if card) == attacked * 3 <= 5 * 12 * 3
    again = plan(chosen, measured=False)
    assert [one.state for one in again.pairs] == ["held already"] * 4
    assert (again.fits, again.work, again.bytes_of_results) == ({}, Work(), 0)
    more = plan(options(tmp_path, seeds=(0, 1)), measured=False)
    (other,) = more.fits.values()
    assert (other.seed, other.before, other.before_seed) == (1, 3 * 8 * 16, 0)
    assert more.bytes_of_results == 2 * (72 * 32 + 2 * 2_000_000)


def test_kept_weights_are_trained_once(tmp_path: Path) -> None:
    chosen = options(tmp_path)
    run(chosen, SILENT)
    chosen.results.rename(tmp_path / "old")
    found = plan(chosen, measured=False)
    assert [one.held for one in found.fits.values()] == [True]
    assert found.bytes_of_weights == 0
    assert found.work.training == 0


def test_equal_compute_is_planned_with_the_subject_as_the_budget(tmp_path: Path) -> None:
    found = plan(options(tmp_path, match="compute"), measured=False)
    measuring, *trainings = found.fits.values()
    assert (measuring.method, measuring.seed) == ("ns", 0)
    for training in trainings:
        assert training.cost
        assert training.cost.least.forward_equivalents < training.cost.most.forward_equivalents
    assert {one.state for one in found.pairs} == {"known once equal compute is measured"}


def test_equal_compute_is_known_once_its_measuring_training_is_kept(tmp_path: Path) -> None:
    chosen = options(tmp_path, match="compute", seeds=(0,))
    run(chosen, SILENT)
    found = plan(chosen, measured=False)
    assert {one.state for one in found.pairs} == {"held already"}
    assert found.work.training == 0
    more = plan(replace(chosen, seeds=(0, 5)), measured=False)
    assert [(one.method, one.seed) for one in more.fits.values()] == [("finetune", 5)]
    assert [one.state for one in more.pairs] == ["held already"] * 4 + ["to run"] * 4


def test_why_nothing_was_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> Throughput:
        raise ModelError("one image at a time does not fit into memory (x)")

    monkeypatch.setattr(planning, "measure", too_large)
    found = plan(options(tmp_path))
    assert (found.throughput, found.unmeasured) == (None, "one image at a time does not fit into memory (x)")


def printed(folder: Path, *more: str) -> str:
    chosen = ["run", "--method", "finetune,ns", "--suite", "clean,fgsm", "--limit", "4", "--recipe", "quick"]
    answer = CliRunner().invoke(main, [*chosen, "--dry-run", "--results", str(folder), *more])
    assert answer.exit_code == 0, answer.output
    return answer.output


@pytest.mark.usefixtures("own_weights")
def test_what_is_printed(tmp_path: Path) -> None:
    output = printed(tmp_path, "--no-measure")
    assert (
        "ns x fgsm: 5 conditions on shapes10: to run; 20 images, at most 60 forward and 20 backward passes\n" in output
    )
    assert "training of finetune (seed 0): 8 steps of 16 images, as much as 384 forward passes\n" in output
    assert "at most 128 forward and 40 backward passes" in output
    assert "measured on" not in output
    assert " GB of weights, 0.01 GB of results" in output


@pytest.mark.usefixtures("own_weights")
def test_hours_are_printed_where_the_model_is_timed(tmp_path: Path) -> None:
    output = printed(tmp_path)
    assert "images/s forward" in output
    assert " in one process; that work takes 2, 8, 64 workers at least " in output
    assert "the longest chain: ns x fgsm with its training" in output


@pytest.fixture
def own_weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted weights in a folder of this test's own; the drawn pictures stay where they are."""
    monkeypatch.setattr(kept_fits, "cache_folder", lambda: tmp_path_factory.mktemp("weights"))


def test_no_measure_goes_with_a_plan_alone() -> None:
    answer = CliRunner().invoke(main, ["run", "--method", "finetune", "--suite", "clean", "--no-measure"])
    assert answer.exit_code == 2
    assert "--no-measure: goes with --dry-run" in answer.output
