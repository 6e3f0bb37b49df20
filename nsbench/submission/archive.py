"""Reading a stranger's archive: no path leaves its place, no size is believed, no digest is trusted unseen."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nsbench.errors import ResultError, UsageError
from nsbench.files import open_regular
from nsbench.results import folder_of
from nsbench.results.npz import MEMBERS
from nsbench.results.parquet import LARGEST
from nsbench.results.zip_directory import check_directory

FORMAT = 1
MANIFEST = "manifest.json"
WORD = r"[A-Za-z0-9_][A-Za-z0-9._+=@-]{0,99}"  # a name that is a file name on every system
MEMBER = re.compile(rf"results/(?:{WORD}/){{3}}{WORD}\.(?:json|parquet|npz)")
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # devices on Windows


@dataclass(frozen=True)
class Limits:
    """What is still read. Bytes."""

    archive: int = 1 << 30
    files: int = 20_000
    json: int = 4 << 20
    outcomes: int = 64 << 20
    unpacked: int = LARGEST  # of one .npz, which is a zip itself


@dataclass(frozen=True)
class Archive:
    """Files by name, each as its manifest says."""

    files: Mapping[str, bytes]
    digest: str  # SHA-256 of the manifest


def open_archive(path: Path, limits: Limits | None = None) -> Archive:
    """Read an archive into memory. Raises ResultError, naming file and member, for whatever is not as it must be.

    Raises UsageError where there is no such file.
    """
    try:
        with open_regular(path) as file:
            return read_archive(path, file, limits)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: does not exist; make an archive with nsbench submit pack") from error
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_archive(path: Path, file: BinaryIO, limits: Limits | None = None) -> Archive:
    """The same of an open file, which messages call `path`."""
    limits = limits or Limits()
    if (size := file.seek(0, os.SEEK_END)) > limits.archive:
        raise ResultError(f"{path}: has {size:,} bytes; at most {limits.archive:,} are read")
    try:
        check_directory(file, limits.files)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(path, members, limits)
            files = {info.filename: _read(path, archive, info) for info in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        raise ResultError(
            f"{path}: is no archive that can be read ({_line(error)}); make one with nsbench submit pack"
        ) from error
    manifest = files.pop(MANIFEST, None)
    if manifest is None:
        raise ResultError(f"{path}: has no {MANIFEST}; make archives with nsbench submit pack")
    _check_manifest(path, manifest, files)
    return Archive(files, hashlib.sha256(manifest).hexdigest())


def member_folder(source: str, model: str, method: str) -> str:
    """Where a result stands in an archive: its folder, in characters that every system can hold."""
    return "results/" + re.sub(r"[^A-Za-z0-9._+=@/-]", "-", folder_of(source, model, method))


def _check_members(path: Path, members: list[zipfile.ZipInfo], limits: Limits) -> None:
    total, seen = 0, set()
    for info in members:
        name = shown(info.orig_filename)
        if reason := _wrong(info, limits):
            raise ResultError(f"{path}: member {name} {reason}")
        if info.filename.lower() in seen:
            raise ResultError(f"{path}: member {name} is there twice")
        seen.add(info.filename.lower())
        total += info.file_size
    if total > limits.archive:
        raise ResultError(f"{path}: would unpack to {total:,} bytes; at most {limits.archive:,} are read")


def _wrong(info: zipfile.ZipInfo, limits: Limits) -> str:
    """Why a member is refused; "" where it is not."""
    name = info.orig_filename
    if name != info.filename or not (name == MANIFEST or MEMBER.fullmatch(name)):
        return "is not results/<source>/<model>/<method>/<suite>.seed<k>.json, .parquet or .npz"
    if any(part.endswith(".") or RESERVED.fullmatch(part) for part in name.split("/")):
        return "has a name that not every system can hold"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is a link or another special file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed by an unusual method"
    most = limits.json if name.endswith(".json") else limits.outcomes
    return f"has {info.file_size:,} bytes; at most {most:,} are read" if info.file_size > most else ""


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The member, never more than it says it has; zipfile checks the CRC at its end."""
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise ResultError(f"{path}: member {shown(info.filename)} has another size than it says")
    return content


def _check_manifest(path: Path, manifest: bytes, files: Mapping[str, bytes]) -> None:
    record = parse(manifest, f"{path}: {MANIFEST}")
    listed = record.get("files") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(listed, dict):
        raise ResultError(f"{path}: {MANIFEST} lists no files")
    if record.get("format") != FORMAT:
        raise ResultError(f"{path}: format {shown(str(record.get('format')))} is not known here; update nsbench")
    if set(listed) != set(files):
        odd = sorted(set(listed) ^ set(files))[0]
        raise ResultError(f"{path}: {shown(odd)} is in the archive or in its {MANIFEST}, but not in both")
    for name, content in files.items():
        entry = listed[name]
        if not isinstance(entry, dict) or entry.get("sha256") != hashlib.sha256(content).hexdigest():
            raise ResultError(f"{path}: {shown(name)} differs from its digest in {MANIFEST}")


def parse(content: bytes, what: str) -> object:
    """JSON without NaN or infinities, without a key twice, not nested beyond reason. Raises ResultError."""
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{what} is no JSON that can be read ({_line(error)})") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key is there twice")
    return record


def unpacked_size(content: bytes) -> int:
    """Bytes that a zip says it unpacks to. Raises BadZipFile."""
    check_directory(io.BytesIO(content), MEMBERS)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return sum(info.file_size for info in archive.infolist())


def shown(name: str, most: int = 80) -> str:
    """A stranger's word as part of a one-line message: printable, quoted, short."""
    plain = printable(name)
    return f"'{plain[:most]}{'…' if len(plain) > most else ''}'"


def printable(text: str) -> str:
    """On one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _line(error: BaseException) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0])[:120]
