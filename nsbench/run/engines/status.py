"""What the jobs of a results folder do now, by the folders of their commands, and by the queue where it can be asked."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nsbench.run.engines.jobs import TURN, Jobs, Noted, read_jobs
from nsbench.run.engines.queues import Queued, queued, runs_here
from nsbench.run.turns import LAPSES

State = Literal["running", "waiting", "ended", "failed"]
STATES: tuple[State, ...] = ("running", "waiting", "ended", "failed")  # "ended": the command has not taken its answer


@dataclass(frozen=True)
class JobState:
    """A job that is not done, or has failed."""

    job: str
    what: str
    state: State
    node: str = ""
    seconds: float | None = None  # since it has begun
    why: str = ""  # it waits, or has failed
    log: tuple[str, ...] = ()  # its last lines, where it has failed or ended


@dataclass(frozen=True)
class CommandState:
    """The jobs of one command."""

    name: str
    where: str
    host: str
    pid: int
    sign: Literal["works", "silent", "over"]  # of life of the command
    silent: float  # seconds without one
    done: int
    jobs: tuple[JobState, ...]

    def count(self, state: State) -> int:
        return sum(one.state == state for one in self.jobs)


def read_status(results: Path) -> tuple[list[CommandState], list[str]]:
    """Of each command, the oldest first; and a line for what cannot be read."""
    found, problems = read_jobs(results)
    return [_command_state(one, time.time()) for one in found], problems


def _command_state(jobs: Jobs, now: float) -> CommandState:
    queue, silent = _queue(jobs), max(0.0, jobs.silent(now))
    states = [_job_state(jobs, one, queue, now) for one in jobs.noted if one.state != "done"]
    states.sort(key=lambda one: STATES.index(one.state))
    sign: Literal["works", "silent", "over"] = "silent" if silent > LAPSES else "works"
    if not (jobs.folder / TURN).exists():
        sign = "over"
    command, done = jobs.command, sum(one.state == "done" for one in jobs.noted)
    return CommandState(jobs.folder.name, command.where, command.host, command.pid, sign, silent, done, tuple(states))


def _queue(jobs: Jobs) -> Mapping[str, Queued] | None:
    """What still is in the queue, or is a process of this machine; None where that cannot be known here."""
    if not jobs.open:
        return {}
    if jobs.command.where == "slurm":
        return queued(jobs.folder.name)
    if jobs.command.host != os.uname().nodename:
        return None
    alive = [one.job for one in jobs.open if runs_here(one.job, jobs.folder)]
    return {job: Queued(waits=jobs.begun(job) is None) for job in alive}


def _job_state(jobs: Jobs, one: Noted, queue: Mapping[str, Queued] | None, now: float) -> JobState:
    if one.state == "failed":
        return JobState(one.job, one.what, "failed", why=one.why, log=tuple(jobs.log(one.job)))
    begun = jobs.begun(one.job)
    place = Queued(waits=begun is None) if queue is None else queue.get(one.job)
    if place is None:
        return JobState(one.job, one.what, "ended", log=tuple(jobs.log(one.job)))
    if place.waits or begun is None:
        return JobState(one.job, one.what, "waiting" if place.waits else "running", why=place.why)
    return JobState(one.job, one.what, "running", begun.host, max(0.0, now - begun.time))
