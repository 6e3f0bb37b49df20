"""The folder that a set is made in: written by one process at a time, marked by how it was made, with whole files only."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from nsbench.data.made import MARKER, parse_marker
from nsbench.errors import DataError
from nsbench.files import open_regular, read_regular, write_atomically, writing

REMEDY = "make room or check the path and your rights, and run it again: what is done is kept"


@dataclass(frozen=True)
class Made:
    """A set that was made."""

    folder: Path
    images: int  # of the source
    written: int  # files
    kept: int  # files that were there already
    unreadable: Mapping[str, str]  # image id -> why nothing could be made of it
    seconds: float

    def __str__(self) -> str:
        done = f"{self.folder}: {self.written:,} files written, {self.kept:,} were there, in {self.seconds:,.0f} s"
        if not self.unreadable:
            return done
        return f"{done}; {len(self.unreadable)} images could not be read: {next(iter(self.unreadable.values()))}"


@contextmanager
def being_made(out: Path) -> Iterator[None]:
    """The folder `out`, for this process alone. Raises DataError where it cannot be written or is being written."""
    lock = FileLock(out / ".nsbench-make.lock", timeout=0)
    with writing(out, DataError, REMEDY):
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise DataError(f"{out}: another process is making this set; wait for it or give another --out") from None
        try:
            yield
        finally:
            lock.release()


def mark(folder: Path, recipe: Mapping[str, object], *, complete: bool, unreadable: Sequence[str] = ()) -> None:
    """Write the marker. `recipe`: all that decides the bytes of the set, and its "origin".

    Raises DataError for a folder that holds anything that was made in another way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / MARKER
    if marker.exists():
        before = parse_marker(read_regular(marker).decode(errors="replace"), str(marker)).content
        other = next((key for key, value in recipe.items() if before.get(key) != value), None)
        if other is not None:
            raise DataError(
                f"{folder}: was made with another {other} ({before.get(other)}, now {recipe[other]}); "
                "remove it or give another --out"
            )
    elif any(not item.name.startswith(".") for item in folder.iterdir()):
        raise DataError(f"{folder}: holds files that nsbench did not make (no {MARKER}); give another --out")
    content = {**recipe, "unreadable": list(unreadable), "complete": complete}
    write_atomically(marker, (json.dumps(content, indent=1) + "\n").encode())


def check_unique(names: Iterable[str]) -> None:
    """Refuse names of files that two images would share."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} images would be written to the same file, such as {twice[0]}; rename them")


def save(path: Path, content: bytes) -> None:
    """Without fsync, which would take longer than the rest: `ends_with` finds what a power cut has spoiled."""
    draft = path.with_name(f".{path.name}.part")  # a killed run's draft is overwritten by the next run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def ends_with(path: Path, end: bytes) -> bool:
    """The file is there and whole: after a power cut, an empty file may have got its name."""
    try:
        with open_regular(path) as file:
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except OSError:
        return False
