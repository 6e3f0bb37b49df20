"""Steps as jobs of SLURM, or, where there is no scheduler, as processes of this machine; submitit runs both.

The command's own process plans, submits and stores. What jobs need and what they answer lies in the folder of its jobs
(`jobs.py`), which the machines share: it is beside the results.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbench.errors import NsbenchError, UsageError
from nsbench.files import write_atomically
from nsbench.progress import Progress, duration
from nsbench.run.engines.jobs import WEIGHTS, Book, begin, left_behind
from nsbench.run.engines.queues import LocalQueue, Queue, SlurmQueue, cancel_left, has_slurm, local_gpus
from nsbench.run.engines.scheduler import Ended, Step
from nsbench.run.engines.slurm_settings import NAME, SlurmSettings
from nsbench.run.engines.work import (
    Answer,
    Files,
    Fit,
    Measured,
    PairWork,
    Part,
    Perform,
    Refused,
    Reply,
    Sent,
    Trouble,
    Work,
)

if TYPE_CHECKING:
    from nsbench.run.options import RunOptions

SENT = "sent.pickle"
FITS = 16  # whose weights are kept for jobs to come
MARGIN = 300.0  # seconds before its limit from which on a job that is told to end has used its time up
REFUSALS = 30  # of sbatch, one after the other, a minute apart
AGAIN = 60.0
LOST = {  # states of SLURM: what to say
    "OUT_OF_MEMORY": "its job used more memory than it had; give each more with --slurm memory=GB",
    "TIMEOUT": "its job took longer than it may; give more with --slurm time=H:MM:SS",
    "NODE_FAIL": "its machine was lost",
    "PREEMPTED": "its job had to make room for another one",
    "CANCELLED": "its job was cancelled",
}


class OutOfTime(BaseException):
    """The time of a job is used up: what it does ends, whatever would catch an Exception."""


@dataclass
class Task:
    """What a job calls; submitit keeps it as a file."""

    perform: Perform
    folder: Path
    work: Work
    weights: tuple[Path, ...]  # of the fits that it starts from
    minutes: int  # that a job may take
    left: int  # how often a training may go on in another job's time
    began: float | None = None  # by the clock of the machine that it is on

    def __call__(self) -> Reply:
        from submitit import JobEnvironment

        os.register_at_fork(after_in_child=_ignore_preemption)
        self.began = time.monotonic()
        node = begin(self.folder, JobEnvironment().job_id)
        sent = pickle.loads((self.folder / SENT).read_bytes())
        try:
            answer = self.perform(sent, self.work, [pickle.loads(path.read_bytes()) for path in self.weights])
        except OutOfTime as error:
            answer = Refused(str(error))
        if isinstance(answer, Refused | Trouble):
            print(answer.why, file=sys.stderr, flush=True)  # the log's last line
        return Reply(node, answer)

    def checkpoint(self) -> Any:
        """Called when the job is to end: what to do in its next turn in the queue.

        Raises OutOfTime where its time is used up, and another one would end in the same way.
        """
        from submitit.helpers import DelayedSubmission

        limit, task = 60.0 * self.minutes, replace(self, began=None)
        if self.began is None or time.monotonic() - self.began < max(limit - MARGIN, 0.5 * limit):
            return DelayedSubmission(task)
        if isinstance(self.work, PairWork):
            raise OutOfTime(f"{_too_long(self.minutes)}, or divide it with --shard-images N")
        if not self.left:
            raise OutOfTime(f"{_too_long(self.minutes)}, or --slurm requeues=N")
        return DelayedSubmission(replace(task, left=self.left - 1))


def _too_long(minutes: int) -> str:
    return f"takes longer than the {duration(60 * minutes)} of its job; give more with --slurm time=H:MM:SS"


def _ignore_preemption() -> None:
    """Processes that read images were given what handles the signal, too: it is for the job's own process alone."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclass
