"""Making an own DAmageNet (Chen et al. 2022, arXiv:2001.06325): images attacked beforehand, on another network.

Layout, as the official set's: <out>/<name>.png of 224 x 224 and <out>/val.txt. Images are attacked in fixed batches on
one thread each, so that on a CPU the bytes do not depend on the number of processes, nor on interruptions.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nsbench.data.corrupted import CROP, resize_and_crop
from nsbench.data.made import MARKER, parse_marker
from nsbench.data.source import Split
from nsbench.errors import CorruptImage, DataError, ModelError, UsageError
from nsbench.files import available_cores, write_atomically
from nsbench.making.damagenet_attack import EPS, STEPS, attends, perturb
from nsbench.making.imagenet_c import Made, being_made, end_with
from nsbench.models import Model, load_model, weights_digest
from nsbench.progress import SILENT, Progress

BATCH = 8  # images attacked together: part of the recipe, since rounding depends on it
LABELS = "val.txt"
PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class _Work:
    """What every worker needs to know."""

    split: Split
    out: Path
    surrogate: str
    checkpoint: Path | None
    device: str

    def path(self, index: int) -> Path:
        return self.out / f"{_stem(self.split.ids[index])}.png"


def make_damagenet(
    source: str | Path,
    out: str | Path,
    *,
    surrogate: str,
    checkpoint: str | Path | None = None,
    split: str = "val",
    workers: int | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Made:
    """Attack the images of one split ("val" is "clean") of an ImageNet tree on the model `surrogate`.

    `workers`: processes; None for one per core, and one on a GPU. Images that cannot be read are named in the summary
    and left out. Raises ModelError for a surrogate of another input size than 224 or without 1000 classes, and
    DataError where the folder cannot be written, holds a set of other making or is being written.
    """
    from nsbench.data.imagenet import ImageNetTree

    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers: give at least one")
    images = ImageNetTree(source).split("clean" if split == "val" else split, progress)
    work = _Work(images, Path(out), surrogate, Path(checkpoint) if checkpoint else None, device)
    model = _surrogate(work)
    started, made = time.monotonic(), Made(work.out, len(images), 1)
    with being_made(work.out):
        recipe = _recipe(work, model)
        _mark(work, recipe | {"unreadable": [], "complete": False})
        write_atomically(work.out / LABELS, _labels(images).encode())
        _run(work, model, 1 if device != "cpu" else workers or available_cores(), made, progress)
        _mark(work, recipe | {"unreadable": sorted(made.unreadable), "complete": True})
    made.seconds = time.monotonic() - started
    return made


def _surrogate(work: _Work) -> Model:
    model = load_model(work.surrogate, checkpoint=work.checkpoint, device=work.device)
    if model.input_size != CROP or model.num_classes != 1000:
        raise ModelError(
            f"--surrogate {work.surrogate}: takes {model.input_size} pixels and has {model.num_classes} "
            f"classes; the set needs a model of ImageNet's 1000 classes at {CROP} pixels"
        )
    return model


def _stem(image_id: str) -> str:
    return str(image_id).rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _labels(split: Split) -> str:
    """The label file in the official set's form: "ILSVRC2012_val_00000001.JPEG 65"."""
    stems = [_stem(image_id) for image_id in split.ids]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} images would be written to the same file, such as {twice[0]}.png; rename them")
    return "".join(f"{stem}.JPEG {label}\n" for stem, label in sorted(zip(stems, split.labels.tolist(), strict=True)))


def _recipe(work: _Work, model: Model) -> dict[str, Any]:
    """All that decides the pixels, apart from the machine's arithmetic."""
    return {
        "origin": "generated-png", "surrogate": work.surrogate, "weights": weights_digest(model),
        "attacked": "attention" if attends(model) else "features", "eps": f"{EPS}/255", "steps": STEPS, "batch": BATCH,
        "device": work.device.split(":")[0], "source": work.split.digest, "images": len(work.split),
        "versions": {package: version(package) for package in ("torch", "timm", "pillow")},
    }  # fmt: skip


def _mark(work: _Work, content: dict[str, Any]) -> None:
    """Write the marker; refuse a folder that holds anything that was made in another way."""
    marker = work.out / MARKER
    if marker.exists():
        before = parse_marker(marker.read_text(), str(marker)).content
        differing = [
            key for key, value in content.items() if key not in ("unreadable", "complete") and before.get(key) != value
        ]
        if differing:
            key = differing[0]
            raise DataError(
                f"{work.out}: was made with another {key} ({before.get(key)}, now {content[key]}); "
                "remove it or give another --out"
            )
    elif any(not item.name.startswith(".") for item in work.out.iterdir()):
        raise DataError(f"{work.out}: holds files that nsbench did not make (no {MARKER}); give another --out")
    write_atomically(marker, (json.dumps(content, indent=1) + "\n").encode())


# --- processes ------------------------------------------------------------------------------------------------------

_Result = tuple[int, int, dict[str, str]]  # files written, files kept, unreadable images


def _run(work: _Work, model: Model, workers: int, made: Made, progress: Progress) -> None:
    pieces = [range(start, min(start + BATCH, len(work.split))) for start in range(0, len(work.split), BATCH)]
    with progress.task("Making DAmageNet", len(work.split)) as advance:
        for written, kept, unreadable in _results(work, model, pieces, min(workers, len(pieces))):
            made.written += written
            made.kept += kept
            made.unreadable |= unreadable
            advance(written + kept + len(unreadable))


def _results(work: _Work, model: Model, pieces: list[range], workers: int) -> Iterator[_Result]:
    if workers <= 1:
        for piece in pieces:
            with _one_thread():
                result = _make_piece(work, model, piece)
            yield result
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(work, os.getpid()))
    try:
        for future in as_completed([pool.submit(_make_piece_here, piece) for piece in pieces]):
            yield future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{work.out}: a worker process was stopped (out of memory?); run it again with fewer workers: "
            "what is done is kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The order of float32 sums, and so a sign now and then, depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_here: tuple[_Work, Model]  # in worker processes: sent and loaded once


def _start_worker(work: _Work, parent: int) -> None:
    global _here
    torch.set_num_threads(1)
    _here = work, _surrogate(work)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the work
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def _make_piece_here(piece: range) -> _Result:
    return _make_piece(*_here, piece)


def _make_piece(work: _Work, model: Model, piece: range) -> _Result:
    """One batch: attacked as a whole if any of its files is missing, so that the others do not change a bit."""
    missing = {index for index in piece if not _whole(work.path(index))}
    if not missing:
        return 0, len(piece), {}
    images: dict[int, np.ndarray] = {}
    unreadable: dict[str, str] = {}
    for index in piece:
        try:
            images[index] = np.asarray(resize_and_crop(work.split.load(index)))
        except CorruptImage as error:
            unreadable[str(work.split.ids[index])] = str(error)
    written = 0
    if images:
        attacked = perturb(model, np.stack(list(images.values())), work.split.labels[list(images)])
        for index, image_HWC in zip(images, attacked, strict=True):
            if index in missing:
                _write(work.path(index), image_HWC)
                written += 1
    return written, len(images) - written, unreadable


def _whole(path: Path) -> bool:
    """The file is there and ends as a PNG does: after a power cut, an empty file may have got its name."""
    try:
        with path.open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def _write(path: Path, image_HWC: np.ndarray) -> None:
    content = io.BytesIO()
    Image.fromarray(image_HWC).save(content, "PNG")
    draft = path.with_name(f".{path.name}.part")  # a killed run's draft is overwritten by the next run
    draft.write_bytes(content.getvalue())
    os.replace(draft, path)
