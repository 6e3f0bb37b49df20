"""Two and three processes of torchrun, on the CPU in float64, against one: weights, losses, costs, refusals."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from several_processes import TASKS, main
from training_reference import recipe, tiny_model

from nsbench import processes
from nsbench.processes.group import Group
from nsbench.training import step
from nsbench.training.draws import Drawn
from nsbench.training.state import State

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "tests" / "support" / "several_processes.py"
EXACT = 1e-9


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(count: int, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(count),
        "--master-port",
        free_port(),
    ]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY}:{SCRIPT.parent}", **environment}
    return subprocess.run([*command, *words], capture_output=True, text=True, env=environ, cwd=REPOSITORY, timeout=240)


def together(count: int, tasks: list[str], folder: Path) -> dict[str, Any]:
    """What so many processes give."""
    file = folder / f"{count}.pt"
    if count == 1:
        main(file, tasks)
    else:
        done = torchrun(count, str(SCRIPT), str(file), *tasks)
        assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = torch.load(file, weights_only=False)
    assert found["processes"] == count
    return found


def assert_alike(several: dict[str, Any], one: dict[str, Any]) -> None:
    assert several.keys() == one.keys()
    for name, value in one["weights"].items():
        torch.testing.assert_close(
            several["weights"][name], value, rtol=0, atol=EXACT, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert several["cost"] == one["cost"]
    for found, expected in zip(several["losses"] + several["noise"], one["losses"] + one["noise"], strict=True):
        assert found == pytest.approx(expected, rel=1e-6)  # distances of a noise are taken in float32


def test_shares_follow_one_another() -> None:
    for length in range(12):
        parts = [range(length)[processes.share(length, number, 5)] for number in range(5)]
        assert [place for part in parts for place in part] == list(range(length))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    tasks = ["mixed", "ns", "micro_batch", "madry"]
    one, two = (together(count, tasks, tmp_path) for count in (1, 2))
    for task in tasks:
        assert_alike(two[task], one[task])
        assert len({tuple(entry.values()) for entry in one[task]["losses"]}) == 2  # it has moved


def test_three_processes_evaluate_as_one(tmp_path: Path) -> None:
    """Each has its own images of a condition, and all get the outcomes of all, in the order of the split."""
    one, three = (together(count, ["evaluate"], tmp_path)["evaluate"] for count in (1, 3))
    for name, (outcomes, unreadable, card, samples, outputs) in one.items():
        theirs = three[name]
        for field in fields(outcomes):
            if field.name != "extra":
                np.testing.assert_equal(getattr(theirs[0], field.name), getattr(outcomes, field.name))
        assert theirs[0].extra.keys() == outcomes.extra.keys()
        for column, values in outcomes.extra.items():  # distances are of attacks, whose batches are other ones
            np.testing.assert_allclose(theirs[0].extra[column], values, rtol=1e-5 if column in ("linf", "l2") else 0)
        assert unreadable == theirs[1] == {"p22": "p22 cannot be decoded"}
        if card:  # its counts of passes depend on which images are attacked together, as with another batch size
            assert (card.images, card.steps, card.start) == (theirs[2].images, theirs[2].steps, theirs[2].start)
        assert [(s.id, s.prediction) for s in samples] == [(s.id, s.prediction) for s in theirs[3]]
        assert outputs == theirs[4]
        assert len(outcomes.ids) == 22
        assert 0 < outcomes.correct.mean() < 1 or name == "cw"  # which has no bound


@pytest.mark.parametrize(("other", "micro_batch"), [(True, 8), (False, 4)], ids=["drew too", "was out of memory"])
def test_what_a_step_is_repeated_for_is_agreed_on(
    monkeypatch: pytest.MonkeyPatch, other: bool, micro_batch: int
) -> None:
    """One process has drawn where nothing was to be drawn, and in the same step another one has drawn or lacks memory."""
    state, errors = State.fresh(tiny_model(8), recipe(batch_size=8)), iter([Drawn()])

    def update(*_: Any) -> dict[str, torch.Tensor]:
        for error in errors:
            raise error
        return {}

    monkeypatch.setattr(step, "_update", update)
    monkeypatch.setattr(processes, "gathered", lambda own: [own, other])
    assert step.take_step(state, None, None, None) == {}
    assert (state.draws, state.micro_batch, state.step) == (True, micro_batch, 1)


@pytest.mark.slow
def test_three_processes_train_as_one_by_every_method(tmp_path: Path) -> None:
    one, two, three = (together(count, list(TASKS), tmp_path) for count in (1, 2, 3))
    for task in TASKS:
        assert_alike(two[task], one[task])
        assert_alike(three[task], one[task])


def test_what_processes_cannot_share_is_refused_by_all_of_them(tmp_path: Path) -> None:
    said = {
        "permuted": "TrainingError: this training draws by 'randperm'",
        "broken": "TrainingError: the loss became NaN or infinite in round 1, step 1 of 2",
        "raising": "TrainingError: planted in the second process",
        "odd": "NsbenchError: the method's random draws differ in 2 processes",
        "too few": "UsageError: 3 images at a time and 2 processes",
        "compile": "UsageError: a compiled model is trained in one process",
        "terms": "NsbenchError: the terms of the loss, or the weights they reach, differ in 2 processes",
        "noise of each": "NsbenchError: the noises of round 1 differ in 2 processes",
    }
    found = together(2, [*said, "memory", "unsendable", "noise"], tmp_path)
    assert found["unsendable"]["said"][1] == "Local: of a class of this file"
    assert found["unsendable"]["said"][0].startswith("RuntimeError: ")
    assert found["unsendable"]["said"][0].endswith("Local: of a class of this file")
    assert found["noise"]["said"] == ["nothing"]
    assert found["noise"]["norms"] == together(1, ["noise"], tmp_path)["noise"]["norms"]
    for task, words in said.items():
        assert len(found[task]["said"]) == 2
        assert all(line.startswith(words) for line in found[task]["said"]), found[task]
    one = together(1, ["memory"], tmp_path)["memory"]
    assert found["memory"]["micro_batch"] == [4, 4]  # of all processes; halved in both, since one had no room
    assert one["micro_batch"] == [2, 2]
    for name, value in one["weights"].items():
        torch.testing.assert_close(found["memory"]["weights"][name], value, rtol=0, atol=EXACT)


def test_the_others_wait_longer_than_torch_does_of_itself(tmp_path: Path) -> None:
    """torch gives a new group half an hour, whatever its first group has; here it is three seconds."""
    script = tmp_path / "waits.py"
    script.write_text(
        "import time\n"
        "from datetime import timedelta\n"
        "from torch.distributed import distributed_c10d\n"
        "from nsbench import processes\n"
        "distributed_c10d.default_pg_timeout = timedelta(seconds=3)\n"
        "with processes.joined('cpu'):\n"
        "    assert processes.first(lambda: time.sleep(6) or 'made') == 'made'\n"
    )
    done = torchrun(2, str(script))
    assert done.returncode == 0, done.stderr[-2000:]


def test_cores_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbench.processes.group.available_cores", lambda: 8)
    assert processes.cores() == 8
    monkeypatch.setattr("nsbench.processes.group._group", Group(local_count=3, count=3))
    assert processes.cores() == 2
    monkeypatch.setattr("nsbench.processes.group._cores", 0)
    processes.take_cores(0)
    assert processes.cores() == 1
    processes.take_cores(5)
    assert processes.cores() == 5
