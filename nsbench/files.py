"""Where nsbench keeps files of its own, how it writes any file (whole or not at all), and how many cores it has."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """Root of rendered data and fitted weights; NSBENCH_CACHE overrides the user's cache folder."""
    from platformdirs import user_cache_path

    root = os.environ.get("NSBENCH_CACHE")
    return Path(root).expanduser() if root else user_cache_path("nsbench")


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_atomically(path: Path, content: bytes) -> None:
    """Either the whole content is there under this name, or what was there before. Raises OSError."""
    with open_atomically(path) as file:
        file.write(content)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes this name when the block ends, and leaves nothing where it fails."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
