"""tar and zip archives, read in place: an index of their members, kept in the cache, and one member at a time.

Archives are not trusted: a member whose name leads out of the archive (absolute, or with "..") refuses the whole
archive, links are never followed, sizes are bounded before anything is inflated, and a tar without its end mark
is reported as half copied. Nothing is ever unpacked to disk.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsbench.data.source import digest_of
from nsbench.data.stored import AGAIN, MAX_BYTES, Entry, StoredSplit, columns, file_stamp
from nsbench.data.trees import IMAGE_SUFFIXES, File, Tree, hidden
from nsbench.errors import CorruptImage, DataError
from nsbench.files import cache_folder, write_atomically

SUFFIXES = (".tar", ".zip")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
PLAIN, STORED, DEFLATED = 0, 1, 2  # tar member; zip members as they are, and deflated
MEMBER = [("offset", "<i8"), ("stored", "<i8"), ("size", "<i8"), ("crc", "<u4"), ("method", "u1")]
LONGEST_NAME = 512  # bytes
BLOCK = 1 << 16  # members that are collected as Python objects before they become an array
INDEX_VERSION = 1


class Member(NamedTuple):
    """Where the bytes of one file are in its archive."""

    offset: int  # tar: of its content; zip: of its local header
    stored: int  # bytes in the archive
    size: int  # bytes of the file
    crc: int  # zip only
    method: int


def read_member(path: Path, member: Member, name: str) -> bytes:
    """Content of one member. Raises CorruptImage, naming archive and member."""
    if max(member.size, member.stored) > MAX_BYTES:
        raise CorruptImage(f"{path}/{name}: is larger than {MAX_BYTES >> 20} MiB and no picture; {AGAIN}")
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            if member.method != PLAIN:
                header = file.read(30)
                file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
            content = file.read(member.stored)
    except OSError as error:
        raise CorruptImage(f"{path}/{name}: cannot be read ({error.strerror}); {AGAIN}") from error
    if len(content) < member.stored:
        raise CorruptImage(f"{path}/{name}: the archive ends inside this file; {AGAIN}")
    return content if member.method == PLAIN else _checked(path, member, name, content)


def _checked(path: Path, member: Member, name: str, content: bytes) -> bytes:
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

    def at(self, under: str) -> ArchiveTree:
        return ArchiveTree(self.path, self.index, f"{self.prefix}{under}/")

    def place(self, name: str = "") -> Path:
        return self.path / self.prefix / name

    def split(self, name: str, entries: Sequence[Entry]) -> ArchiveSplit:
        at = np.fromiter((entry.at for entry in entries), np.int64, len(entries))
        return ArchiveSplit(
            name, [self.path], np.zeros(len(entries), np.uint32), members(self.index, at), *columns(entries)
        )

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
        ids: np.ndarray,
        labels: np.ndarray,
        sizes: np.ndarray,
    ) -> None:
        super().__init__(name, ids, labels, sizes)
        self.archives, self.archive_of, self.members = list(archives), archive_of, members

    def read(self, index: int) -> bytes:
        return read_member(self._archive(index), member_at(self.members, index), str(self.ids[index]))

    def where(self, index: int) -> str:
        return f"{self._archive(index)}/{self.ids[index]}"

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


def index_of(path: Path) -> np.ndarray:
    """All files of the archive, sorted by name: an array of name (bytes) and the fields of MEMBER."""
    scan = _zip_members if path.suffix.lower() == ".zip" else _tar_members
    try:
        return _array(path, scan(path))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"{path}: cannot be read as {path.suffix.lower()[1:]} ({error}); half copied? Copy it again"
        ) from error


def _tar_members(path: Path) -> Iterator[tuple[str, Member]]:
    last = -1
    with tarfile.open(path, "r:") as tar:
        while (item := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # a list that would grow to gigabytes
            if item.size < 0 or item.offset_data <= last:
                raise tarfile.ReadError(f"member '{item.name[:80]}' has an impossible place")
            last = item.offset_data
            name = _trusted(path, item.name, item.islnk() or item.issym())
            if item.isreg() and not item.issparse():
                yield name, Member(item.offset_data, item.size, item.size, 0, PLAIN)
            elif name.lower().endswith(IMAGE_SUFFIXES):
                raise DataError(f"{path}: '{name}' is no ordinary file; make the archive anew")
        tar.fileobj.seek(tar.offset)  # type: ignore[union-attr,attr-defined]
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # type: ignore[union-attr]
            raise tarfile.ReadError("it stops without the end mark of a tar")


def _zip_members(path: Path) -> Iterator[tuple[str, Member]]:
    methods = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}
    with zipfile.ZipFile(path) as file:
        for item in file.infolist():
            name = _trusted(path, item.filename, stat.S_ISLNK(item.external_attr >> 16))
            if item.is_dir():
                continue
            if item.flag_bits & 1 or item.compress_type not in methods:
                raise DataError(f"{path}: '{name}' is encrypted or packed by an unusual method; make the zip anew")
            yield (
                name,
                Member(item.header_offset, item.compress_size, item.file_size, item.CRC, methods[item.compress_type]),
            )


def _trusted(path: Path, name: str, link: bool) -> str:
    """The member's relative name. Raises DataError for names that lead out, links to images, and absurd names."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
        raise DataError(
            f"{path}: holds '{name[:80]}', a name that leads out of the archive; do not trust this file, "
            "get the set from its authors"
        )
    if len(name.encode("utf-8", errors="replace")) > LONGEST_NAME:
        raise DataError(f"{path}: holds a name of more than {LONGEST_NAME} bytes, '{name[:40]}...'; make it anew")
    if link and not hidden(parts[-1]):
        raise DataError(
            f"{path}: '{name[:80]}' is a link, and links in archives are not followed; "
            "pack the files themselves (tar --dereference --hard-dereference)"
        )
    return "/".join(part for part in parts if part not in ("", "."))


