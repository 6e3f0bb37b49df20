"""Making ImageNet-C on disk as its authors did: Resize(256), CenterCrop(224), corrupt, save as JPEG of quality 85.

Layout: <out>/<corruption>/<severity>/<wnid>/<name>.JPEG. The draws are seeded by image, corruption and severity, so
the bytes do not depend on the number of workers, nor on how often the work was interrupted. A file appears under its
name once it is whole; a second run makes what is missing. The authors did not seed theirs: the pictures are of the
same kind, not the same (`origin` "generated-jpeg").
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image

from nsbench.corruptions import CORRUPTIONS, SEVERITIES, check_corruption, corrupt, engine_version
from nsbench.data import wnids
from nsbench.data.corrupted import CROP, ENGINE, RESIZE, SEED, resize_and_crop
from nsbench.data.image_ids import file_stem
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.source import Split
from nsbench.errors import CorruptImage, UsageError
from nsbench.files import available_cores
from nsbench.making.folder import Made, being_made, check_unique, ends_with, mark, save
from nsbench.making.workers import Done, Maker, make_pieces, pieces_of
from nsbench.progress import SILENT, Progress

QUALITY = 85  # of the JPEG files
JPEG_END = b"\xff\xd9"
FILE_BYTES = 20_000  # of an average file, to tell beforehand whether the disk is large enough
PIECE = 150  # files of one piece of work, about
PACKAGES = ("pillow", "numpy", "opencv-python", "scikit-image", "torchvision")  # that have a say in the bytes


@dataclass(frozen=True)
class _Work:
    """What every process needs to know."""

    split: Split
    out: Path
    names: tuple[str, ...]  # "<wnid>/<name>.JPEG" of each image
    conditions: tuple[tuple[str, int], ...]  # corruption and severity
    engine: str
    side: int = CROP  # pixels

    def folder(self, corruption: str, severity: int) -> Path:
        return self.out / corruption / str(severity)


def make_imagenet_c(
    source: str | Path,
    out: str | Path,
    *,
    split: str = "val",
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    workers: int | None = None,
    engine: str = ENGINE,
    side: int = CROP,
    follow_links: bool = False,
    progress: Progress = SILENT,
) -> Made:
    """Make every corruption and severity of the images of one split ("val" is "clean") of an ImageNet tree.

    `side`: pixels, for models of another input size than the official 224; figures on such a set say so.
    `workers`: processes; None for one per core. `follow_links`: links in the tree may lead out of their set. Images that
    cannot be read are named in the summary and left out.
    Raises DataError where the folder cannot be written, is full, holds images of other making or is being written.
    """
    conditions = tuple((name, severity) for name in dict.fromkeys(corruptions) for severity in sorted(set(severities)))
    for name, severity in conditions:
        check_corruption(name, severity, engine)
    if not conditions or (workers is not None and workers < 1):
        raise UsageError(f"{len(conditions)} corruptions x severities, {workers} workers: give at least one of each")
    images = ImageNetTree(source, follow_links=follow_links).split("clean" if split == "val" else split, progress)
    work = _Work(images, Path(out), _file_names(images), conditions, engine, side)
    started = time.monotonic()
    with being_made(work.out):
        _mark(work, complete=False)
        _warn_of_a_small_disk(work, progress)
        done = _run(work, workers or available_cores(), progress)
        _mark(work, complete=True, unreadable=sorted(done.unreadable))
    return Made(work.out, len(images), done.written, done.kept, done.unreadable, time.monotonic() - started)


def _file_names(split: Split) -> tuple[str, ...]:
    """<wnid>/<name>.JPEG, as in the official set, whatever the source is stored in."""
    order = wnids.wnids()
    names = tuple(
        f"{order[label]}/{file_stem(image_id)}.JPEG"
        for label, image_id in zip(split.labels.tolist(), split.ids.tolist(), strict=True)
    )
    check_unique(names)
    return names


def _recipe(work: _Work, corruption: str, severity: int) -> dict[str, object]:
    """All that decides the bytes of one corruption and severity."""
    return {
        "origin": "generated-jpeg", "corruption": corruption, "severity": severity, "seed": SEED,
        "engine": engine_version(corruption, work.engine), "resize": round(RESIZE * work.side / CROP), "crop": work.side,
        "jpeg_quality": QUALITY, "source": work.split.digest, "images": len(work.split),
        "versions": {package: _version(package) for package in PACKAGES},
    }  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution of the same module, such as opencv-python-headless
        return "unknown"


def _mark(work: _Work, *, complete: bool, unreadable: Sequence[str] = ()) -> None:
    for condition in work.conditions:
        mark(work.folder(*condition), _recipe(work, *condition), complete=complete, unreadable=unreadable)


def _warn_of_a_small_disk(work: _Work, progress: Progress) -> None:
    needed, free = (
        len(work.split) * len(work.conditions) * FILE_BYTES * work.side**2 // CROP**2,
        shutil.disk_usage(work.out).free,
    )
    if free < needed:
        progress.line(
            f"{work.out}: {free / 1e9:.1f} GB are free; the whole set takes about {needed / 1e9:.1f} GB. "
            "What fits is made, and kept.",
            "yellow",
        )


def _run(work: _Work, workers: int, progress: Progress) -> Done:
    files = len(work.conditions)
    pieces = pieces_of(len(work.split), max(1, PIECE // files))
    here, start = partial(_make_piece, work), partial(_start, work)
    with progress.task("Making ImageNet-C", len(work.split) * files, "files") as advance:
        return make_pieces(pieces, workers, here, start, out=work.out, advance=lambda images: advance(images * files))


def _start(work: _Work) -> Maker:
    """In a process of its own: what makes a piece there."""
    import cv2

    cv2.setNumThreads(1)
    return partial(_make_piece, work)


def _make_piece(work: _Work, piece: range) -> Done:
    written, kept, unreadable = 0, 0, dict[str, str]()
    for index in piece:
        paths = {condition: work.folder(*condition) / work.names[index] for condition in work.conditions}
        missing = {condition: path for condition, path in paths.items() if not ends_with(path, JPEG_END)}
        try:
            _make_files(work, index, missing)
        except CorruptImage as error:
            unreadable[str(work.split.ids[index])] = str(error)
        else:
            written += len(missing)
            kept += len(paths) - len(missing)
    return Done(written, kept, unreadable)


def _make_files(work: _Work, index: int, paths: Mapping[tuple[str, int], Path]) -> None:
    """One image under several conditions. Raises CorruptImage."""
    if not paths:
        return
    image_HWC, image_id = np.asarray(resize_and_crop(work.split.load(index), work.side)), str(work.split.ids[index])
    for (name, severity), path in paths.items():
        save(path, _jpeg(corrupt(image_HWC, name, severity, seed=SEED, image_id=image_id, engine=work.engine)))


def _jpeg(image_HWC: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image_HWC).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
