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
    return mapped_array(path)


def mapped_array(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped and not to be written to. Unlike numpy's, it holds no open file: a suite has 75
    sets, and some systems allow 64 files. Raises OSError, or whatever numpy meets in a damaged file.
    """
    import pyarrow as pa

    with open_regular(path) as file:
        read_header = np.lib.format.read_array_header_1_0
        if np.lib.format.read_magic(file) != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        start = file.tell()
    with pa.memory_map(str(path)) as mapped:
        content = mapped.read_buffer()
    if fortran or dtype.hasobject:
        raise ValueError(f"{path}: holds an array of another kind")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(content, dtype, count, start).reshape(shape)


class _Hashed:
    """A file to write to that digests what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)
