"""Where nsbench keeps files, how it writes them (whole or not at all), and ids of images without their suffix."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# What to do where a place takes no more
OTHER_CACHE = "free some space or point NSBENCH_CACHE to another folder"
OTHER_RESULTS = "free some space or choose another folder with --results"


def cache_folder() -> Path:
    """Root of rendered data and fitted weights; NSBENCH_CACHE overrides the user's cache folder."""
    from platformdirs import user_cache_path

    root = os.environ.get("NSBENCH_CACHE")
    return Path(root).expanduser() if root else user_cache_path("nsbench")


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def writing(
    place: Path,
    error: type[Exception],
    remedy: str,
    refusals: tuple[type[Exception], ...] = (OSError,),
    what: str = "cannot be written",
) -> Iterator[None]:
    """What the operating system refuses inside the block is raised as `error`, in one line.

    "<place>: <what> (No space left on device); <remedy>". `refusals`: for libraries that raise another kind of error on
    a full disk.
    """
    try:
        yield
    except refusals as refusal:
        why = getattr(refusal, "strerror", None) or str(refusal).partition("\n")[0]
        raise error(f"{place}: {what} ({why}); {remedy}") from refusal


def open_regular(path: Path) -> BinaryIO:
    """A file that others may have put there, to read. Raises OSError, also for what is no regular file: a pipe would
    be waited for without end, and a device read without end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _require_regular(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path) -> bytes:
    """Content of a file that others may have put there. Raises OSError, as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def check_regular(path: Path) -> Path:
    """The path, for libraries that open it themselves. Raises OSError where there is no regular file."""
    _require_regular(path, os.stat(path).st_mode)
    return path


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is no regular file but a pipe, a socket or a device", str(path))


def write_atomically(path: Path, content: bytes) -> None:
    """Either the whole content is there under this name, or what was there before. Raises OSError."""
    with open_atomically(path) as file:
        file.write(content)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes this name when the block ends, and leaves nothing where it fails.

    Makes the folder where it is absent. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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


def without_suffix(image_id: str) -> str:
    """ "n01440764/a.JPEG" -> "n01440764/a": one image of a set, whatever format it is stored in."""
    folder, slash, name = image_id.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def stem(image_id: str) -> str:
    """ "n01440764/a.JPEG" -> "a": one image of ImageNet's validation set and of all sets that are made from it."""
    return without_suffix(image_id.rpartition("/")[2])
