"""How each split comes about: what it is made from, where it is kept, and the work itself.

Rendering is spread over the cores, of large splits by processes in pieces of 250 images, of small ones by threads; the
corrupted splits are made by processes in pieces of one corruption and one severity. A file's name carries a digest of
all that decides the pixels: the version of this code, the split's parameters, and the weights and the corruption
engine behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache as remember
from pathlib import Path

import numpy as np

from nsbench.data.source import digest_of
from nsbench.errors import DataError
from nsbench.files import available_cores
from nsbench.progress import Progress
from nsbench.randomness import stratified_order
from nsbench.shapes10 import cache, splits
from nsbench.shapes10.render import SIZE

VERSION = 1  # raise it whenever a change can move a pixel of any split; the tests hold the pixels of each version
PLAIN_SPLITS = ("train", "clean", "v2", "a", "r", "sketch", "stylized", "damagenet")
CLASSES = {"a": splits.A_CLASSES, "r": splits.R_CLASSES}
CORRUPTED = 500  # images of clean behind each corrupted split
HARD = 500  # images in a
MOST = 110  # of one class in a
PIECE = 250
NETWORKS = {"a": "reference", "damagenet": "surrogate"}  # the shipped networks that have a say in a split


def corruption_names() -> tuple[str, ...]:
    from nsbench.corruptions import CORRUPTIONS

    return tuple(CORRUPTIONS)


def split_names() -> list[str]:
    return [*PLAIN_SPLITS, *(f"c/{name}/{severity}" for name in corruption_names() for severity in range(1, 6))]


def path_of(split: str) -> Path:
    return cache.folder() / f"{split.replace('/', '-')}.{_recipe_digest(split)}.npy"


def ensure(split: str, progress: Progress) -> tuple[np.ndarray, str]:
    """A split's records and digest. It is made, and what it is made from, unless it is in the cache.

    Corrupted splits are made all at once.
    """
    kept = cache.read(path_of(split))
    if kept:
        return kept
    if split.startswith("c/"):
        ensure("clean", progress)
        names = [name for name in split_names() if name.startswith("c/")]
        by_path = {path_of(name): name for name in names}
        cache.fetch(list(by_path), lambda missing: _corrupted({path: by_path[path] for path in missing}, progress))
    else:
        if split == "damagenet":
            ensure("clean", progress)
        cache.fetch([path_of(split)], lambda missing: _plain(split, missing[0], progress))
    return _kept(split)


def _plain(split: str, path: Path, progress: Progress) -> Iterator[tuple[Path, np.ndarray]]:
    if split == "a":
        yield path, _hard(progress)
    elif split == "damagenet":
        yield path, _damaged(progress)
    else:
        yield path, _drawn(split, progress)


def _drawn(split: str, progress: Progress) -> np.ndarray:
    drawn = splits.DRAWN[split]
    indices, label = np.arange(drawn.count), f"Rendering {split}"
    pieces = _cut(indices, PIECE)
    images = np.empty((drawn.count, SIZE, SIZE, 3), np.uint8)
    if len(pieces) > 8:
        made = cache.spread(splits.render, [(split, piece) for piece in pieces], progress, label, PIECE)
        for piece, pictures in zip(pieces, made, strict=True):
            images[piece] = pictures
    else:  # starting processes would take longer
        with progress.task(label, drawn.count) as advance:
            for piece in pieces:
                images[piece] = _in_threads(split, piece)
                advance(len(piece))
    return cache.records_of(image_ids(split, indices), splits.labels_of(drawn, indices), images)


def _cut(indices: np.ndarray, length: int) -> list[np.ndarray]:
    return [indices[start : start + length] for start in range(0, len(indices), length)]


def _in_threads(split: str, indices: np.ndarray) -> np.ndarray:
    """What `splits.render` makes of them. NumPy lets other threads work during each operation."""
    with ThreadPoolExecutor(available_cores()) as pool:
        pieces = _cut(indices, splits.CHUNK)
        return np.concatenate(list(pool.map(splits.render, [split] * len(pieces), pieces)))


def image_ids(split: str, indices: np.ndarray) -> list[str]:
    return [f"{split}/{index:05d}" for index in indices]


def _hard(progress: Progress) -> np.ndarray:
    """Candidates in order, kept where the reference classifier errs, until there are enough."""
    from nsbench.shapes10.surrogate import load_network, predict

    network = load_network(NETWORKS["a"])
    kept: list[tuple[int, np.ndarray]] = []
    counts = dict.fromkeys(splits.A_CLASSES, 0)
    with progress.task("Choosing a", HARD) as advance:
        for indices in _cut(np.arange(splits.CANDIDATES.count), 480):
            images, labels = _in_threads("a", indices), splits.labels_of(splits.CANDIDATES, indices)
            predictions = predict(network, images, splits.A_CLASSES)
            for index, image, label, predicted in zip(indices, images, labels, predictions, strict=True):
                if predicted != label and counts[label] < MOST and len(kept) < HARD:
                    counts[label] += 1
                    kept.append((int(index), image))
                    advance()
            if len(kept) == HARD:
                break
    indices = np.array([index for index, _ in kept])
    images = np.array([image for _, image in kept])
    return cache.records_of(image_ids("a", indices), splits.labels_of(splits.CANDIDATES, indices), images)


def _damaged(progress: Progress) -> np.ndarray:
    """Every clean image, perturbed against the surrogate."""
    from nsbench.shapes10 import surrogate

    clean, _ = _kept("clean")
    network = surrogate.load_network(NETWORKS["damagenet"])
    images = []
    with progress.task("Perturbing damagenet", len(clean)) as advance:
        for start in range(0, len(clean), surrogate.BATCH):
            part = clean[start : start + surrogate.BATCH]
            images.append(surrogate.perturb(network, part["image"], part["label"]))
            advance(len(part))
    indices = np.arange(len(clean))
    return cache.records_of(image_ids("damagenet", indices), clean["label"], np.concatenate(images))


def _corrupted(missing: dict[Path, str], progress: Progress) -> Iterator[tuple[Path, np.ndarray]]:
    clean, _ = _kept("clean")
    chosen = clean[np.sort(stratified_order(clean["id"], clean["label"])[:CORRUPTED])]
    jobs = [(name, chosen) for name in missing.values()]
    results = cache.spread(corrupt_images, jobs, progress, "Corrupting clean", CORRUPTED)
    for path, images in zip(missing, results, strict=True):
        yield path, cache.records_of(chosen["id"], chosen["label"], images)


def corrupt_images(split: str, records: np.ndarray) -> np.ndarray:
    """The images of `records` under the corruption and severity that a split's name says."""
    from nsbench.corruptions import REFERENCE, corrupt

    _, name, severity = split.split("/")
    return np.stack([
        corrupt(record["image"], name, int(severity), seed=0, image_id=str(record["id"]), engine=REFERENCE)
        for record in records
    ])  # fmt: skip


def _kept(split: str) -> tuple[np.ndarray, str]:
    """Records and digest of a split that was made just before."""
    kept = cache.read(path_of(split))
    if kept is None:
        raise DataError(f"{path_of(split)} vanished or changed while it was used; run the command again")
    return kept


@remember
def _recipe_digest(split: str) -> str:
    """8 hex digits over all that decides the split's pixels."""
    drawn = splits.CANDIDATES if split == "a" else splits.DRAWN.get(split, splits.DRAWN["clean"])
    parts: list[object] = [VERSION, drawn.count, drawn.style, drawn.classes]
    if split in NETWORKS:
        from nsbench.shapes10.surrogate import weights_path

        parts.append(hashlib.sha256(weights_path(NETWORKS[split]).read_bytes()).hexdigest())
    if split.startswith("c/"):
        from nsbench.corruptions import engine_version

        parts.append(engine_version(split.split("/")[1]))
    return digest_of(*parts)[:8]
