"""Batches of a split, in the split's order, decoded here or in worker processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from nsbench.data.source import Split
from nsbench.errors import CorruptImage, DataError, NsbenchError, UsageError
from nsbench.files import open_files_allowed

FILES_OF_A_WORKER = 16  # open at a time: its pipes, and two for each batch on its way
PREFETCH = 2  # batches that each worker holds ready: what bounds the memory

Transform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """B images of a split."""

    images: torch.Tensor  # (B, 3, H, W) uint8
    labels: torch.Tensor  # (B,) int64
    ids: list[str]
    indices: np.ndarray  # (B,) int64, positions in the split
    corrupt: dict[str, str] = field(default_factory=dict)  # id -> why, of images that were left out
    masks: torch.Tensor | None = None  # (B, 1, H, W) float, of the foreground, NaN where not known; None: not asked for

    def __len__(self) -> int:
        return len(self.ids)

    def pin_memory(self) -> Batch:
        """In page-locked memory, from where a GPU fetches it beside its work; torch's loader asks for it."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


def batches(
    split: Split,
    transform: Transform,
    *,
    batch_size: int,
    workers: int = 0,
    indices: Sequence[int] | np.ndarray | None = None,
    corrupt: dict[str, str] | None = None,
) -> Iterator[Batch]:
    """Batches of `split`, or of its images `indices` in that order; the last one may be smaller.

    `transform` makes a (3, H, W) uint8 tensor of a PIL image, of one size for the whole split. With workers, images
    are decoded ahead in that many processes, or in fewer where few files may be open; the batches are the same. Errors
    of nsbench (a CorruptImage, say) arrive as themselves, from workers too. torch's global random state is not moved.

    With a dictionary `corrupt`, an image that cannot be decoded is left out of its batch instead of raising, and is
    noted there: id -> one line that names the file. Whoever passes it must say what is missing.
    """
    if batch_size < 1 or workers < 0:
        raise UsageError(f"batch size {batch_size}, workers {workers}: need at least 1 and 0")
    order = np.arange(len(split)) if indices is None else np.asarray(indices, dtype=np.int64)
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    workers = min(workers, len(chunks), open_files_allowed() // FILES_OF_A_WORKER)
    return _iterate(_Chunks(split, transform, chunks, corrupt is not None), workers, corrupt)


class _Chunks(Dataset["Batch | NsbenchError"]):
    """Item k is batch k whole, or the nsbench error that loading it raised (torch would wrap a raised one)."""

    def __init__(self, split: Split, transform: Transform, chunks: list[np.ndarray], skip: bool = False) -> None:
        self.split, self.transform, self.chunks, self.skip = split, transform, chunks, skip

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, k: int) -> Batch | NsbenchError:
        chunk = self.chunks[k]
        images: dict[int, torch.Tensor] = {}
        corrupt: dict[str, str] = {}
        try:
            for index in chunk.tolist():
                try:
                    images[index] = self._image(index)
                except CorruptImage as error:
                    if not self.skip:
                        raise
                    corrupt[str(self.split.ids[index])] = str(error)
            kept = np.array(list(images), dtype=np.int64)
            ids = [str(image_id) for image_id in self.split.ids[kept]]
            stacked = _stack(list(images.values()), ids)
        except NsbenchError as error:
            return error
        return Batch(stacked, torch.from_numpy(self.split.labels[kept]), ids, kept, corrupt)

    def _image(self, index: int) -> torch.Tensor:
        image = self.split.load(index)
        try:
            return self.transform(image)
        except DataError as error:  # a transform does not know which image it was given
            raise DataError(f"{self.split.ids[index]}: {error}") from error


def _stack(images: list[torch.Tensor], ids: list[str]) -> torch.Tensor:
    for image, image_id in zip(images, ids, strict=True):
        if image.shape != images[0].shape or image.dtype != torch.uint8:
            raise DataError(
                f"{image_id}: {tuple(image.shape)} {image.dtype} in a batch of {tuple(images[0].shape)} torch.uint8; "
                "images that are used as they are must have one size"
            )
    return torch.stack(images) if images else torch.empty(0, 3, 0, 0, dtype=torch.uint8)


def _iterate(chunks: _Chunks, workers: int, corrupt: dict[str, str] | None) -> Iterator[Batch]:
    for batch in _loader(chunks, workers) if workers else map(chunks.__getitem__, range(len(chunks))):
        if isinstance(batch, NsbenchError):
            raise batch
        if corrupt is not None:
            corrupt |= batch.corrupt
        if len(batch):
            yield batch


def _loader(chunks: _Chunks, workers: int) -> DataLoader[Batch | NsbenchError]:
    return DataLoader(
        chunks,
        batch_size=None,  # an item is a batch already
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=PREFETCH,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_initialized(),  # by the model that lies there
        generator=torch.Generator(),  # torch draws a seed for its workers; not from the global state
    )


def _as_it_is(item: Any) -> Any:  # the type that torch gives it is that of a list of items
    return item


def _one_thread(worker: int) -> None:
    """OpenCV's thread pool does not survive a fork, and the workers are the parallelism."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
