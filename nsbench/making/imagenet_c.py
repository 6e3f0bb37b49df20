"""Making ImageNet-C on disk as its authors did: Resize(256), CenterCrop(224), corrupt, save as JPEG of quality 85.

Layout: <out>/<corruption>/<severity>/<wnid>/<name>.JPEG. The draws are seeded by image, corruption and severity, so
the bytes do not depend on the number of workers, nor on how often the work was interrupted. A file appears under its
name once it is whole; a second run makes what is missing. The authors did not seed theirs: the pictures are of the
same kind, not the same (`origin` "generated-jpeg").
"""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from nsbench import corruptions as corruption_engines
from nsbench.corruptions import CORRUPTIONS, SEVERITIES, check_corruption, corrupt
from nsbench.data import wnids
from nsbench.data.corrupted import CROP, ENGINE, RESIZE, SEED, resize_and_crop
from nsbench.data.made import MARKER, parse_marker
from nsbench.data.source import Split
from nsbench.errors import CorruptImage, DataError, UsageError
from nsbench.files import available_cores, write_atomically
from nsbench.progress import SILENT, Progress

QUALITY = 85  # of the JPEG files
FILE_BYTES = 20_000  # of an average file, to tell beforehand whether the disk is large enough
PIECE = 150  # files of one piece of work, about
PACKAGES = ("pillow", "numpy", "opencv-python", "scikit-image", "torchvision")  # that have a say in the bytes


@dataclass
class Made:
    """What was done."""

    folder: Path
    images: int  # of the source
    conditions: int  # corruptions x severities
    written: int = 0  # files
    kept: int = 0  # files that were there already
    unreadable: dict[str, str] = field(default_factory=dict)  # image id -> why it could not be corrupted
    seconds: float = 0.0

    def __str__(self) -> str:
        done = f"{self.folder}: {self.written:,} files written, {self.kept:,} were there, in {self.seconds:,.0f} s"
        if not self.unreadable:
            return done
        return f"{done}; {len(self.unreadable)} images could not be read: {next(iter(self.unreadable.values()))}"


@dataclass(frozen=True)
class _Work:
    """What every worker needs to know."""

    split: Split
    out: Path
    names: tuple[str, ...]  # "<wnid>/<name>.JPEG" of each image
    conditions: tuple[tuple[str, int], ...]
    engine: str


def make_imagenet_c(
    source: str | Path,
    out: str | Path,
    *,
    split: str = "val",
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    workers: int | None = None,
    engine: str = ENGINE,
    progress: Progress = SILENT,
) -> Made:
    """Make every corruption and severity of the images of one split ("val" is "clean") of an ImageNet tree.

    `workers`: processes; None for one per core. Images that cannot be read are named in the summary and left out.
    Raises DataError where the folder cannot be written, is full, holds images of other making or is being written.
    """
    from nsbench.data.imagenet import ImageNetTree

    conditions = tuple((name, severity) for name in dict.fromkeys(corruptions) for severity in sorted(set(severities)))
    for name, severity in conditions:
        check_corruption(name, severity, engine)
    if not conditions or (workers is not None and workers < 1):
        raise UsageError(f"{len(conditions)} corruptions x severities, {workers} workers: give at least one of each")
    images = ImageNetTree(source).split("clean" if split == "val" else split, progress)
    work = _Work(images, Path(out), _file_names(images), conditions, engine)
    started, made = time.monotonic(), Made(work.out, len(images), len(conditions))
    with being_made(work.out):
        _mark(work, complete=False)
        _warn_of_a_small_disk(work, progress)
        _run(work, workers or available_cores(), made, progress)
        _mark(work, complete=True, unreadable=sorted(made.unreadable))
    made.seconds = time.monotonic() - started
    return made


@contextmanager
def being_made(out: Path) -> Iterator[None]:
    """The folder `out`, for this process alone; what the disk refuses is said in one line. Raises DataError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".nsbench-make.lock", timeout=0):
            yield
    except Timeout:
        raise DataError(f"{out}: another process is making this set; wait for it or give another --out") from None
    except OSError as error:
        raise _explained(error, out) from error


def _file_names(split: Split) -> tuple[str, ...]:
    """<wnid>/<name>.JPEG, as in the official set, whatever the source is stored in."""
    stems = [str(image_id).rsplit("/", 1)[-1].rsplit(".", 1)[0] for image_id in split.ids]
    names = [f"{wnids.wnids()[label]}/{stem}.JPEG" for label, stem in zip(split.labels, stems, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} images would be written to the same file, such as {twice[0]}; rename them")
    return tuple(names)


def _recipe(work: _Work, name: str, severity: int) -> dict[str, Any]:
    """All that decides the bytes of one corruption and severity."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # another distribution of the same module, such as opencv-python-headless
            versions[package] = "unknown"
    return {
        "origin": "generated-jpeg", "corruption": name, "severity": severity, "seed": SEED,
        "engine": corruption_engines.engine_version(name, work.engine), "resize": RESIZE, "crop": CROP,
        "jpeg_quality": QUALITY, "source": work.split.digest, "images": len(work.split), "versions": versions,
    }  # fmt: skip


