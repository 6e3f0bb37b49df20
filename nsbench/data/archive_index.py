"""What lies where in a tar or zip archive: an array of its files, sorted by name, kept in the cache.

Archives are not trusted: a member whose name leads out of the archive (absolute, or with "..") refuses the whole
archive, links to images are refused, and a tar without its end mark is reported as half copied. Names are UTF-8: read
in another encoding they would sort otherwise, and classes would change places.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsbench.data.image_ids import IMAGE_SUFFIXES
from nsbench.data.kept import keep_array, kept_array
from nsbench.data.trees import hidden
from nsbench.errors import DataError
from nsbench.files import cache_folder, check_regular

PLAIN, STORED, DEFLATED = 0, 1, 2  # tar member; zip members as they are, and deflated
MEMBER = [("offset", "<i8"), ("stored", "<i8"), ("size", "<i8"), ("crc", "<u4"), ("method", "u1")]
BROKEN = (  # what tarfile and zipfile raise for damaged files
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, LookupError),
    *(NotImplementedError, OverflowError, RecursionError, MemoryError, TypeError, AttributeError),
)
UTF8, UNICODE_PATH = 0x800, 0x7075  # of a zip's member: the flag of UTF-8 names, and the extra field that holds one
NO_TEXT = re.compile(r"[\ud800-\udfff]")  # bytes that are no UTF-8, as they are decoded here
LONGEST_NAME = 512  # bytes
BLOCK = 1 << 16  # members that are collected as Python objects before they become an array


class Member(NamedTuple):
    """Where the bytes of one file are in its archive."""

    offset: int  # tar: of its content; zip: of its local header
    stored: int  # bytes in the archive
    size: int  # bytes of the file
    crc: int  # zip only
    method: int


def index_of(path: Path) -> np.ndarray:
    """All files of the archive, sorted by name: an array of name (bytes) and the fields of MEMBER.

    Raises DataError for an archive that cannot be read or trusted.
    """
    scan = _zip_members if path.suffix.lower() == ".zip" else _tar_members
    try:
        return _sorted(path, scan(check_regular(path)))
    except BROKEN as error:
        raise DataError(
            f"{path}: cannot be read as {path.suffix.lower()[1:]} ({error}); half copied? Copy it again"
        ) from error


def _tar_members(path: Path) -> Iterator[tuple[str, Member]]:
    last = -1
    with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
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
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it stops without the end mark of a tar")


def _zip_members(path: Path) -> Iterator[tuple[str, Member]]:
    methods = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}
    try:
        opened = zipfile.ZipFile(path)
    except UnicodeDecodeError as error:  # a name that is marked as UTF-8
        raise _no_text(path, error.object.decode("utf-8", "surrogateescape")) from error
    with opened as file:
        for item in file.infolist():
            name = _trusted(path, _zip_name(item), stat.S_ISLNK(item.external_attr >> 16))
            if item.is_dir():
                continue
            if item.flag_bits & 1 or item.compress_type not in methods:
                raise DataError(f"{path}: '{name}' is encrypted or packed by an unusual method; make the zip anew")
            method = methods[item.compress_type]
            yield name, Member(item.header_offset, item.compress_size, item.file_size, item.CRC, method)


def _zip_name(item: zipfile.ZipInfo) -> str:
    """The member's name. Where it is not marked as UTF-8, zipfile reads it as cp437; Info-ZIP on Linux writes UTF-8 all the
    same, and what Windows writes may have its UTF-8 in an extra field."""
    if item.flag_bits & UTF8:
        return item.orig_filename
    raw = item.orig_filename.encode("cp437")
    return (_unicode_path(item.extra, zlib.crc32(raw)) or raw).decode("utf-8", "surrogateescape")


def _unicode_path(extra: bytes, crc: int) -> bytes:
    """The name in the extra field 0x7075, where it belongs to a name with this checksum; b"" where there is none."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        content, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and content[:5] == struct.pack("<BI", 1, crc):
            return content[5:]
    return b""


def _no_text(path: Path, name: str) -> DataError:
    return DataError(
        f"{path}: holds a name that is not UTF-8, {name[:80]!a}; make the archive anew with names in UTF-8"
    )


def _trusted(path: Path, name: str, link: bool) -> str:
    """The member's relative name. Raises DataError for names that lead out, links to images, absurd names, and pictures
    and folders whose name is no text."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
        raise DataError(
            f"{path}: holds '{name[:80]}', a name that leads out of the archive; do not trust this file, "
            "get the set from its authors"
        )
    inside = [part for part in parts if part not in ("", ".")]
    if not (name.isascii() or _is_text(inside)):
        raise _no_text(path, name)
    if len(name.encode("utf-8", errors="replace")) > LONGEST_NAME:
        raise DataError(f"{path}: holds a name of more than {LONGEST_NAME} bytes, '{name[:40]}...'; make it anew")
    if link and not hidden(parts[-1]):
        raise DataError(
            f"{path}: '{name[:80]}' is a link, and links in archives are not followed; "
            "pack the files themselves (tar --dereference --hard-dereference)"
        )
    return "/".join(inside)


def _is_text(parts: list[str]) -> bool:
    """Whether a member's name is UTF-8, as far as it matters: of folders, and of files that are pictures."""
    if any(map(hidden, parts)):
        return True
    *folders, file = parts or [""]
    return not any(map(NO_TEXT.search, [*folders, file] if file.lower().endswith(IMAGE_SUFFIXES) else folders))


def _sorted(path: Path, listed: Iterable[tuple[str, Member]]) -> np.ndarray:
    """The index. Blocks of members become arrays at once, so that millions of them fit into memory."""
    names, numbers = [np.array([], "S1")], [np.array([], MEMBER)]
    stream = iter(listed)
    while block := list(islice(stream, BLOCK)):
        names.append(np.array([name.encode("utf-8", errors="backslashreplace") for name, _ in block]))
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


def members(index: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The MEMBER fields of the index at these positions, in memory and compact."""
    chosen = np.empty(len(at), dtype=MEMBER)
    for field, _ in MEMBER:
        chosen[field] = index[field][at]
    return chosen


def member_at(array: np.ndarray, at: int) -> Member:
    return Member(*(int(array[at][field]) for field, _ in MEMBER))


def cached_array(kind: str, key: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """The array kept under `key`, mapped from its file; built and kept where it is not there or damaged."""
    path = cache_folder() / kind / f"{key}.npy"
    try:
        return kept_array(path)
    except (OSError, ValueError):
        array = build()
    try:
        keep_array(path, array)
        return kept_array(path)
    except (OSError, ValueError):
        return array  # no room for a cache: it works, and is built again next time
