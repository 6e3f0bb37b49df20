"""Arrays in the cache, each with the digest of its file behind it: what was damaged is not read, but made again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nsbench.files import open_atomically, open_regular

DIGEST = 32  # bytes behind the array
CHUNK = 1 << 20  # bytes that are read at once


def keep_array(path: Path, array: np.ndarray) -> None:
    """Whole or not at all. Raises OSError."""
    with open_atomically(path) as file:
        hashed = _Hashed(file)
        np.save(hashed, array, allow_pickle=False)
        file.write(hashed.digest.digest())


def kept_array(path: Path) -> np.ndarray:
    """Mapped from its file. Raises OSError, or ValueError for a file that is no such array, cut short or altered."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        left = os.fstat(file.fileno()).st_size - DIGEST
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        if left or file.read() != digest.digest():
            raise ValueError(f"{path}: differs from its digest")
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


class _Hashed:
    """A file to write to that digests what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)
