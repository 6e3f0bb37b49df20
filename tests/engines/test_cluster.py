"""The engine of a cluster with a stand-in for Ray: how it starts, and what is said and done of tasks that are lost.

The exceptions are Ray's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_books import Written

from nsbench.errors import UsageError
from nsbench.progress import Progress
from nsbench.run.engines import cluster
from nsbench.run.engines.cluster import LOST, PATIENCE, Cluster
from nsbench.run.engines.scheduler import RETRIES, Step, work_through
from nsbench.run.engines.work import Answer, PairWork, Refused, Reply, Sent
from nsbench.run.options import RunOptions

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'nsbench[ray]'")
NODE = {"NodeID": "one", "Alive": True, "Resources": {"CPU": 2.0}}
ASKED = RunOptions(("pretrained",), ("clean",), device="cpu", engine="ray")
SENT = Sent(ASKED, {}, (), {}, "", "")


class Double:
    """Ray, whose tasks end as `ends` says: with an exception, or with a reply."""

    exceptions = ray.exceptions

    def __init__(self, ends: Sequence[object] = (), starts: Sequence[Exception | None] = (None,)) -> None:
        self.ends, self.starts, self.begun, self.shut = list(ends), list(starts), 0, 0

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str, **_: Any) -> None:
        self.begun += 1
        if error := self.starts.pop(0):
            raise error

    def shutdown(self) -> None:
        self.shut += 1

    def nodes(self) -> list[dict[str, Any]]:
        return [NODE]

    def put(self, value: object) -> object:
        return value

    def remote(self, **_: Any) -> Callable[[object], Any]:
        double = self

        class Function:
            def remote(self, *_: Any) -> int:
                return len(double.ends)

        return lambda function: Function()

    def wait(self, references: list[int], **_: Any) -> tuple[list[int], list[int]]:
        return references, []

    def get(self, reference: int) -> object:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def cancel(self, reference: int, force: bool) -> None:
        raise AssertionError("nothing is in flight at the end")


def perform(sent: Sent, work: Any, weights: Any) -> Answer:
    raise AssertionError("the double runs nothing")


def made(monkeypatch: pytest.MonkeyPatch, double: Double, engine: str = "ray") -> Cluster:
    monkeypatch.setattr(cluster, "_ray", lambda: double)
    asked = RunOptions(("pretrained",), ("clean",), device="cpu", engine=engine)
    return Cluster(asked, SENT, lambda key: {}, Progress(), perform)


def done_after(monkeypatch: pytest.MonkeyPatch, ends: Sequence[object]) -> Written:
    book, workers = Written(), made(monkeypatch, Double(ends))
    work = PairWork("pretrained", "clean", 0, None, "identity")
    work_through([Step("a", work)], workers, book)
    workers.close()
    return book


REPLY = Reply("one", Refused("a value of some kind"))
OUT_OF_MEMORY = ray.exceptions.OutOfMemoryError(
    "Task was killed due to the node running low on memory.\nMany more lines"
)


def test_a_task_that_took_too_much_memory_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    book = done_after(monkeypatch, [OUT_OF_MEMORY] * RETRIES + [REPLY])
    assert (list(book.ended), book.failed) == (["a"], {})


def test_one_that_always_takes_too_much_memory_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    book = done_after(monkeypatch, [OUT_OF_MEMORY] * (RETRIES + 1))
    assert list(book.ended) == []
    assert book.failed == {
        "a": "its worker used more memory than its machine has; give each task more with --task-memory GB"
    }


def test_what_is_said_of_lost_tasks_are_names_of_rays_exceptions() -> None:
    for name in LOST:
        assert issubclass(getattr(ray.exceptions, name), ray.exceptions.RayError), name


SLOW = Exception("The current node timed out during startup. This could happen because\nof this and that")


def test_ray_that_was_slow_to_start_here_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Double(starts=[SLOW, None])
    workers = made(monkeypatch, double)
    assert (double.begun, double.shut) == (2, 1)
    workers.close()
    assert double.shut == 2


@pytest.mark.parametrize(
    ("engine", "starts", "words"),
    [
        (
            "ray",
            [SLOW, SLOW],
            "--engine ray: Ray did not start on this machine (The current node timed out during startup. This could "
            "happen because); try again when it is less busy, or run without --engine",
        ),
        (
            "ray://head:6379",
            [ConnectionError("")],
            "--engine ray://head:6379: there is no Ray cluster (ConnectionError); start one with ray start --head and join "
            "this machine with ray start --address, or leave the address out",
        ),
    ],
)
def test_ray_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, engine: str, starts: list[Exception | None], words: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UsageError) as told:
        made(monkeypatch, Double(starts=starts), engine)
    assert str(told.value) == words
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_travels_is_known_without_torch() -> None:
    """A worker that only sleeps, as in the simulation, is small."""
    code = "import sys, engine_doubles, nsbench.run.engines.cluster; sys.exit('torch' in sys.modules)"
    places = os.pathsep.join(
        str(Path(__file__).parents[number]) + place for number, place in ((2, ""), (1, "/support"))
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": places}).returncode == 0


def test_the_patience_of_ray_is_given_by_settings_that_it_has() -> None:
    """They are written into its compiled core, with this prefix."""
    core = ray._raylet.__file__
    assert core
    with open(core, "rb") as file:
        content = file.read()
    for name in PATIENCE:
        assert name.removeprefix("RAY_").encode() in content, name


ON_GPUS = """
import os
from nsbench.run.engines.cluster import Cluster
import ray, time
from nsbench.progress import SILENT
from nsbench.run.engines.scheduler import Step
from nsbench.run.engines.work import PairWork, Refused, Sent
from nsbench.run.options import RunOptions

def told(sent, work, weights):
    os.first = getattr(os, "first", os.environ["CUDA_VISIBLE_DEVICES"])  # what CUDA would go on with
    time.sleep(0.1 * len(work.identity))
    return Refused(f"{os.environ['CUDA_VISIBLE_DEVICES']} {os.first}")

ray.init("local", num_cpus=3, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
asked = RunOptions(("pretrained",), ("clean",), engine="ray")
engine = Cluster(asked, Sent(asked, {}, (), {}, "", ""), lambda key: {}, SILENT, told)
for lengths in [(3, 9), (7,), (8, 4), (7,), (3, 9), (7,)]:
    for length in lengths:
        identity = "i" * length
        engine.submit(Step(identity, PairWork("pretrained", "clean", 0, None, identity, ())))
    while engine.flight:
        for ended in engine.wait(5.0):
            print("told", ended.value.why if ended.value else ended.lost, flush=True)
ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_works_on_the_gpu_that_ray_gave_it(tmp_path: Path) -> None:
    """Two GPUs that are names alone: CUDA keeps the first one that its process was given."""
    script = tmp_path / "on_gpus.py"
    script.write_text(ON_GPUS)
    own = {"PYTHONPATH": str(Path(cluster.__file__).parents[3]), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=os.environ | own)
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("told")]
    assert len(lines) == 9, done.stdout + done.stderr
    assert all(seen == first for seen, first in lines), lines
    assert {seen for seen, _ in lines} == {"0", "1"}
