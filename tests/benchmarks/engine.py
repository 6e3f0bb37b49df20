"""What the scheduling of a large grid costs: real driver, real Ray, and sleeps instead of trainings and evaluations.

    python tests/benchmarks/engine.py [--pairs 10000] [--workers 64] [--pair-seconds S] [--fit-seconds S] [--fails 0.05]
        [--without-ray]

A task sleeps as long as the work that it stands for takes (measured on one GPU: give your own), and with probability
--fails its worker is killed at the end of it. The driver is the real one: it makes the grid, takes turns, stores each
result as three files, and retries. Workers are Ray's processes of this machine, which sleep and need no core. To
expect: at most 2 % of the time beyond the work divided by the workers, the driver's own memory (without the files that it
maps: libraries, images) below 1 GiB, and each pair stored once. Exit status 1 otherwise. Lost work counts as work: a
task that dies is paid twice.

With --without-ray nobody sleeps: the clock goes on while the driver works, and jumps to the end of the next task where
the driver waits for one. So a grid that takes days is gone through in minutes, with what the driver takes counted as it
is, its CPU and its disk.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import resource
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import engine_doubles
from ray_clusters import cluster

from nsbench import registry, results
from nsbench.progress import Progress
from nsbench.run.engines import run
from nsbench.run.engines.cluster import Cluster
from nsbench.run.engines.driver import Start, run_with
from nsbench.run.engines.scheduler import Ended, Step
from nsbench.run.engines.work import Answer, FitWork, Sent, Work
from nsbench.run.options import RunOptions

METHODS, SUITES = ("finetune", "random_noise", "mixup", "sam"), ("clean", "fgsm", "cw", "imagenet_a", "imagenet_r")
MOST_OVERHEAD, MOST_MIB = 0.02, 1024


class Minutes(Progress):
    """The lines that a file would get."""

    def line(self, text: str = "", style: str = "") -> None:
        if style != "dim":
            print(text, flush=True)


class Counted(Cluster):
    """Counts tasks that were lost with their worker."""

    lost = 0

    def wait(self, seconds: float) -> list[Ended[Answer]]:
        ended = super().wait(seconds)
        Counted.lost += sum(bool(one.lost) for one in ended)
        return ended


class Alarms:
    """Workers that are an alarm clock each: what the driver costs by itself, without Ray. Waits are left out."""

    all_left_out = 0.0  # of the run that has ended

    def __init__(self, asked: argparse.Namespace, sent: Sent) -> None:
        self.asked, self.sent, self.draws = asked, sent, random.Random(0)
        self.queue: deque[Step[Work]] = deque()
        self.clocks: list[tuple[float, str, Step[Work]]] = []
        self.left_out = 0.0  # seconds of waiting

    def describe(self) -> str:
        return f"{self.asked.workers} alarm clocks"

    def room(self) -> int:
        return int(self.asked.workers * 3 // 2)

    def now(self) -> float:
        return time.perf_counter() + self.left_out

    def submit(self, step: Step[Work]) -> None:
        self.queue.append(step)
        self._start(self.now())

    def wait(self, seconds: float) -> list[Ended[Answer]]:
        self.left_out += max(0.0, self.clocks[0][0] - self.now())
        ended, now = [], self.now()
        while self.clocks and self.clocks[0][0] <= now:
            due, _, step = heapq.heappop(self.clocks)
            self._start(due)
            lost = self.draws.random() < self.asked.fails
            Counted.lost += lost
            answer = None if lost else engine_doubles.answer(self.sent, step.work)
            ended.append(Ended(step.key, answer, "its worker was killed" if lost else ""))
        return ended

    def close(self) -> None:
        Alarms.all_left_out, self.clocks = self.left_out, []

    def _start(self, now: float) -> None:
        """A free worker takes the next task: at once, or when it ended the one before."""
        while self.queue and len(self.clocks) < self.asked.workers:
            step = self.queue.popleft()
            takes = self.asked.fit_seconds if isinstance(step.work, FitWork) else self.asked.pair_seconds
            heapq.heappush(self.clocks, (now + takes, step.key, step))


def main() -> int:
    asked = _asked()
    registry.load_content()
    seeds = tuple(range(-(-asked.pairs // (len(METHODS) * len(SUITES)))))
    pairs, fits = len(seeds) * len(METHODS) * len(SUITES), len(seeds) * len(METHODS)
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        folder = Path(root)
        template = get_context("spawn").Process(target=_write_template, args=(folder,))
        template.start()
        template.join()  # in another process, whose memory is not the driver's
        doubles = {"FIT": asked.fit_seconds, "PAIR": asked.pair_seconds, "FAILS": asked.fails}
        options = _options(folder, METHODS, SUITES, seeds=seeds)
        start: Start = lambda sent, files, progress: Alarms(asked, sent)  # noqa: E731
        if not asked.without_ray:
            environment = {f"NSBENCH_TEST_{name}": str(value) for name, value in doubles.items()}
            made = stack.enter_context(cluster(1, asked.workers, **environment))
            options = replace(options, engine=f"ray://{made.address}")
            _warm_up(made.address)
            start = partial(Counted, options, perform=engine_doubles.asleep)
        began, spent = time.perf_counter(), time.process_time()
        summary = run_with(start, options, Minutes())
        busy, spent = time.perf_counter() - began, time.process_time() - spent
        seconds = busy + Alarms.all_left_out
        peak, own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, _own_mib()
        stored, problems = results.read_results(folder / "results")
    tasks = pairs + fits + Counted.lost
    took = f", {busy:.0f} s in all" if asked.without_ray else ""
    work = fits * asked.fit_seconds + pairs * asked.pair_seconds
    work += Counted.lost * work / (pairs + fits)
    overhead = seconds / (work / asked.workers) - 1
    once = len({one.identity for one in stored}) == len(stored) == len(summary.done) == pairs - len(summary.failed)
    print(
        f"{pairs} pairs and {fits} trainings on {asked.workers} workers: {tasks} tasks, {Counted.lost} lost, "
        f"{len(summary.failed)} given up; {seconds:.1f} s for {work / asked.workers:.1f} s of work on each worker, "
        f"overhead {100 * overhead:.1f} % (target {100 * MOST_OVERHEAD:.0f} %); driver {spent:.1f} s of CPU, "
        f"{1000 * spent / tasks:.1f} ms a task{took}, {own} MiB of its own (target {MOST_MIB}), at most {peak} with "
        f"mapped files; each once: {once}"
    )
    return 0 if once and not problems and overhead <= MOST_OVERHEAD and own < MOST_MIB else 1


def _options(folder: Path, methods: tuple[str, ...], suites: tuple[str, ...], **fields: object) -> RunOptions:
    return RunOptions(
        methods, suites, limit=20, recipe="quick", device="cpu", results=folder / "results", weights=folder / "weights",
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def _own_mib() -> int:
    """Memory that is this process's alone: of Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:"))) >> 10


def _write_template(folder: Path) -> None:
    """A result of the kind that every pair gives."""
    registry.load_content()
    made = run(_options(folder / "made", ("pretrained",), ("clean",)), Progress()).results[0]
    assert made.path
    (folder / "template.json").write_bytes(made.path.read_bytes())
    (folder / "template.parquet").write_bytes(results.outcomes_content(made))


def _warm_up(address: str) -> None:
    """All workers are started before the clock: they are started once, however large the grid is."""
    import ray

    ray.init(address, log_to_driver=False, logging_level="ERROR")
    count = int(ray.cluster_resources()["CPU"])
    sleep = ray.remote(num_cpus=1)(lambda seconds: time.sleep(seconds))  # Ray takes no built-in function
    ray.get([sleep.remote(float(os.environ.get("NSBENCH_TEST_WARM", "5"))) for _ in range(count)])


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What the scheduling of a large grid costs.")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--pair-seconds", type=float, default=20.0)
    parser.add_argument("--fit-seconds", type=float, default=60.0)
    parser.add_argument("--fails", type=float, default=0.05)
    parser.add_argument("--without-ray", action="store_true", help="workers are alarm clocks in the driver's process")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