class _Flying:
    """A step whose job is in the queue."""

    step: Step[Work]
    job: Any


class Slurm:
    """An engine: see `scheduler.Engine`. Steps that are submitted before the next `wait` become one array."""

    def __init__(
        self,
        options: RunOptions,
        settings: SlurmSettings,
        sent: Sent,
        files: Callable[[str], Files],
        progress: Progress,
        perform: Perform,
    ) -> None:
        self.submitit = _submitit()
        self.files, self.progress, self.perform = files, progress, perform
        self.collected: list[Step[Work]] = []
        self.flight: dict[str, _Flying] = {}  # by the job's id
        self.weights: OrderedDict[str, Path] = OrderedDict()  # of fits, by key
        self.refusals, self.later, self.was_taken = 0, 0.0, False
        self.book = Book(options.results, "slurm" if has_slurm() else "local")
        self.queue: Queue | None = None
        try:
            self._clear_left(options.results)
            write_atomically(self.book.folder / SENT, pickle.dumps(sent))
            self.settings, self.queue = self._opened(settings, options.device)
        except BaseException:
            self.close()
            raise

    def _opened(self, settings: SlurmSettings, device: str) -> tuple[SlurmSettings, Queue]:
        if has_slurm():
            filled = settings.filled(int(device != "cpu"))
            return filled, SlurmQueue(self.submitit, filled, self.book.folder)
        self.progress.line(
            "no SLURM scheduler here (sbatch and srun are not on PATH): jobs run as processes of this machine",
            style="yellow",
        )
        gpus = local_gpus(settings.gpus, device)
        filled = settings.model_copy(update={"gpus": None}).filled(int(bool(gpus)))
        return filled, LocalQueue(self.submitit, filled, self.book.folder, gpus)

    def describe(self) -> str:
        assert self.queue
        return self.queue.describe()

    def room(self) -> int:
        assert self.queue
        return self.queue.room

    def submit(self, step: Step[Work]) -> None:
        self.collected.append(step)

    def wait(self, seconds: float) -> list[Ended[Answer]]:
        assert self.queue
        end = time.monotonic() + seconds
        while True:
            if self.collected and time.monotonic() >= self.later:
                self._submit_collected()
            ended = self.queue.ended({name: one.job for name, one in self.flight.items()})
            if ended or time.monotonic() >= end:
                return [self._ended(self.flight.pop(name), state) for name, state in ended.items()]
            time.sleep(self.queue.pause)

    def close(self) -> None:
        """Cancels what is in flight, or was being submitted. Where that cannot be done, the next command tries again."""
        if self.queue and (self.flight or self.collected) and (why := self.queue.cancel()):
            self.progress.line(f"its jobs could not be cancelled: {why}; the next command does it", style="yellow")
            self.book.failed = True
        self.flight.clear()
        self.book.close()

    def _submit_collected(self) -> None:
        """All at once. Where the scheduler takes nothing now, they stay collected."""
        assert self.queue
        tasks = [self._task(step) for step in self.collected]
        refusal = (self.submitit.core.utils.FailedJobError, self.submitit.core.utils.FailedSubmissionError, OSError)
        try:
            jobs = self.queue.submit(tasks)
        except refusal as error:
            self._refused(_line(error))
            return
        steps, self.collected, self.refusals = self.collected, [], 0
        for step, job in zip(steps, jobs, strict=True):
            self.flight[job.job_id] = _Flying(step, job)
            self.book.note(job.job_id, str(step.work), "submitted")
        self.was_taken = True

    def _refused(self, why: str) -> None:
        """Raises NsbenchError where the scheduler has taken nothing at all, or nothing for long."""
        if not self.was_taken:
            raise UsageError(f"--engine slurm: sbatch takes no job ({why}); correct what --slurm asks for")
        self.refusals += 1
        if self.refusals > REFUSALS:
            raise NsbenchError(f"sbatch takes no job any more ({why}); the same command goes on from what is stored")
        self.later = time.monotonic() + AGAIN
        self.progress.line(f"sbatch takes no job now ({why}); it is asked again in a minute", style="yellow")

    def _task(self, step: Step[Work]) -> Task:
        weights = tuple(self._kept(key) for key in step.work.weights)
        return Task(self.perform, self.book.folder, step.work, weights, self.settings.time, self.settings.requeues)

    def _kept(self, key: str) -> Path:
        """The files of a fit as one in the folder of the jobs; of those that no job needs the latest stay."""
        if key not in self.weights:
            path = self.book.folder / WEIGHTS / f"{key}.pickle"
            write_atomically(path, pickle.dumps(dict(self.files(key))))
            self.weights[key] = path
        self.weights.move_to_end(key)
        steps = [*self.collected, *(one.step for one in self.flight.values())]
        needed = {one for step in steps for one in step.work.weights}
        for old in [one for one in self.weights if one not in needed][: max(0, len(self.weights) - FITS)]:
            self.weights.pop(old).unlink(missing_ok=True)
        return self.weights[key]

    def _ended(self, flying: _Flying, state: str) -> Ended[Answer]:
        """`state`: the scheduler's word for a job that gave no answer."""
        ended = self._without_answer(flying.step, state) if state else self._answered(flying.step, flying.job)
        why = ended.value.why if isinstance(ended.value, Refused | Trouble) else ended.lost
        self.book.note(flying.job.job_id, str(flying.step.work), "failed" if why else "done", why)
        return ended

    def _without_answer(self, step: Step[Work], state: str) -> Ended[Answer]:
        why = LOST.get(state, f"its job ended without an answer ({state})")
        if state == "CANCELLED" or (state == "TIMEOUT" and isinstance(step.work, PairWork)):  # it would end so again
            return Ended(step.key, Refused(why))
        return Ended(step.key, lost=why, counts=state != "PREEMPTED")

    def _answered(self, step: Step[Work], job: Any) -> Ended[Answer]:
        assert self.queue
        try:
            reply = job.result()
        except Exception as error:  # noqa: BLE001  whatever a broken pickle raises, or the job's own error: a line
            return Ended(step.key, lost=f"its job failed: {_line(error)}")
        answer = reply.answer if isinstance(reply, Reply) else reply
        if not isinstance(answer, Fit | Measured | Part | Refused | Trouble):
            return Ended(step.key, lost=f"its job gave an answer that is none ({type(answer).__name__})")
        if not isinstance(answer, Trouble):
            return Ended(step.key, answer)
        if self.queue.avoid(reply.node):
            self.progress.line(f"{reply.node} does no more work of this run: {answer.why}", style="yellow")
            return Ended(step.key, lost=answer.why)
        return Ended(step.key, answer.with_host())

    def _clear_left(self, results: Path) -> None:
        """Jobs of commands that were killed are cancelled: nobody would take what they give."""
        for left in left_behind(results, self.book.folder):
            cancelled = cancel_left(left)
            if isinstance(cancelled, str):
                self.progress.line(
                    f"{left.folder.name}: jobs of a command that was killed are left alone: {cancelled}", style="yellow"
                )
                continue
            if cancelled:
                self.progress.line(f"jobs of a command that was killed: {cancelled} cancelled", style="yellow")
            shutil.rmtree(left.folder, ignore_errors=True)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UsageError(
            f"--engine {NAME}: the package submitit is not installed ({error}); pip install 'nsbench[slurm]'"
        ) from error
    logging.getLogger("submitit").setLevel(logging.CRITICAL)  # here, not in jobs, whose logs have its lines
    return submitit


def _line(error: BaseException) -> str:
    """The last one that says something: of a traceback the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    told = [line for line in lines if not line.startswith(("You can check full logs", "- /"))]
    return told[-1] if told else type(error).__name__
