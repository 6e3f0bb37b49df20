"""Images that lie on disk as files, archive members or table rows: one split class for all, one way to read each.

A split keeps ids, labels and places as arrays and opens its files for one image at a time, so it is small, can be
pickled to workers, and holds no picture in memory.
"""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nsbench.data import wnids
from nsbench.data.decode import decode
from nsbench.data.image_ids import canonical_ids
from nsbench.data.masks import MaskFiles, read_mask
from nsbench.data.source import Split, digest_of
from nsbench.errors import CorruptImage
from nsbench.files import open_regular

MAX_BYTES = 1 << 28  # of one encoded image: a larger one is no picture of these sets
AGAIN = "copy it again or remove it from the set"


class Entry(NamedTuple):
    """One image of a set."""

    name: str  # path inside the set, with "/": "n01440764/ILSVRC2012_val_00000293.JPEG"
    label: int
    size: int  # bytes
    at: int = -1  # position in the archive's index


class StoredSplit(Split):
    """Images that are decoded when they are loaded. Subclasses say where the bytes of one image are."""

    bare_numbers: bool = False  # labels are numbers, and nothing in the set says of what
    mask_files: Mapping[int, Path] | None = None  # by position: see masks.py
    sizes: np.ndarray  # (n,) int64, bytes of each encoded image (of very large parquet files: of its row group)

    def __init__(self, name: str, names: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> None:
        """`names`: (n,) str, of each image's file, inside the set."""
        self.name, self.labels, self.sizes = name, labels, sizes
        self._names = np.char.encode(names, "utf-8")  # a quarter of the memory: C has 75 such splits
        self.classes = wnids.subset(name)
        self.class_names: Sequence[str] = wnids.wnids()

    def relabel(self, labels: np.ndarray, class_names: Sequence[str] | None = None) -> None:
        """Take other labels, of these classes where they are not ImageNet's; an image's id may hold its class."""
        self.labels, self.class_names = labels, class_names or self.class_names
        for known in ("ids", "digest"):
            self.__dict__.pop(known, None)

    @cached_property
    def ids(self) -> np.ndarray:  # type: ignore[override]  # worked out on first use, when the labels are settled
        return canonical_ids(self.names, [self.class_names[label] for label in self.labels.tolist()])

    @property
    def names(self) -> list[str]:
        """Of each image's file, inside the set."""
        names: list[str] = np.char.decode(self._names, "utf-8").tolist()
        return names

    def file_name(self, index: int) -> str:
        return bytes(self._names[index]).decode()

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The encoded image. Raises CorruptImage where it cannot be read."""

    @abstractmethod
    def where(self, index: int) -> str:
        """File, and place inside it, for messages."""

    @abstractmethod
    def home(self) -> list[Path]:
        """The folder, archives or tables that hold the images."""

    @abstractmethod
    def stamps(self) -> np.ndarray:
        """(n, 2) int64: bytes and time of change (ns) of each image's file as they are on disk now; -1: absent."""

    def load(self, index: int) -> Image.Image:
        return decode(io.BytesIO(self.read(index)), self.where(index))

    def take_masks(self, found: MaskFiles) -> None:
        self.mask_files, self.masks, self.masks_digest = found.files, found.words, found.digest

    @property
    def masked(self) -> np.ndarray | None:
        if self.mask_files is None:
            return None
        known = np.zeros(len(self), dtype=bool)
        known[list(self.mask_files)] = True
        return known

    def mask(self, index: int) -> Image.Image:
        if self.mask_files is None or index not in self.mask_files:
            raise LookupError(f"{self.where(index)}: has no mask")
        return read_mask(self.mask_files[index], self.load(index).size)

    @cached_property
    def digest(self) -> str:
        """Over the sorted lines (id, label, byte size), and the classes where they were declared.

        File contents are not read: a same-sized edit goes unseen here, and is seen by `nsbench data check`.
        """
        lines = hashlib.sha256(b"files")
        for k in np.argsort(self.ids, kind="stable"):
            lines.update(f"\x1f{self.ids[k]} {self.labels[k]} {self.sizes[k]}".encode())
        digest = lines.hexdigest()[:16]
        if self.set_classes:
            return digest_of(digest, self.set_classes)
        if self.also_right is not None:
            return digest_of(digest, *sorted(self.also_right.items()))
        declared = self.classes is not None and self.classes != wnids.subset(self.name)
        return digest_of(digest, "classes", *(self.classes or ())) if declared else digest


class FolderSplit(StoredSplit):
    """Image files under one folder."""

    def __init__(self, name: str, folder: Path, entries: Sequence[Entry]) -> None:
        super().__init__(name, *columns(entries))
        self.folder = folder

    def read(self, index: int) -> bytes:
        path = self.folder / self.file_name(index)
        try:
            with open_regular(path) as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise CorruptImage(f"{path}: does not exist; {AGAIN}") from None
        except OSError as error:
            raise CorruptImage(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error
        if len(content) > MAX_BYTES:
            raise CorruptImage(f"{path}: is larger than {MAX_BYTES >> 20} MiB and no picture; {AGAIN}")
        return content

    def where(self, index: int) -> str:
        return str(self.folder / self.file_name(index))

    def home(self) -> list[Path]:
        return [self.folder]

    def stamps(self) -> np.ndarray:
        stamps = np.full((len(self), 2), -1, dtype=np.int64)
        for k, name in enumerate(self.names):
            stamps[k] = file_stamp(self.folder / name)
        return stamps


def columns(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names, labels and sizes of entries, as arrays."""
    names = np.array([entry.name for entry in entries], dtype=str)
    labels = np.fromiter((entry.label for entry in entries), np.int64, len(entries))
    return names, labels, np.fromiter((entry.size for entry in entries), np.int64, len(entries))


def file_stamp(path: Path) -> tuple[int, int]:
    """(bytes, time of change in ns); (-1, -1) where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
