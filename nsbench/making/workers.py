"""Work on many images, spread over processes that end with the one that started them.

A piece of work is a range of images. Pieces are independent of each other and kept on disk as soon as they are made,
so the bytes do not depend on the number of processes, and a stopped run goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from nsbench.errors import DataError


@dataclass(frozen=True)
class Done:
    """What became of some images."""

    written: int = 0  # files
    kept: int = 0  # files that were there already
    unreadable: Mapping[str, str] = field(default_factory=dict)  # image id -> why nothing could be made of it


Maker = Callable[[range], Done]


def pieces_of(images: int, size: int) -> list[range]:
    """All images in pieces of at most `size`."""
    return [range(start, min(start + size, images)) for start in range(0, images, size)]


def make_pieces(
    pieces: Sequence[range],
    workers: int,
    here: Maker,
    start: Callable[[], Maker],
    *,
    out: Path,
    advance: Callable[[int], object],
) -> Done:
    """Make every piece, by `here` in this process or in `workers` others; what became of all of them.

    `start` is called once in each of the other processes and returns what makes a piece there; it must be picklable.
    `advance` is called with the number of images of each finished piece. Raises DataError, naming `out`, where a
    process was killed.
    """
    written, kept, unreadable = 0, 0, dict[str, str]()
    workers = min(workers, len(pieces))
    with closing(_in_processes(pieces, workers, start, out) if workers > 1 else _here(pieces, here)) as finished:
        for piece, done in finished:
            written += done.written
            kept += done.kept
            unreadable |= done.unreadable
            advance(len(piece))
    return Done(written, kept, unreadable)


def _here(pieces: Sequence[range], make: Maker) -> Generator[tuple[range, Done], None, None]:
    for piece in pieces:
        yield piece, make(piece)


def _in_processes(
    pieces: Sequence[range], workers: int, start: Callable[[], Maker], out: Path
) -> Generator[tuple[range, Done], None, None]:
    """Pieces with what became of them, as they are finished. Where it is stopped, its processes are killed: they keep
    files that are whole, and to wait for a piece may take half a minute."""
    context = multiprocessing.get_context("spawn")  # OpenCV's threads do not survive a fork
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_start_process, initargs=(start, os.getpid()))
    try:
        futures = {pool.submit(_make_here, piece): piece for piece in pieces}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{out}: a worker process was stopped (out of memory?); run it again with fewer workers: "
            "what is done is kept"
        ) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_maker: Maker  # of this worker process: made once, not sent with every piece


def _start_process(start: Callable[[], Maker], parent: int) -> None:
    global _maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the work
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _maker = start()


def _make_here(piece: range) -> Done:
    return _maker(piece)


def _end_with(parent: int) -> None:
    """A killed parent process cannot stop its workers; they must not wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