def _array(path: Path, found: Iterable[tuple[str, Member]]) -> np.ndarray:
    """Blocks of members become arrays at once, so that millions of them fit into memory."""
    names, numbers = [np.array([], "S1")], [np.array([], MEMBER)]
    stream = iter(found)
    while block := list(islice(stream, BLOCK)):
        names.append(np.array([name.encode("utf-8", errors="replace") for name, _ in block]))
        numbers.append(np.array([tuple(member) for _, member in block], dtype=MEMBER))
    all_names = np.concatenate(names)
    order = np.argsort(all_names, kind="stable")
    index = np.empty(len(order), dtype=[("name", all_names.dtype), *MEMBER])
    index["name"] = all_names[order]
    for start in range(1, len(order), BLOCK):
        ahead = index["name"][start : start + BLOCK]
        twice = np.flatnonzero(ahead == index["name"][start - 1 : start - 1 + len(ahead)])
        if len(twice):
            raise DataError(f"{path}: holds '{ahead[twice[0]].decode(errors='replace')}' twice; make it anew")
    joined = np.concatenate(numbers)[order]
    for field, _ in MEMBER:
        index[field] = joined[field]
    return index


def cached_array(kind: str, key: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """The array kept under `key`, mapped from its file; built and kept where it is not there or damaged."""
    path = cache_folder() / kind / f"{key}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = build()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_array(path, array)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return array  # no room for a cache: it works, and is built again next time


def write_array(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def members(index: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The MEMBER fields of the index at these positions, in memory and compact."""
    found = np.empty(len(at), dtype=MEMBER)
    for field, _ in MEMBER:
        found[field] = index[field][at]
    return found


def member_at(array: np.ndarray, at: int) -> Member:
    return Member(*(int(array[at][field]) for field, _ in MEMBER))


def _after(prefix: bytes) -> bytes:
    """The smallest name behind all names that start with `prefix`, which ends with "/"."""
    return prefix[:-1] + b"0"
