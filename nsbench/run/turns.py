"""Taking turns: any number of processes with one results folder and one cache do each piece of work once.

A turn is a file beside what the work gives. Its holder refreshes it, so that it lapses a minute after a machine died,
and at once after a process of the same machine was killed; this needs no locks of the file system, and clocks of several
machines may differ. A holder that was stopped for longer than that may find its work done by another one: results and
weights are written whole, so that one of two equal files stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

from nsbench import processes
from nsbench.errors import NsbenchError, ResultError
from nsbench.files import OTHER_RESULTS, writing
from nsbench.progress import Progress

LAPSES = 60.0  # seconds without a refresh
REFRESH = 10.0
LOOKS = 2.0  # seconds between two looks of one who waits

_refused: dict[
    Path, SoftFileLease
] = {}  # each times for how long its file has not been refreshed, from its first look on


class Elsewhere(NsbenchError):
    """Another process does this piece of work now."""


@contextmanager
def turn(path: Path, what: str, wait: Progress | None = None) -> Iterator[None]:
    """Inside, no other process does what the file `path` stands for.

    Raises Elsewhere where one does it now, or, with `wait`, says so and waits until it is done or gone. Raises
    ResultError where the file cannot be written. Of processes that work together the first one takes the turn for all.
    """
    held: list[SoftFileLease] = []
    processes.first(lambda: held.append(_taken(path, what, wait)))
    try:
        yield
    finally:
        for lease in held:
            lease.release()


def _taken(path: Path, what: str, wait: Progress | None) -> SoftFileLease:
    """See `turn`."""
    lease, told = _lease(path), False
    while not _acquired(lease, path):
        if wait is None:
            raise Elsewhere(f"{what} is done by another process now{_by(path)}")
        if not told:
            wait.line(f"{what}: waits for another process that does it{_by(path)}", style="dim")
            told = True
        time.sleep(LOOKS)
    return lease


def clear_turn(path: Path) -> None:
    """Remove the turn of a process that was killed after its work was done."""
    if processes.number() > 0:
        return
    lease = _lease(path)
    if path.exists() and _acquired(lease, path):
        lease.release()


def _lease(path: Path) -> SoftFileLease:
    """The one that has looked at this file before, if any."""
    return _refused.pop(path.absolute(), None) or SoftFileLease(path, lease_duration=LAPSES, heartbeat_interval=REFRESH)


def _acquired(lease: SoftFileLease, path: Path) -> bool:
    with writing(path, ResultError, OTHER_RESULTS):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lease.acquire(blocking=False)
        except Timeout:
            _refused[path.absolute()] = lease
            return False
    _refused.pop(path.absolute(), None)
    return True


def _by(path: Path) -> str:
    """ " (process 4711 on node3)", where its file can be read."""
    try:
        facts = dict(line.partition("=")[::2] for line in path.read_text().splitlines() if "=" in line)
    except (OSError, ValueError):
        return ""
    return f" (process {facts['pid']} on {facts['host']})" if {"pid", "host"} <= set(facts) else ""
