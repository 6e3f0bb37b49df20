"""Processes and Ray tasks give the records of one process: identities, outcomes, scores; whole, and in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_clusters import cluster

from nsbench import registry, results
from nsbench.errors import UsageError
from nsbench.progress import SILENT
from nsbench.results import Result
from nsbench.run.engines import run, run_in_processes
from nsbench.run.options import RunOptions
from nsbench.run.runner import Summary

SHORT = {"rounds": "1", "steps_per_round": "2", "noise_max_steps": "3"}
OF_THE_MACHINE = {  # fields of provenance that say where and when
    *("date", "seconds", "fit_seconds", "peak_memory_mib", "history", "command", "device", "commit"),
}


def options(folder: Path, methods: tuple[str, ...], suites: tuple[str, ...], **fields: Any) -> RunOptions:
    registry.load_content()
    return RunOptions(
        methods, suites, limit=20, recipe="quick", settings=SHORT, device="cpu", batch_size=8, command="a test",
        results=folder / "results", weights=folder / "weights", **fields,
    )  # fmt: skip


def stored(folder: Path) -> dict[tuple[str, str], Result]:
    found, problems = results.read_results(folder / "results")
    assert problems == []
    assert not [path.name for path in folder.rglob("*") if path.suffix in (".turn", ".draft")]
    return {(one.method, one.suite): one for one in found}


def assert_alike(one: Result, other: Result) -> None:
    """All that is no time, place or cost."""
    for field in fields(Result):
        if field.name not in ("path", "file_sha256", "provenance", "conditions", "outcomes_sha256"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    for field in fields(one.provenance):
        if field.name not in OF_THE_MACHINE:
            assert getattr(one.provenance, field.name) == getattr(other.provenance, field.name), field.name
    for mine, theirs in zip(one.conditions, other.conditions, strict=True):
        assert replace(mine, attack_card=None) == replace(theirs, attack_card=None)
        if mine.attack_card:
            assert theirs.attack_card
            assert (mine.attack_card.images, mine.attack_card.steps) == (
                theirs.attack_card.images,
                theirs.attack_card.steps,
            )
    outcomes, others = results.read_outcomes(one), results.read_outcomes(other)
    for name, found in outcomes.items():
        for field in fields(found):
            np.testing.assert_equal(getattr(found, field.name), getattr(others[name], field.name))


def assert_same_grid(here: Path, there: Path) -> None:
    one, other = stored(here), stored(there)
    assert one.keys() == other.keys()
    for key, result in one.items():
        assert_alike(result, other[key])


def assert_done(summary: Summary, done: int, held: int = 0) -> None:
    assert (len(summary.done), len(summary.held), summary.missing, summary.failed) == (done, held, {}, {})
    assert len(set(summary.identities)) == done + held


@pytest.mark.timeout(900)  # on a busy machine; a minute on a quiet one
def test_two_processes_store_what_one_stores(tmp_path: Path) -> None:
    """What several GPUs do, on the CPU: a training, its pairs, one of them in parts."""
    here, there = (tmp_path / name for name in ("here", "there"))
    grid = (("pretrained", "finetune"), ("clean", "fgsm"))
    assert_done(run(options(here, *grid), SILENT), 4)
    assert_done(run_in_processes(options(there, *grid, shard_images=12), SILENT, [None, None]), 4)
    assert_same_grid(here, there)
    assert_done(run_in_processes(options(here, *grid), SILENT, [None]), 0, 4)
    assert_done(run(options(there, *grid), SILENT), 0, 4)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Callable[[], str]]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'nsbench[ray]'")
    with cluster(2, 1) as made:
        yield lambda: f"ray://{made.address}"


@pytest.mark.timeout(900)
def test_a_cluster_stores_what_one_process_stores(tmp_path: Path, two_nodes: Callable[[], str]) -> None:
    here, there = (tmp_path / name for name in ("here", "there"))
    grid = (("pretrained",), ("clean",))
    assert_done(run(options(here, *grid), SILENT), 1)
    assert_done(run(options(there, *grid, engine=two_nodes()), SILENT), 1)
    assert_same_grid(here, there)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_chain_and_three_suites_on_a_cluster_whole_and_in_parts(tmp_path: Path, two_nodes: Callable[[], str]) -> None:
    here, whole, parts = (tmp_path / name for name in ("here", "whole", "parts"))
    grid = (("pretrained", "finetune", "finetune+random_noise"), ("clean", "fgsm", "imagenet_c"))
    assert_done(run(options(here, *grid), SILENT), 9)
    assert_done(run(options(whole, *grid, engine=two_nodes()), SILENT), 9)
    assert_done(
        run(options(parts, *grid, engine=two_nodes(), shard_images=10), SILENT), 9
    )  # more than outputs are looked at
    assert_same_grid(here, whole)
    assert_same_grid(here, parts)
    assert_done(run(options(here, *grid, engine=two_nodes()), SILENT), 0, 9)
    assert_done(run(options(parts, *grid), SILENT), 0, 9)


def test_what_only_a_cluster_knows_is_refused_elsewhere(tmp_path: Path) -> None:
    for given in ({"shard_images": 5}, {"task_gpus": 0.5}):
        with pytest.raises(UsageError, match="goes with --engine ray"):
            run(options(tmp_path, ("pretrained",), ("clean",), **given), SILENT)


def test_without_ray_its_name_gives_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"--engine ray: the package is not installed .*pip install 'nsbench\[ray\]'"):
        run(options(tmp_path, ("pretrained",), ("clean",), engine="ray"), SILENT)
