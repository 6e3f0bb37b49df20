"""Steps in processes of this machine, one for each GPU, which they see as their only one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from nsbench import processes
from nsbench.files import available_cores
from nsbench.progress import Progress
from nsbench.run.engines.scheduler import Ended, Step
from nsbench.run.engines.work import Answer, Files, Perform, Sent, Trouble, Work

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus(count: int) -> list[str]:
    """The names under which a process of its own can be given each of the GPUs that this one sees."""
    named = [one.strip() for one in os.environ.get(VISIBLE, "").split(",") if one.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


@dataclass
class _Worker:
    """One process, and what it does now."""

    gpu: str | None
    process: BaseProcess
    pipe: Connection
    step: Step[Work] | None = None


@dataclass
class Pool:
    """An engine: see `scheduler.Engine`. `gpus`: one for each process, by name; None: it takes the CPU."""

    gpus: Sequence[str | None]
    perform: Perform
    sent: Sent
    files: Callable[[str], Files]
    progress: Progress
    workers: list[_Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers = [self._started(gpu) for gpu in self.gpus]

    def describe(self) -> str:
        return f"{len(self.workers)} processes, each with " + ("the CPU" if None in self.gpus else "a GPU of its own")

    def room(self) -> int:
        return len(self.workers)

    def submit(self, step: Step[Work]) -> None:
        free = next(worker for worker in self.workers if worker.step is None)
        free.step = step
        with suppress(OSError):  # it has died; `wait` finds that out
            free.pipe.send((step.work, [self.files(key) for key in step.work.weights]))

    def wait(self, seconds: float) -> list[Ended[Answer]]:
        busy = [worker for worker in self.workers if worker.step]
        ready = wait([worker.pipe for worker in busy], seconds)  # of one that has died, too: its end is read
        return [self._ended(worker) for worker in busy if worker.pipe in ready]

    def close(self) -> None:
        """Ends the processes, whatever they do."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self.workers = []

    def _ended(self, worker: _Worker) -> Ended[Answer]:
        step, worker.step = worker.step, None
        assert step is not None
        try:
            answer: Answer = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            self.workers[self.workers.index(worker)] = self._started(worker.gpu)
            return Ended(step.key, lost=f"its process ended with status {worker.process.exitcode}")
        if isinstance(answer, Trouble):
            answer = answer.with_host()
        return Ended(step.key, answer)

    def _started(self, gpu: str | None) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        cores = available_cores() // len(self.gpus)
        asked = theirs, gpu, cores, self.perform, self.sent
        process: Any = context.Process(target=_serve, args=asked, name=f"gpu {gpu}")
        process.start()
        theirs.close()
        return _Worker(gpu, process, ours)


def _serve(pipe: Connection, gpu: str | None, cores: int, perform: Perform, sent: Sent) -> None:
    """One work after the other, until the other end is closed."""
    processes.take_cores(cores)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    if gpu is not None:
        os.environ[VISIBLE] = gpu  # before CUDA looks
    while True:
        try:
            work, weights = pipe.recv()
            pipe.send(perform(sent, work, weights))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
