"""Runs commands in forks of a process that has imported everything, and kills them where a test says so.

A fork starts in milliseconds, so that a hundred kills take minutes. `python forks.py` reads one request a line from
standard input, a list of jobs that start at the same moment, and answers with a list of what became of each.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nsbench.types import Outcomes

LONGEST = 60  # seconds that a job may take before it is taken to hang
EVENTS = ("replace", "rename", "unlink")  # functions of os that are counted and where a job may be killed


@dataclass(frozen=True)
class Job:
    """A command of nsbench, or one write of a result."""

    folder: str  # where it runs; its cache and its temporary files lie below
    arguments: Sequence[str] = ()  # of nsbench
    write: Sequence[str] = ()  # instead: identity and bits of a result, see `write_one`
    kill: int = 0  # at this moment, from 1, as `Events` counts them; 0: never
    after: float | None = None  # killed after so many seconds


@dataclass(frozen=True)
class Ended:
    status: int  # as subprocess gives it: negative for a signal
    events: int  # moments at which it may have been killed; 0 where it was
    seconds: float
    output: str = field(repr=False, default="")


class Forks:
    """The process that forks; a context."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache  # of rendered data, which every job may read

    def __enter__(self) -> Forks:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "NSBENCH_CACHE": str(self.cache), "COLUMNS": "300"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()

    def run(self, *jobs: Job) -> list[Ended]:
        """All of these at the same moment."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self.process.stdin.flush()
        return [Ended(**one) for one in json.loads(self.process.stdout.readline())]


# --- in the process that forks ---------------------------------------------------------------------------------------


def serve() -> None:
    import made  # noqa: F401  for `write_one`
    import torch

    import nsbench.cli
    import nsbench.making.imagenet_c
    import nsbench.regression.measure
    import nsbench.report
    import nsbench.run.runner
    import nsbench.submission

    torch.set_num_threads(1)
    nsbench.registry.load_content()
    for line in sys.stdin:
        answers = _together([Job(**one) for one in json.loads(line)])
        print(json.dumps([asdict(one) for one in answers]), flush=True)


def _together(jobs: Sequence[Job]) -> list[Ended]:
    start = time.monotonic() + (0.02 if len(jobs) > 1 else 0)
    started = []
    for job in jobs:
        log = tempfile.TemporaryFile()  # noqa: SIM115  closed below
        reader, writer = os.pipe()
        if (process := os.fork()) == 0:
            os.close(reader)
            _end(_child, job, start, log.fileno(), writer)
        os.close(writer)
        started.append((job, process, reader, log))
    ended = {}
    while len(ended) < len(jobs):
        for job, process, *_ in started:
            if process in ended:
                continue
            seconds = time.monotonic() - start
            if seconds > (LONGEST if job.after is None else job.after):
                os.kill(process, signal.SIGKILL)
            if (status := _poll(process)) is not None:
                ended[process] = status, seconds
        time.sleep(0.001)
    answers = []
    for _, process, reader, log in started:
        with os.fdopen(reader) as pipe, log:
            events = int(pipe.read() or 0)
            log.seek(0)
            answers.append(Ended(ended[process][0], events, ended[process][1], log.read().decode(errors="replace")))
    return answers


def _poll(process: int) -> int | None:
    pid, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _end(work: Callable[..., int], *arguments: Any) -> None:
    """A fork never comes back."""
    status = 99
    try:
        status = work(*arguments)
    finally:
        os._exit(status)


def _child(job: Job, start: float, log: int, report: int) -> int:
    os.chdir(job.folder)
    os.environ |= {"NSBENCH_CACHE": f"{job.folder}/cache", "TMPDIR": f"{job.folder}/tmp"}
    tempfile.tempdir = None
    tempfile.gettempdir()  # which tries the folder by a file of its own
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    events = Events(job.kill)
    while time.monotonic() < start:
        pass
    try:
        status = write_one(*job.write) if job.write else _command(job.arguments)
    except Exception:  # noqa: BLE001  whatever it is, it is told
        import traceback

        traceback.print_exc()
        status = 98
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(report, str(events.count).encode())
    return status


def _command(arguments: Sequence[str]) -> int:
    from nsbench.cli import main

    try:
        main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


class Events:
    """Counts the moments before and behind every rename and removal of a file, and kills this process at one."""

    def __init__(self, kill: int) -> None:
        self.count, self.kill = 0, kill
        for name in EVENTS:
            setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(path: Any, *arguments: Any, **options: Any) -> None:
            there = options.get("dir_fd") is not None or os.path.lexists(path)
            if there:
                self._moment()
            real(path, *arguments, **options)
            if there:
                self._moment()

        return watched

    def _moment(self) -> None:
        self.count += 1
        if self.count == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)


def write_one(identity: str, bits: str) -> int:
    """Store a result in the folder results."""
    import made

    from nsbench.results import write_result
    from nsbench.results.samples import pack_samples
    from nsbench.statistics import accuracy

    outcomes = {"clean": outcomes_of(identity, bits)}
    conditions = tuple(made.condition(name, one) for name, one in outcomes.items())
    result = made.result(identity=identity, conditions=conditions, score=accuracy(outcomes))
    write_result(Path("results"), result, outcomes, pack_samples(identity, {"clean": []}))
    return 0


def outcomes_of(identity: str, bits: str) -> Outcomes:
    """Those of an identity, but for the last bits of a float."""
    rng = np.random.default_rng(int(identity, 16))
    predictions, norms = rng.integers(0, 10, 40), rng.random(40) * (1 + int(bits) * 1e-5)
    ids = np.array([f"clean/{k:05d}" for k in range(40)])
    return Outcomes(ids, np.arange(40) % 10, predictions, {"l2": norms.astype("f4")})


if __name__ == "__main__":
    serve()
