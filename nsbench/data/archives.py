"""tar and zip archives, read in place: their folders and files as a tree, and one member's content at a time.

Links are never followed, sizes are bounded before anything is inflated, and nothing is ever unpacked to disk.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nsbench.data.archive_index import PLAIN, STORED, Member, cached_array, index_of, member_at, members
from nsbench.data.source import digest_of
from nsbench.data.stored import AGAIN, MAX_BYTES, Entry, StoredSplit, columns, file_stamp
from nsbench.data.trees import HEAD, File, Tree, hidden
from nsbench.errors import CorruptImage, DataError
from nsbench.files import open_regular

SUFFIXES = (".tar", ".zip")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
INDEX_VERSION = 3


def read_member(path: Path, member: Member, name: str) -> bytes:
    """Content of one member. Raises CorruptImage, naming archive and member."""
    if max(member.size, member.stored) > MAX_BYTES:
        raise CorruptImage(f"{path}/{name}: is larger than {MAX_BYTES >> 20} MiB and no picture; {AGAIN}")
    try:
        with open_regular(path) as file:
            file.seek(member.offset)
            if member.method != PLAIN:
                header = file.read(30)
                file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
            content = file.read(member.stored)
    except OSError as error:
        raise CorruptImage(f"{path}/{name}: cannot be read ({error.strerror}); {AGAIN}") from error
    if len(content) < member.stored:
        raise CorruptImage(f"{path}/{name}: the archive ends inside this file; {AGAIN}")
    return content if member.method == PLAIN else _inflated(path, member, name, content)


def _inflated(path: Path, member: Member, name: str, content: bytes) -> bytes:
    """A zip member's content, inflated to at most the size that the archive declares."""
    try:
        inflated = content if member.method == STORED else zlib.decompressobj(-15).decompress(content, member.size + 1)
    except zlib.error as error:
        raise CorruptImage(f"{path}/{name}: cannot be inflated ({error}); {AGAIN}") from error
    if len(inflated) != member.size or zlib.crc32(inflated) != member.crc:
        raise CorruptImage(f"{path}/{name}: is not what the archive declares (size or checksum); {AGAIN}")
    return inflated


class ArchiveTree(Tree):
    """One folder inside a tar or zip archive."""

    def __init__(self, path: Path, index: np.ndarray, prefix: str = "") -> None:
        self.path, self.index, self.prefix = path, index, prefix
        self.kind = path.suffix.lower().removeprefix(".")
        self.names = index["name"]

    def folders(self, under: str = "") -> list[str]:
        return [name for name, _, is_folder in self._children(under) if is_folder]

    def files(self, under: str = "") -> list[File]:
        sizes = self.index["size"]
        return [File(name, int(sizes[at]), at) for name, at, is_folder in self._children(under) if not is_folder]

    def text(self, name: str) -> str:
        wanted = (self.prefix + name).encode()
        at = bisect_left(self.names, wanted)
        return read_member(self.path, member_at(self.index, at), name).decode("utf-8", errors="replace")

    def walk(self) -> Iterator[str]:
        prefix = self.prefix.encode()
        first = bisect_left(self.names, prefix)
        end = bisect_left(self.names, _after(prefix)) if prefix else len(self.names)
        for at in range(first, end):
            name = bytes(self.names[at])[len(prefix) :].decode("utf-8", errors="replace")
            if name and not any(map(hidden, name.split("/"))):
                yield name

    def head(self, name: str) -> bytes:
        at = bisect_left(self.names, (self.prefix + name).encode())
        if at == len(self.names) or self.index["size"][at] > MAX_BYTES:
            return b""
        return read_member(self.path, member_at(self.index, at), name)[:HEAD]

    def at(self, under: str) -> ArchiveTree:
        return ArchiveTree(self.path, self.index, f"{self.prefix}{under}/")

    def place(self, name: str = "") -> Path:
        return self.path / self.prefix / name

    def split(self, name: str, entries: Sequence[Entry]) -> ArchiveSplit:
        at = np.fromiter((entry.at for entry in entries), np.int64, len(entries))
        archive_of = np.zeros(len(entries), np.uint32)
        return ArchiveSplit(name, [self.path], archive_of, members(self.index, at), *columns(entries))

    def _children(self, under: str) -> Iterator[tuple[str, int, bool]]:
        """(name, position, is a folder) of what lies directly in `under`; whole folders are jumped over."""
        prefix = (f"{self.prefix}{under}/" if under else self.prefix).encode()
        at = bisect_left(self.names, prefix)
        end = bisect_left(self.names, _after(prefix)) if prefix else len(self.names)
        while at < end:
            first, slash, _ = bytes(self.names[at])[len(prefix) :].partition(b"/")
            name = first.decode("utf-8", errors="replace")
            if first and not hidden(name):
                yield name, at, bool(slash)
            at = bisect_left(self.names, _after(prefix + first + b"/"), at) if slash else at + 1


class ArchiveSplit(StoredSplit):
    """Images inside one or several archives."""

    def __init__(
        self,
        name: str,
        archives: Sequence[Path],
        archive_of: np.ndarray,
        members: np.ndarray,
        names: np.ndarray,
        labels: np.ndarray,
        sizes: np.ndarray,
    ) -> None:
        super().__init__(name, names, labels, sizes)
        self.archives, self.archive_of, self.members = list(archives), archive_of, members

    def read(self, index: int) -> bytes:
        return read_member(self._archive(index), member_at(self.members, index), self.file_name(index))

    def where(self, index: int) -> str:
        return f"{self._archive(index)}/{self.file_name(index)}"

    def home(self) -> list[Path]:
        return self.archives

    def stamps(self) -> np.ndarray:
        archives = np.array([file_stamp(path) for path in self.archives], dtype=np.int64)
        return np.stack([self.sizes, archives[self.archive_of, 1]], axis=1)

    def _archive(self, index: int) -> Path:
        return self.archives[int(self.archive_of[index])]


def open_archive(path: Path) -> ArchiveTree:
    """The archive's tree, indexed on first use. Raises DataError for one that cannot be read in place or trusted."""
    if path.name.lower().endswith(COMPRESSED):
        raise DataError(
            f"{path}: is compressed as a whole and cannot be read in place; "
            "uncompress it to .tar once (gunzip, bunzip2, unxz), the rest is done here"
        )
    key = digest_of("index", INDEX_VERSION, path.resolve(), *file_stamp(path))
    return ArchiveTree(path, cached_array("archives", key, lambda: index_of(path)))


def _after(prefix: bytes) -> bytes:
    """The smallest name behind all names that start with `prefix`, which ends with "/"."""
    return prefix[:-1] + b"0"