def _mark(work: _Work, *, complete: bool, unreadable: Sequence[str] = ()) -> None:
    """Write the marker of every condition; refuse folders that hold anything that was made in another way."""
    for name, severity in work.conditions:
        folder, recipe = work.out / name / str(severity), _recipe(work, name, severity)
        folder.mkdir(parents=True, exist_ok=True)
        marker = folder / MARKER
        if marker.exists():
            before = parse_marker(marker.read_text(), str(marker)).content
            differing = [key for key in recipe if before.get(key) != recipe[key]]
            if differing:
                key = differing[0]
                raise DataError(
                    f"{folder}: was made with another {key} ({before.get(key)}, now {recipe[key]}); "
                    "remove it or give another --out"
                )
        elif any(item.is_dir() for item in folder.iterdir()):
            raise DataError(f"{folder}: holds images that nsbench did not make (no {MARKER}); give another --out")
        content = {**recipe, "unreadable": list(unreadable), "complete": complete}
        write_atomically(marker, (json.dumps(content, indent=1) + "\n").encode())


def _warn_of_a_small_disk(work: _Work, progress: Progress) -> None:
    needed, free = len(work.split) * len(work.conditions) * FILE_BYTES, shutil.disk_usage(work.out).free
    if free < needed:
        progress.line(
            f"{work.out}: {free / 1e9:.1f} GB are free; the whole set takes about {needed / 1e9:.1f} GB. "
            "What fits is made, and kept.",
            "yellow",
        )


def _run(work: _Work, workers: int, made: Made, progress: Progress) -> None:
    total = len(work.split) * len(work.conditions)
    step = max(1, PIECE // len(work.conditions))
    pieces = [range(start, min(start + step, len(work.split))) for start in range(0, len(work.split), step)]
    with progress.task("Making ImageNet-C", total, "files") as advance:
        for written, kept, unreadable in _results(work, pieces, min(workers, len(pieces))):
            made.written += written
            made.kept += kept
            made.unreadable |= unreadable
            advance(written + kept + len(unreadable) * len(work.conditions))


_Result = tuple[int, int, dict[str, str]]  # files written, files kept, unreadable images


def _results(work: _Work, pieces: list[range], workers: int) -> Iterator[_Result]:
    if workers <= 1:
        for piece in pieces:
            yield _make_piece(work, piece)
        return
    context = multiprocessing.get_context("spawn")  # OpenCV's threads do not survive a fork
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(work, os.getpid()))
    try:
        futures: list[Future[_Result]] = [pool.submit(_make_piece_here, piece) for piece in pieces]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{work.out}: a worker process was stopped (out of memory?); run it again with fewer workers: "
            "what is done is kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_here: _Work  # in worker processes: sent once, not with every piece


def _start_worker(work: _Work, parent: int) -> None:
    import cv2

    global _here
    _here = work
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the work
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: int) -> None:
    """A killed parent process cannot stop its workers; they must not wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _make_piece_here(piece: range) -> _Result:
    return _make_piece(_here, piece)


def _make_piece(work: _Work, piece: range) -> _Result:
    written, kept, unreadable = 0, 0, {}
    for index in piece:
        paths = {
            (name, severity): work.out / name / str(severity) / work.names[index] for name, severity in work.conditions
        }
        missing = {condition: path for condition, path in paths.items() if not _whole(path)}
        try:
            image_HWC = np.asarray(resize_and_crop(work.split.load(index))) if missing else None
        except CorruptImage as error:
            unreadable[str(work.split.ids[index])] = str(error)
            continue
        for (name, severity), path in missing.items():
            assert image_HWC is not None
            _write(work, image_HWC, name, severity, path, str(work.split.ids[index]))
        written += len(missing)
        kept += len(paths) - len(missing)
    return written, kept, unreadable


def _whole(path: Path) -> bool:
    """The file is there and ends as a JPEG does: after a power cut, an empty file may have got its name."""
    try:
        with path.open("rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:
        return False


def _write(work: _Work, image_HWC: np.ndarray, name: str, severity: int, path: Path, image_id: str) -> None:
    """Without fsync, which would take longer than the rest: `_whole` finds what a power cut has spoiled."""
    corrupted = corrupt(image_HWC, name, severity, seed=SEED, image_id=image_id, engine=work.engine)
    content = io.BytesIO()
    Image.fromarray(corrupted).save(content, "JPEG", quality=QUALITY)
    draft = path.with_name(f".{path.name}.part")  # a killed run's draft is overwritten by the next run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content.getvalue())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _explained(error, work.out) from error


def _explained(error: OSError, out: Path) -> DataError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "the disk is full" if full else f"cannot be written ({error.strerror or error})"
    return DataError(
        f"{out}: {what}; {'make room' if full else 'check the path and your rights'} and run it again: "
        "what is done is kept"
    )
