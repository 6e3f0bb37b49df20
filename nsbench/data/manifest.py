"""What the files of a split contain: a checksum and the size of every picture, read once and kept in the cache.

A file that has the same path, byte size and time of change as when it was read is not read again.
"""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nsbench.data.decode import probe
from nsbench.data.kept import keep_array, kept_array
from nsbench.data.source import Split, Subset, digest_of
from nsbench.data.stored import StoredSplit
from nsbench.errors import CorruptImage
from nsbench.files import available_cores, cache_folder
from nsbench.progress import SILENT, Progress

CHUNK = 64  # images that one thread reads in a row
FIELDS = [("size", "<i8"), ("changed", "<i8"), ("width", "<i4"), ("height", "<i4"), ("sha", "<u8", (2,))]


@dataclass(frozen=True)
class Manifest:
    """Contents of a split: one row for each image, in the order of its ids. An unreadable one has width 0."""

    ids: np.ndarray
    labels: np.ndarray
    rows: np.ndarray  # FIELDS
    unreadable: dict[str, str]  # id -> one line that names the file

    @property
    def digest(self) -> str:
        """16 hex digits over the sorted lines (id, label, checksum of the content)."""
        digest = hashlib.sha256(b"contents")
        for k in np.argsort(self.ids, kind="stable"):
            digest.update(f"\x1f{self.ids[k]} {self.labels[k]} {self.rows['sha'][k].tobytes().hex()}".encode())
        return digest.hexdigest()[:16]


def manifest(split: StoredSplit, progress: Progress = SILENT, threads: int | None = None) -> Manifest:
    """The split's manifest, made or brought up to date. Reads every new or changed file to its end."""
    stamps = split.stamps()
    rows = _known(split, stamps)
    todo = np.flatnonzero(rows["width"] == 0)
    unreadable: dict[str, str] = {}
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]

    def look(chunk: np.ndarray) -> list[tuple[int, int, int, str, str]]:
        return [(int(index), *_look(split, int(index))) for index in chunk]

    with (
        ThreadPoolExecutor(threads or available_cores()) as pool,
        progress.task(f"{split.name}: reading", len(todo)) as advance,
    ):
        for looked_at in pool.map(look, chunks):
            for index, width, height, sha, why in looked_at:
                rows[index] = (*stamps[index], width, height, np.frombuffer(bytes.fromhex(sha), "<u8"))
                if why:
                    unreadable[str(split.ids[index])] = why
            advance(len(looked_at))
    made = Manifest(split.ids, split.labels, rows, unreadable)
    if len(todo):
        _keep(split, rows)
    return made


def content_digest(split: Split) -> str | None:
    """The digest over contents where a manifest exists and every file is as it was then; otherwise None."""
    if isinstance(split, Subset):
        whole = content_digest(split.base)
        return whole and digest_of(whole, *np.sort(split.ids))
    if not isinstance(split, StoredSplit) or not _path(split).is_file():
        return None
    rows = _known(split, split.stamps())
    return Manifest(split.ids, split.labels, rows, {}).digest if (rows["width"] > 0).all() else None


def _look(split: StoredSplit, index: int) -> tuple[int, int, str, str]:
    """(width, height, checksum in hex, why it is unreadable or "")."""
    sha = "0" * 32
    try:
        content = split.read(index)
        sha = hashlib.sha256(content).hexdigest()[:32]
        return *probe(io.BytesIO(content), split.where(index)), sha, ""
    except CorruptImage as error:
        return 0, 0, sha, str(error)


def _known(split: StoredSplit, stamps: np.ndarray) -> np.ndarray:
    """Rows of the kept manifest whose files have not changed since; all other rows are zero."""
    rows = np.zeros(len(split), dtype=FIELDS)
    try:
        kept = kept_array(_path(split))
    except (OSError, ValueError):
        return rows
    ids = kept["id"]
    if not len(ids):
        return rows
    wanted = np.char.encode(split.names, "utf-8")
    at = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
    same = (ids[at] == wanted) & (kept["size"][at] == stamps[:, 0]) & (kept["changed"][at] == stamps[:, 1])
    for name, *_ in FIELDS:
        rows[name][same] = kept[name][at[same]]
    return rows


def _keep(split: StoredSplit, rows: np.ndarray) -> None:
    ids = np.char.encode(split.names, "utf-8")
    order = np.argsort(ids, kind="stable")
    kept = np.empty(len(rows), dtype=[("id", ids.dtype), *FIELDS])
    kept["id"] = ids[order]
    for name, *_ in FIELDS:
        kept[name] = rows[name][order]
    try:
        keep_array(_path(split), kept)
    except OSError:
        return  # no room for a cache: the next check reads everything again


def _path(split: StoredSplit) -> Path:
    return cache_folder() / "manifests" / f"{digest_of(split.name, *(path.resolve() for path in split.home()))}.npy"
