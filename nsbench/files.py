"""Where nsbench keeps files, how it writes them (whole or not at all), and ids of images without their suffix.

What is being written is a draft, `.<name>.<8 hex digits>.draft`, and a process holds a lock on each of its drafts as
long as it lives. So what a killed process left behind can be told from what another one is writing, and is removed by
the next process that writes to the folder. The locks are flock's: they end with the process, hold between the
containers of one machine, and on NFS between machines where the server offers locks (version 4, or lockd). Where there
are none, files are as whole as elsewhere, but drafts of killed processes stay.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from nsbench.errors import UsageError

DRAFT = ".draft"
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt", ".npz")  # of checkpoints
# What to do where a place takes no more
OTHER_CACHE = "free some space or point NSBENCH_CACHE to another folder"
OTHER_RESULTS = "free some space or choose another folder with --results"


def cache_folder() -> Path:
    """Root of rendered data and fitted weights; NSBENCH_CACHE overrides the user's cache folder.

    Raises UsageError where there is neither.
    """
    from platformdirs import user_cache_path

    root = os.environ.get("NSBENCH_CACHE")
    try:
        return expanded(root) if root else user_cache_path("nsbench")
    except RuntimeError:  # an account without a home, as in containers
        raise UsageError("there is no home folder to keep a cache in; point NSBENCH_CACHE to a folder") from None


def expanded(path: str) -> Path:
    """The path, with a leading "~" or "~user" replaced by that home. Raises UsageError where nobody has one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: there is no such home; write the whole path") from None


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_files_allowed() -> int:
    """How many files this process may hold open."""
    most: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if most != resource.RLIM_INFINITY else 1 << 20


@contextmanager
def without_collection() -> Iterator[None]:
    """Nothing looks for circles of objects inside, or inside a function that is decorated with it.

    For what makes records by the million, which hold none: Python would walk all of them again and again.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Around the import of torch and its like, which make close to a million objects and leave no circles behind.

    Python would look through all of them several times inside, and again and again later.
    """
    known = len(sys.modules)
    with without_collection():
        yield
    if len(sys.modules) > known:
        gc.freeze()


def keep_freed_memory() -> None:
    """Have glibc keep a few megabytes that were freed, as it does for good once it has freed as large an array.

    Until then it gives them back to the system after every few arrays of megabytes, and fetching them anew takes as
    long as the work on them. Nothing is written: these 16 MiB are never occupied. Other C libraries take no notice.
    """
    import numpy as np

    np.empty(2**24, np.uint8)


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

    Makes the folder where it is absent; the first time, removes from it what killed processes left. The file's
    permissions are those that the process's umask leaves. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_once(path.parent.absolute())
    with _draft(path) as (file, draft):
        yield file
        file.flush()
        os.fsync(file.fileno())
        os.replace(draft, path)


def can_be_made(folder: Path) -> bool:
    """The folder is not there, and what would hold it is a folder that can be written to."""
    if os.path.lexists(folder):
        return False
    parent = next(place for place in folder.absolute().parents if os.path.lexists(place))
    return os.path.isdir(parent) and os.access(parent, os.W_OK)


def try_to_write(folder: Path) -> None:
    """Raises OSError where no file can be written to a folder; makes it where it is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    with _draft(folder / "trial"):
        pass


def try_place(path: Path) -> None:
    """Raises OSError where no file can be written to this path; leaves nothing, not even its folder."""
    if path.parent.is_dir():
        try_to_write(path.parent)
    elif not can_be_made(path.parent):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time in this folder, of those that ask here; the others wait. Raises OSError.

    The lock is a file that is gone at the end. Where the file system has no locks, nobody waits for anybody.
    """
    lock = folder / f".writing{DRAFT}"
    handle = _open_lock(lock)
    while not _is_there(handle, lock):  # its last holder has removed it
        os.close(handle)
        handle = _open_lock(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def clear_drafts(folder: Path, below: bool = False) -> None:
    """Remove the drafts of killed processes in a folder, or in all folders below it, too."""
    for draft in (folder.rglob if below else folder.glob)(f".*{DRAFT}"):
        with _abandoned(draft) as dead:
            if dead:
                draft.unlink(missing_ok=True)


@cache
def _clear_once(folder: Path) -> None:
    """A folder of fifty thousand files is not listed for each of them."""
    clear_drafts(folder)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder in the system's temporary one, gone at the end; those of this prefix that killed processes left go first.

    Raises OSError.
    """
    root = Path(tempfile.gettempdir())
    for lock in root.glob(f"{prefix}*{DRAFT}"):
        with _abandoned(lock) as dead:
            if dead:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
    with _draft(root / prefix, hidden=False) as (_, lock):
        folder = lock.with_suffix("")
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _draft(path: Path, hidden: bool = True) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside `path`, locked by this process, that is removed at the end unless it was renamed."""
    while True:
        name = f".{path.name}." if hidden else path.name
        draft = path.with_name(f"{name}{secrets.token_hex(4)}{DRAFT}")
        with suppress(FileExistsError):
            handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            if _lock(handle) is not False and _is_there(handle, draft):
                break
            os.close(handle)  # another process took it for a killed one's, in the instant before it was locked
    with os.fdopen(handle, "wb") as file:
        try:
            yield file, draft
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _abandoned(draft: Path) -> Iterator[bool]:
    """Whether the process that made this draft is dead; if so, nobody else finds it abandoned inside the block."""
    try:
        handle = os.open(draft, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone meanwhile, or another user's
        yield False
        return
    try:
        found = os.fstat(handle)
        mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        yield mine and _lock(handle) is True and _is_there(handle, draft)
    finally:
        os.close(handle)


def _open_lock(lock: Path) -> int:
    """Open, and locked as soon as no other process holds it."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        _lock(handle, wait=True)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _lock(handle: int, wait: bool = False) -> bool | None:
    """Whether this process has the lock now; None: the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_there(handle: int, path: Path) -> bool:
    """The open file still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
