"""The cache: one file per split, complete whenever it is there, checked whenever it is opened.

A file is a NumPy record array (id, label, image), which can be mapped into memory instead of read, followed by the
digest of its contents. It is written beside its final name and then moved there; a lock makes a second process wait
and find the work done. The operating system drops a lock with its process, so a killed one blocks nobody. The file's
name carries a digest of everything that decides its pixels, so changed code never meets old pictures.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tokenize import TokenError

import numpy as np
from filelock import FileLock

from nsbench.data.kept import mapped_array
from nsbench.errors import DataError
from nsbench.files import OTHER_CACHE, available_cores, cache_folder, open_atomically, open_regular, writing
from nsbench.progress import Progress

BROKEN = (  # what numpy raises for damaged files
    *(OSError, ValueError, EOFError, SyntaxError, TypeError, LookupError, AttributeError, OverflowError),
    *(MemoryError, RecursionError, TokenError),
)
RECORD = np.dtype([("id", "U24"), ("label", "<i8"), ("image", "u1", (48, 48, 3))])


def folder() -> Path:
    """`$NSBENCH_CACHE/shapes10`, or the same in the user's cache folder."""
    return cache_folder() / "shapes10"


def records_of(ids: Iterable[str], labels: np.ndarray, images: np.ndarray) -> np.ndarray:
    """A record array of n images (n, 48, 48, 3) uint8."""
    records = np.empty(len(images), dtype=RECORD)
    records["id"], records["label"], records["image"] = list(ids), labels, images
    return records


def content_digest(records: np.ndarray) -> str:
    """16 hex digits over ids, labels and pixels."""
    return hashlib.sha256(np.ascontiguousarray(records).view(np.uint8).data).hexdigest()[:16]


def read(path: Path) -> tuple[np.ndarray, str] | None:
    """Records, mapped into memory, and their digest; None where the file is absent, cut short or altered."""
    if not path.is_file():
        return None
    try:
        records = mapped_array(path)
        with open_regular(path) as file:
            file.seek(-16, os.SEEK_END)
            stored = file.read(16)
    except BROKEN:
        return None  # not a whole file: it is made again
    if records.dtype != RECORD or records.ndim != 1:
        return None
    digest = content_digest(records)
    return (records, digest) if digest.encode() == stored else None


def write(path: Path, records: np.ndarray) -> None:
    """All or nothing: the final name appears only once everything is on disk."""
    with open_atomically(path) as file:
        np.lib.format.write_array(file, records)
        file.write(content_digest(records).encode())


def fetch(paths: Sequence[Path], make: Callable[[list[Path]], Iterator[tuple[Path, np.ndarray]]]) -> None:
    """Make every file that is not there or not whole; `make` yields the records of those. Raises DataError.

    One lock, named after the first file, covers them all, so processes that want the same files share the work.
    """
    if all(read(path) for path in paths):
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker of `spread` that imports a script without `if __name__ == "__main__"`: its parent holds the lock and
        # would wait for it for ever. As this worker ends, the parent draws by itself.
        sys.exit(1)
    with writing(paths[0].parent, DataError, OTHER_CACHE):
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with FileLock(paths[0].with_suffix(".lock")):
            missing = [path for path in paths if not read(path)]
            if missing:
                for path, records in make(missing):
                    write(path, records)


def spread(
    function: Callable[..., np.ndarray], jobs: Sequence[tuple[object, ...]], progress: Progress, label: str, size: int
) -> Iterator[np.ndarray]:
    """`function(*job)` for every job, in order, on all cores; `size` images per job for the progress bar.

    Falls back to this process where others cannot be started (one core, a data loader worker, an unguarded script).
    """
    cores = available_cores()
    done = 0
    with progress.task(label, size * len(jobs)) as advance:
        if min(cores, len(jobs)) > 1 and not multiprocessing.current_process().daemon:
            pool = ProcessPoolExecutor(min(cores, len(jobs)), multiprocessing.get_context("spawn"))
            try:
                for future in [pool.submit(function, *job) for job in jobs]:
                    result = future.result()
                    done += 1
                    advance(size)
                    yield result
            except BrokenProcessPool:
                progress.line("Worker processes could not be started or were killed; going on in this one.", "yellow")
            finally:
                pool.shutdown(cancel_futures=True)
        for job in jobs[done:]:
            yield function(*job)
            advance(size)
