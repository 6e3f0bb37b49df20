"""Batches of a split, in the split's order, decoded here or in worker processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from nsbench.data.source import Split
from nsbench.errors import DataError, NsbenchError, UsageError

PREFETCH = 2  # batches that each worker holds ready: what bounds the memory

Transform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """B images of a split."""

    images: torch.Tensor  # (B, 3, H, W) uint8
    labels: torch.Tensor  # (B,) int64
    ids: list[str]
    indices: np.ndarray  # (B,) int64, positions in the split

    def __len__(self) -> int:
        return len(self.ids)


def batches(
    split: Split,
    transform: Transform,
    *,
    batch_size: int,
    workers: int = 0,
    indices: Sequence[int] | np.ndarray | None = None,
) -> Iterator[Batch]:
    """Batches of `split`, or of its images `indices` in that order; the last one may be smaller.

    `transform` makes a (3, H, W) uint8 tensor of a PIL image, of one size for the whole split. With workers, images
    are decoded ahead in that many processes; the batches are the same. Errors of nsbench (a CorruptImage, say) arrive
    as themselves, from workers too. torch's global random state is not moved.
    """
    if batch_size < 1 or workers < 0:
        raise UsageError(f"batch size {batch_size}, workers {workers}: need at least 1 and 0")
    order = np.arange(len(split)) if indices is None else np.asarray(indices, dtype=np.int64)
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return _iterate(_Chunks(split, transform, chunks), min(workers, len(chunks)))


class _Chunks(Dataset):
    """Item k is batch k whole, or the nsbench error that loading it raised (torch would wrap a raised one)."""

    def __init__(self, split: Split, transform: Transform, chunks: list[np.ndarray]) -> None:
        self.split, self.transform, self.chunks = split, transform, chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, k: int) -> Batch | NsbenchError:
        chunk = self.chunks[k]
        ids = [str(image_id) for image_id in self.split.ids[chunk]]
        try:
            images = [self._image(int(index), image_id) for index, image_id in zip(chunk, ids, strict=True)]
            stacked = _stack(images, ids)
        except NsbenchError as error:
            return error
        return Batch(stacked, torch.from_numpy(self.split.labels[chunk]), ids, chunk)

    def _image(self, index: int, image_id: str) -> torch.Tensor:
        image = self.split.load(index)
        try:
            return self.transform(image)
        except DataError as error:  # a transform does not know which image it was given
            raise DataError(f"{image_id}: {error}") from error


def _stack(images: list[torch.Tensor], ids: list[str]) -> torch.Tensor:
    for image, image_id in zip(images, ids, strict=True):
        if image.shape != images[0].shape or image.dtype != torch.uint8:
            raise DataError(
                f"{image_id}: {tuple(image.shape)} {image.dtype} in a batch of {tuple(images[0].shape)} torch.uint8; "
                "images that are used as they are must have one size"
            )
    return torch.stack(images)


def _iterate(chunks: _Chunks, workers: int) -> Iterator[Batch]:
    for batch in _loader(chunks, workers) if workers else map(chunks.__getitem__, range(len(chunks))):
        if isinstance(batch, NsbenchError):
            raise batch
        yield batch


def _loader(chunks: _Chunks, workers: int) -> DataLoader:
    return DataLoader(
        chunks,
        batch_size=None,  # an item is a batch already
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=PREFETCH,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # torch draws a seed for its workers; not from the global state
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    """OpenCV's thread pool does not survive a fork, and the workers are the parallelism."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
