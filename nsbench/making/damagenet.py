"""Making an own DAmageNet (Chen et al. 2022, arXiv:2001.06325): images attacked beforehand, on another network.

Layout, as the official set's: <out>/<name>.png of 224 x 224 and <out>/val.txt. Images are attacked in fixed batches on
one thread each, so that on a CPU the bytes do not depend on the number of processes, nor on interruptions.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nsbench.data.corrupted import CROP, resize_and_crop
from nsbench.data.image_ids import file_stem
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.source import Split
from nsbench.errors import CorruptImage, ModelError, UsageError
from nsbench.files import available_cores, write_atomically
from nsbench.making.damagenet_attack import EPS, STEPS, attends, perturb
from nsbench.making.folder import Made, being_made, check_unique, ends_with, mark, save
from nsbench.making.workers import Done, Maker, make_pieces, pieces_of
from nsbench.models import Model, load_model, weights_digest
from nsbench.progress import SILENT, Progress

BATCH = 8  # images attacked together: part of the recipe, since rounding depends on it
LABELS = "val.txt"
PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class _Work:
    """What every process needs to know."""

    split: Split
    out: Path
    surrogate: str
    checkpoint: Path | None
    device: str

    def path(self, index: int) -> Path:
        return self.out / f"{file_stem(str(self.split.ids[index]))}.png"


def make_damagenet(
    source: str | Path,
    out: str | Path,
    *,
    surrogate: str,
    checkpoint: str | Path | None = None,
    split: str = "val",
    workers: int | None = None,
    device: str = "cpu",
    follow_links: bool = False,
    progress: Progress = SILENT,
) -> Made:
    """Attack the images of one split ("val" is "clean") of an ImageNet tree on the model `surrogate`.

    `workers`: processes; None for one per core, and one on a GPU. `follow_links`: links in the tree may lead out of
    their set. Images that cannot be read are named in the summary and left out. Raises ModelError for a surrogate of
    another input size than 224 or without 1000 classes, and DataError where the folder cannot be written, holds a set
    of other making or is being written.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers: give at least one")
    images = ImageNetTree(source, follow_links=follow_links).split("clean" if split == "val" else split, progress)
    work = _Work(images, Path(out), surrogate, Path(checkpoint) if checkpoint else None, device)
    model = _load_surrogate(work)
    started = time.monotonic()
    with being_made(work.out):
        recipe = _recipe(work, model)
        mark(work.out, recipe, complete=False)
        write_atomically(work.out / LABELS, _label_lines(images).encode())
        done = _run(work, model, 1 if device != "cpu" else workers or available_cores(), progress)
        mark(work.out, recipe, complete=True, unreadable=sorted(done.unreadable))
    return Made(work.out, len(images), done.written, done.kept, done.unreadable, time.monotonic() - started)


def _load_surrogate(work: _Work) -> Model:
    model = load_model(work.surrogate, checkpoint=work.checkpoint, device=work.device)
    if model.input_size != CROP or model.num_classes != 1000:
        raise ModelError(
            f"--surrogate {work.surrogate}: takes {model.input_size} pixels and has {model.num_classes} "
            f"classes; the set needs a model of ImageNet's 1000 classes at {CROP} pixels"
        )
    return model


def _label_lines(split: Split) -> str:
    """The label file in the official set's form: "ILSVRC2012_val_00000001.JPEG 65"."""
    names = [file_stem(image_id) for image_id in split.ids.tolist()]
    check_unique(f"{name}.png" for name in names)
    return "".join(f"{name}.JPEG {label}\n" for name, label in sorted(zip(names, split.labels.tolist(), strict=True)))


def _recipe(work: _Work, model: Model) -> dict[str, object]:
    """All that decides the pixels, apart from the machine's arithmetic."""
    return {
        "origin": "generated-png", "surrogate": work.surrogate, "weights": weights_digest(model),
        "attacked": "attention" if attends(model) else "features", "eps": f"{EPS}/255", "steps": STEPS, "batch": BATCH,
        "device": work.device.split(":")[0], "source": work.split.digest, "images": len(work.split),
        "versions": {package: version(package) for package in ("torch", "timm", "pillow")},
    }  # fmt: skip


def _run(work: _Work, model: Model, workers: int, progress: Progress) -> Done:
    pieces = pieces_of(len(work.split), BATCH)
    here, start = partial(_make_piece, work, model), partial(_start, work)
    with progress.task("Making DAmageNet", len(work.split)) as advance:
        return make_pieces(pieces, workers, here, start, out=work.out, advance=advance)


def _start(work: _Work) -> Maker:
    """In a process of its own: what makes a piece there."""
    return partial(_make_piece, work, _load_surrogate(work))


@contextmanager
def _one_thread() -> Iterator[None]:
    """The order of float32 sums, and so a sign now and then, depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make_piece(work: _Work, model: Model, piece: range) -> Done:
    """One batch: attacked as a whole if any of its files is missing, so that the others do not change a bit."""
    missing = {index for index in piece if not ends_with(work.path(index), PNG_END)}
    if not missing:
        return Done(kept=len(piece))
    images: dict[int, np.ndarray] = {}
    unreadable: dict[str, str] = {}
    for index in piece:
        try:
            images[index] = np.asarray(resize_and_crop(work.split.load(index)))
        except CorruptImage as error:
            unreadable[str(work.split.ids[index])] = str(error)
    if not images:
        return Done(unreadable=unreadable)
    with _one_thread():
        attacked = perturb(model, np.stack(list(images.values())), work.split.labels[list(images)])
    for index, image_HWC in zip(images, attacked, strict=True):
        if index in missing:
            save(work.path(index), _png(image_HWC))
    written = len(missing & images.keys())
    return Done(written, len(images) - written, unreadable)


def _png(image_HWC: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image_HWC).save(content, "PNG")
    return content.getvalue()
