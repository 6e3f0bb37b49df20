"""SIGINT and SIGTERM end a command alike: one line says what is kept and how to go on; exit status 130 or 143."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import click

from nsbench import processes

INTERRUPTED, TERMINATED = 130, 143  # exit statuses: 128 and the signal's number
KEPT = "nsbench.kept"  # key in the context: what the command has said of itself
GOES_ON = "what was finished is kept, and the same command goes on from there"
ADDS = "what was added stays, and the same command adds the rest"
WHOLE = "nothing is kept, since it is measured as a whole; the same command starts anew"
ANEW = "the same command starts anew"


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send before they kill: whatever handles Ctrl-C handles it as well."""


def when_stopped(kept: str) -> None:
    """What this command says where it is stopped from here on."""
    click.get_current_context().meta[KEPT] = kept


class Watch:
    """Whether SIGTERM came."""

    terminated = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the second one must not stop the clearing up
        self.terminated = True
        raise Terminated


@contextmanager
def sigterm_raises() -> Iterator[Watch]:
    """SIGTERM raises Terminated inside the block, where this thread is the one that gets signals."""
    watch = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return
    before = signal.signal(signal.SIGTERM, watch)
    try:
        yield watch
    finally:
        signal.signal(signal.SIGTERM, before)


def say_stopped(context: click.Context, terminated: bool, notes: Sequence[str] = ()) -> int:
    """Print the line, with what the work said of itself as it stopped; returns the exit status."""
    what = "terminated" if terminated else "interrupted"
    kept = context.meta.get(KEPT, ANEW)
    told = [*notes, kept] if kept == GOES_ON else [kept]  # of what is thrown away nothing is counted
    if not processes.is_quiet():
        click.echo(f"\nnsbench: {'; '.join([what, *told])}", err=True)
    return TERMINATED if terminated else INTERRUPTED
