"""Fetching public sets: size and digest are known beforehand, and what was begun goes on.

Files are kept as the archives that they are, since sets are read inside tar and zip; those that are compressed as a whole
are uncompressed once. A file has its name only when its digest is right.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from nsbench.errors import DataError, UnknownName, UsageError
from nsbench.files import writing
from nsbench.making.folder import REMEDY, being_made
from nsbench.making.published import EXPLAINED, SETS, File, Published
from nsbench.progress import SILENT, Progress

CHUNK = 1 << 20  # bytes
WAIT = 60  # seconds without a byte
WHOLE, GZIP = ".gz", b"\x1f\x8b"  # compressed as a whole, and how that begins


@dataclass(frozen=True)
class Fetched:
    """What became of one file."""

    path: Path
    held: bool  # it was there


def fetch(
    names: Sequence[str], out: Path, progress: Progress = SILENT, table: Mapping[str, Published] = SETS
) -> list[Fetched]:
    """Fetch these sets into a folder that `--data` takes.

    Raises UsageError for a set that a person has to get, UnknownName, or DataError for a disk without room, a transfer that
    breaks (what has come is kept, and the next call goes on) and a file of another digest.
    """
    for name in names:
        if name in EXPLAINED and name not in table:
            raise UsageError(f"{name}: is not fetched. {EXPLAINED[name]}")
        if name not in table:
            raise UnknownName("public set", name, [*table, *EXPLAINED])
    files = [file for name in dict.fromkeys(names) for file in table[name].files]
    with being_made(out):
        missing = [file for file in files if not _final(out, file).is_file()]
        sizes = {file.name: file.size or _size(file) for file in missing}
        _require_room(out, missing, sizes)
        for file in missing:
            with writing(out / file.name, DataError, REMEDY):
                _fetch(file, out, sizes[file.name], progress)
    return [Fetched(_final(out, file), file not in missing) for file in files]


def _final(out: Path, file: File) -> Path:
    return out / file.name.removesuffix(WHOLE)


def _require_room(out: Path, files: Sequence[File], sizes: Mapping[str, int]) -> None:
    """What is left to come, and the uncompressed form beside the compressed one."""
    needed = 0
    for file in files:
        part = _part(out / file.name)
        here = part.stat().st_size if part.is_file() else 0
        needed += max(sizes[file.name] - here, 0) + (sizes[file.name] if file.name.endswith(WHOLE) else 0)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DataError(
            f"{out}: {free / 1e9:.2f} GB are free, and {needed / 1e9:.2f} GB will be written; make room or give another "
            "--out"
        )


def _size(file: File) -> int:
    """As the server tells it; 0 where it does not."""
    try:
        answer = requests.head(file.address, allow_redirects=True, timeout=WAIT)
        answer.raise_for_status()
        return int(answer.headers.get("Content-Length", 0))
    except (requests.RequestException, ValueError) as error:
        raise _unreachable(file, error) from error


def _fetch(file: File, out: Path, size: int, progress: Progress) -> None:
    target = out / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with progress.task(f"{file.name} (MiB)", max(size >> 20, 1)) as advance:
        resuming = _Resuming(_part(target), advance)
        pooch.get_logger().setLevel("WARNING")  # what it would tell stands in the bar
        try:
            pooch.retrieve(file.address, file.digest, fname=target.name, path=target.parent, downloader=resuming)
        except ValueError as error:  # pooch's word for another digest; it has removed the file
            raise DataError(
                f"{file.address}: has not the published digest {file.digest}; nothing was kept. Run it again; if that says "
                "the same, the file on the server was changed"
            ) from error
        except requests.RequestException as error:
            raise _unreachable(file, error) from error
    if file.name.endswith(WHOLE):
        _uncompress(target, _final(out, file))


def _part(target: Path) -> Path:
    """Where what has come so far is kept."""
    return target.with_name(f".{target.name}.part")


class _Resuming:
    """pooch's downloader that goes on where an earlier one broke off, where the server can."""

    def __init__(self, part: Path, advance: Any) -> None:
        self.part, self.advance = part, advance

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        before = self.part.stat().st_size if self.part.is_file() else 0
        headers = {"Range": f"bytes={before}-"} if before else {}
        with requests.get(url, headers=headers, stream=True, timeout=WAIT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                before = self.part.stat().st_size  # all of it had come
            else:
                answer.raise_for_status()
                goes_on = answer.status_code == requests.codes.partial_content
                self.advance((before if goes_on else 0) >> 20)
                self._write(answer, goes_on)
        os.replace(self.part, output_file)

    def _write(self, answer: requests.Response, goes_on: bool) -> None:
        whole, rest = int(answer.headers.get("Content-Length", 0)), 0
        came = 0
        with open(self.part, "ab" if goes_on else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                came, rest = came + len(chunk), rest + len(chunk)
                self.advance(rest >> 20)
                rest &= CHUNK - 1
        if came < whole:
            raise requests.ConnectionError(f"it broke off after {came:,} of {whole:,} bytes")


def _uncompress(packed: Path, target: Path) -> None:
    """Once, to a file that can be read in place; the compressed one goes. Some .tar.gz are plain tars by another name."""
    with open(packed, "rb") as file:
        if file.read(len(GZIP)) != GZIP:
            os.replace(packed, target)
            return
    draft = _part(target)
    try:
        with gzip.open(packed) as source, open(draft, "wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{packed}: cannot be uncompressed ({error}); remove it and run again") from error
    os.replace(draft, target)
    packed.unlink()


def _unreachable(file: File, error: Exception) -> DataError:
    why = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DataError(
        f"{file.address}: cannot be fetched ({why}); run it again to go on, or put the file there yourself as {file.name}"
    )
