"""Tables with pictures as Hugging Face stores them: parquet files, and folders written by `save_to_disk` (arrow).

A picture column holds {bytes, path} or bytes; a label column holds a class number with the class names in the file's
metadata, or a wnid. Each process and thread keeps a reader of its own (see `table_files.py`).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nsbench.data import wnids
from nsbench.data.archive_index import cached_array
from nsbench.data.numbering import meaning as meaning_of
from nsbench.data.source import digest_of
from nsbench.data.stored import AGAIN, MAX_BYTES, StoredSplit, file_stamp
from nsbench.data.table_files import BROKEN, ArrowFiles, Columns, ParquetFiles, TableFiles
from nsbench.errors import CorruptImage, DataError
from nsbench.files import read_regular
from nsbench.progress import SILENT, Progress

READ_FOR_SIZES = 1 << 35  # bytes: every evaluation set is smaller, and a training set takes long to read


class _Reader(threading.local):
    """The reader of one thread; an inherited one would share its place in the file."""

    files: TableFiles | None = None


class TableSplit(StoredSplit):
    """Pictures in the rows of parquet or arrow files."""

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        starts: np.ndarray,
        names: np.ndarray,
        labels: np.ndarray,
        sizes: np.ndarray,
    ) -> None:
        super().__init__(name, names, labels, sizes)
        self.files, self.starts = list(files), starts  # starts: first row of each file, and the number of all rows
        self._reader: tuple[int, _Reader] | None = None  # process, reader

    def read(self, index: int) -> bytes:
        file = int(np.searchsorted(self.starts, index, side="right")) - 1
        try:
            content = self._open().row(file, index - int(self.starts[file]))
        except BROKEN as error:
            raise CorruptImage(f"{self.where(index)}: cannot be read ({_reason(error)}); {AGAIN}") from error
        if content is None:
            raise CorruptImage(f"{self.where(index)}: this row holds no picture, only a path; embed the pictures")
        if len(content) > MAX_BYTES:
            raise CorruptImage(f"{self.where(index)}: is larger than {MAX_BYTES >> 20} MiB and no picture; {AGAIN}")
        return content

    def where(self, index: int) -> str:
        file = int(np.searchsorted(self.starts, index, side="right")) - 1
        return f"{self.files[file]}, row {index - int(self.starts[file])} ({self.file_name(index)})"

    def home(self) -> list[Path]:
        return self.files

    def stamps(self) -> np.ndarray:
        files = np.array([file_stamp(path) for path in self.files], dtype=np.int64)
        return np.stack([self.sizes, np.repeat(files[:, 1], np.diff(self.starts))], axis=1)

    def _open(self) -> TableFiles:
        if self._reader is None or self._reader[0] != os.getpid():
            self._reader = os.getpid(), _Reader()
        reader = self._reader[1]
        if reader.files is None:
            reader.files = _kind(self.files)(self.files)
        return reader.files

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_reader": None}


def open_tables(
    name: str, files: Sequence[Path], progress: Progress = SILENT, classes: Sequence[str] | None = None
) -> TableSplit:
    """One split of all files, which are parquet or arrow throughout. `classes`: the source's own; None: ImageNet's.

    Raises DataError for files that cannot be read or lack a column.
    """
    columns = [_columns(path) for path in files]
    labels = np.concatenate([_labels(one, path, classes) for one, path in zip(columns, files, strict=True)])
    names = np.concatenate([_names(path, one.names) for one, path in zip(columns, files, strict=True)])
    if len(set(zip(labels.tolist(), names.tolist(), strict=True))) < len(names):  # the same names again in one class
        names = np.concatenate(
            [_names(path, [None] * len(one.names)) for one, path in zip(columns, files, strict=True)]
        )
    starts = np.cumsum([0, *(len(one.names) for one in columns)])
    split = TableSplit(name, files, starts, names, labels, _sizes(name, files, columns, progress))
    split.bare_numbers = any(map(_is_bare, columns))
    return split


def _sizes(name: str, files: Sequence[Path], columns: Sequence[Columns], progress: Progress) -> np.ndarray:
    """(n,) bytes of each picture. Parquet does not state them: it is read once, and the answer kept in the cache.

    Of what is larger than READ_FOR_SIZES, or damaged, those of the row groups are given.
    """
    stated = np.concatenate([one.sizes for one in columns])
    if _kind(files) is ArrowFiles or sum(file_stamp(path)[0] for path in files) > READ_FOR_SIZES:
        return stated

    def measure() -> np.ndarray:
        reader = _kind(files)(files)
        parts = []
        with progress.task(f"{name}: sizes of the pictures", len(files)) as advance:
            for number in range(len(files)):
                parts.append(reader.sizes(number))
                advance(1)
        return np.concatenate(parts)

    key = digest_of("sizes", *((path.resolve(), *file_stamp(path)) for path in files))
    try:
        sizes = np.array(cached_array("tables", key, measure))
    except BROKEN:  # each picture that cannot be read is named when it is wanted
        return stated
    return sizes if sizes.shape == stated.shape else stated


def _kind(files: Sequence[Path]) -> type[TableFiles]:
    return ParquetFiles if files[0].suffix.lower() == ".parquet" else ArrowFiles


def _columns(path: Path) -> Columns:
    try:
        return _kind([path])([path]).columns(0)
    except BROKEN as error:
        raise DataError(
            f"{path}: cannot be read as {path.suffix.lower()[1:]} ({_reason(error)}); half copied? Copy it again"
        ) from error


def saved_files(folder: Path) -> list[Path]:
    """The arrow files of a folder written by `save_to_disk`, in their order. Raises DataError where some are absent."""
    try:
        state = json.loads(read_regular(folder / "state.json"))
        files = [folder / item["filename"] for item in state["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{folder}: is no folder of save_to_disk ({error}); save the set again") from error
    for path in files:
        if path.parent != folder or not os.path.isfile(path):
            raise DataError(f"{path}: is named in {folder / 'state.json'} and is not there; copy the folder again")
    if state.get("_indices_data_files") or not files:
        raise DataError(f"{folder}: is a selection, or empty; save the set again with flatten_indices()")
    return files


def class_names_of(files: Sequence[Path]) -> tuple[str, ...]:
    """The classes of tables in the order of their numbers, or sorted where they are words; else the numbers themselves.

    Raises DataError for files that cannot be read, that have no class, or that name other classes than the first.
    """
    columns = [_columns(path) for path in files]
    named = [one.class_names for one in columns]
    if other := next((path for path, names in zip(files, named, strict=True) if names != named[0]), None):
        raise DataError(f"{other}: names other classes than {files[0]}; take files of one data set")
    if named[0]:
        return tuple(named[0])
    values = {value for one in columns for value in one.labels}
    if values and all(isinstance(value, str) for value in values):
        return tuple(sorted(map(str, values)))
    numbers = [value for value in values if isinstance(value, int) and value >= 0]
    if not numbers:
        raise DataError(f"{files[0]}: has no row with a class; take a split that has labels")
    return tuple(map(str, range(max(numbers) + 1)))


def _labels(columns: Columns, path: Path, classes: Sequence[str] | None) -> np.ndarray:
    """Labels in sorted-wnid order, or that of `classes`.

    Raises DataError for class numbers in another order and for rows without one.
    """
    values = columns.labels
    unlabelled = next((k for k, value in enumerate(values) if value is None or value == -1), None)
    if unlabelled is not None:
        raise DataError(f"{path}: row {unlabelled} has no label (a hidden test set?); take a split that has labels")
    meaning: dict[object, int] = {}
    if classes is not None:
        meaning.update(_own_meaning(columns, classes).items())
    elif values and isinstance(values[0], str):
        meaning.update(wnids.label_of().items())
    else:
        known = columns.class_names
        meaning.update((meaning_of(known, path) if known else dict(enumerate(range(len(wnids.wnids()))))).items())
    foreign = next((value for value in values if type(value) not in (int, str) or value not in meaning), None)
    if foreign is not None:
        raise DataError(f"{path}: the label '{str(foreign)[:40]}' is no class; expected {_expected(classes)}")
    return np.array([meaning[value] for value in values], dtype=np.int64)


def _own_meaning(columns: Columns, classes: Sequence[str]) -> dict[object, int]:
    order: dict[object, int] = {name: label for label, name in enumerate(classes)}
    named = columns.class_names
    if named is not None:
        return order | {number: order[name] for number, name in enumerate(named) if name in order}
    return order | {number: number for number in range(len(classes))}


def _expected(classes: Sequence[str] | None) -> str:
    return "wnids, or 0 to 999" if classes is None else f"one of {', '.join(classes[:3])}{', ...' * (len(classes) > 3)}"


def _is_bare(columns: Columns) -> bool:
    """Labels are numbers, and nothing says of what."""
    return columns.class_names is None and bool(columns.labels) and not isinstance(columns.labels[0], str)


def _names(path: Path, names: Sequence[str | None]) -> np.ndarray:
    """Of the files that the rows were made of; "val-00000/17" for a row that does not keep it."""
    return np.array([name or f"{path.stem}/{row}" for row, name in enumerate(names)], dtype=str)


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
