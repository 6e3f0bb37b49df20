"""Tables with pictures as Hugging Face stores them: parquet files, and folders written by `save_to_disk` (arrow).

A picture column holds {bytes, path} or bytes; a label column holds a class number with the class names in the file's
metadata, or a wnid. Needs pyarrow, which is optional: pip install 'nsbench[parquet]'.

Memory: arrow files are mapped. Parquet is read forwards page by page from a cursor that each process keeps, so
reading in order is quick and reading at random is not.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nsbench.data import wnids
from nsbench.data.stored import AGAIN, MAX_BYTES, StoredSplit, file_stamp
from nsbench.errors import CorruptImage, DataError, UsageError

PICTURES = ("image", "img", "jpg", "jpeg", "png", "webp")
LABELS = ("label", "labels", "cls", "wnid", "synset")
PAGE = 16  # rows that are decoded at once
BROKEN = (OSError, ValueError, NotImplementedError, EOFError)  # pyarrow's own errors are kinds of these


class TableSplit(StoredSplit):
    """Pictures in the rows of parquet or arrow files."""

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        starts: np.ndarray,
        ids: np.ndarray,
        labels: np.ndarray,
        sizes: np.ndarray,
    ) -> None:
        super().__init__(name, ids, labels, sizes)
        self.files, self.starts = list(files), starts  # starts: first row of each file, and the number of all rows
        self._local: Any = None

    def read(self, index: int) -> bytes:
        file = int(np.searchsorted(self.starts, index, side="right")) - 1
        try:
            content = self._cursor().row(file, index - int(self.starts[file]))
        except BROKEN as error:
            raise CorruptImage(f"{self.where(index)}: cannot be read ({_reason(error)}); {AGAIN}") from error
        if content is None:
            raise CorruptImage(f"{self.where(index)}: this row holds no picture, only a path; embed the pictures")
        if len(content) > MAX_BYTES:
            raise CorruptImage(f"{self.where(index)}: is larger than {MAX_BYTES >> 20} MiB and no picture; {AGAIN}")
        return content

    def where(self, index: int) -> str:
        file = int(np.searchsorted(self.starts, index, side="right")) - 1
        return f"{self.files[file]}, row {index - int(self.starts[file])} ({self.ids[index]})"

    def home(self) -> list[Path]:
        return self.files

    def stamps(self) -> np.ndarray:
        files = np.array([file_stamp(path) for path in self.files], dtype=np.int64)
        return np.stack([self.sizes, np.repeat(files[:, 1], np.diff(self.starts))], axis=1)

    def _cursor(self) -> Any:
        """One reader for each process and thread; an inherited one would share its place in the file."""
        if self._local is None or self._local[0] != os.getpid():
            self._local = os.getpid(), threading.local()
        mine = self._local[1]
        if not hasattr(mine, "cursor"):
            mine.cursor = (_Parquet if self.files[0].suffix == ".parquet" else _Arrow)(self.files)
        return mine.cursor

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_local": None}


def open_tables(name: str, files: Sequence[Path]) -> TableSplit:
    """One split of all files, which are parquet or arrow throughout.

    Raises DataError for files that cannot be read or lack a column, and UsageError where pyarrow is absent.
    """
    _pyarrow(files[0])
    kind = _Parquet if files[0].suffix == ".parquet" else _Arrow
    counts, ids, labels, sizes = [0], [], [], []
    for path in files:
        try:
            columns = kind([path]).columns(0)
        except BROKEN as error:
            raise DataError(
                f"{path}: cannot be read as {path.suffix[1:]} ({_reason(error)}); half copied? Copy it again"
            ) from error
        counts.append(len(columns[0]))
        ids.append(_names(path, columns[0]))
        labels.append(columns[1])
        sizes.append(columns[2])
    joined = np.concatenate(ids)
    if len(np.unique(joined)) < len(joined):  # the same file names again: count the rows instead
        joined = np.concatenate([_names(path, [None] * n) for path, n in zip(files, counts[1:], strict=True)])
    return TableSplit(name, files, np.cumsum(counts), joined, np.concatenate(labels), np.concatenate(sizes))


class _Tables:
    """Reads rows of several files; keeps open only the file in hand."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files, self.opened = files, -1

    def _described(self, schema: Any, path: Path) -> tuple[str, str, bool]:
        """Names of the picture and the label column, and whether pictures are {bytes, path}."""
        import pyarrow as pa

        picture = next((name for name in PICTURES if name in schema.names), None)
        label = next((name for name in LABELS if name in schema.names), None)
        if picture is None or label is None:
            raise DataError(
                f"{path}: its columns are {', '.join(schema.names)}; expected a picture column "
                f"({', '.join(PICTURES[:3])}) and a label column ({', '.join(LABELS[:4])})"
            )
        kind = schema.field(picture).type
        inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
            raise DataError(
                f"{path}: the column '{picture}' holds {kind}, not encoded pictures; save the set again "
                "with its pictures embedded"
            )
        return picture, label, inner is not kind


class _Parquet(_Tables):
    file: Any
    starts: np.ndarray  # first row of each row group of the file in hand
    group: int
    pages: Iterator[list[bytes | None]]
    page: list[bytes | None]
    first: int  # row, within the group, that the page starts with

    def columns(self, number: int) -> tuple[list[str | None], np.ndarray, np.ndarray]:
        """(file name or None, label, bytes of the row group) of every row."""
        self._open(number)
        meta, path = self.file.metadata, self.files[number]
        leaves = [meta.schema.column(k).path for k in range(meta.num_columns)]
        has_paths = f"{self.picture}.path" in leaves
        table = self.file.read(columns=[self.label] + [f"{self.picture}.path"] * has_paths, use_threads=False)
        names: list[str | None] = [None] * len(table)
        if has_paths:
            names = [row["path"] if row else None for row in table[self.picture].to_pylist()]
        at = leaves.index(self.leaf)
        groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
        sizes = np.repeat(
            np.array([group.column(at).total_compressed_size for group in groups], dtype=np.int64),
            [group.num_rows for group in groups],
        )
        return names, _labels(table[self.label], self.file.schema_arrow, self.label, path), sizes

    def row(self, number: int, row: int) -> bytes | None:
        """Reads on from the row before where it can; a step back starts the row group again."""
        if number != self.opened:
            self._open(number)
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        within = row - int(self.starts[group])
        if group != self.group or within < self.first:
            self.group, self.first, self.page = group, 0, []
            self.pages = self._pages(group)
        while within >= self.first + len(self.page):
            self.first += len(self.page)
            self.page = next(self.pages, [])
            if not self.page:
                raise EOFError("the file ends before this row")
        return self.page[within - self.first]

    def _open(self, number: int) -> None:
        import pyarrow.parquet as pq

        self.opened, self.group, self.first = number, -1, 0
        self.page = []
        self.file = pq.ParquetFile(self.files[number], pre_buffer=False, buffer_size=1 << 20)
        self.picture, self.label, nested = self._described(self.file.schema_arrow, self.files[number])
        self.leaf = f"{self.picture}.bytes" if nested else self.picture
        groups = range(self.file.metadata.num_row_groups)
        self.starts = np.cumsum([0, *(self.file.metadata.row_group(g).num_rows for g in groups)])

    def _pages(self, group: int) -> Iterator[list[bytes | None]]:
        for batch in self.file.iter_batches(PAGE, row_groups=[group], columns=[self.leaf], use_threads=False):
            column = batch.column(0)
            yield (column.field("bytes") if self.leaf.endswith(".bytes") else column).to_pylist()


class _Arrow(_Tables):
    def columns(self, number: int) -> tuple[list[str | None], np.ndarray, np.ndarray]:
        """(file name or None, label, bytes) of every row."""
        import pyarrow.compute as pc

        self._open(number)
        pictures, path = self.table[self.picture], self.files[number]
        kind = pictures.type
        has_paths = self.nested and kind.get_field_index("path") >= 0
        names = pc.struct_field(pictures, "path").to_pylist() if has_paths else [None] * len(pictures)
        content = pc.struct_field(pictures, "bytes") if self.nested else pictures
        sizes = np.asarray(pc.fill_null(pc.binary_length(content), 0).to_numpy(), dtype=np.int64)
        return names, _labels(self.table[self.label], self.table.schema, self.label, path), sizes

    def row(self, number: int, row: int) -> bytes | None:
        if number != self.opened:
            self._open(number)
        value = self.table[self.picture][row]
        return (value["bytes"] if self.nested else value).as_py()

    def _open(self, number: int) -> None:
        import pyarrow as pa

        self.opened = number
        self.table = pa.ipc.open_stream(pa.memory_map(str(self.files[number]))).read_all()  # mapped, not read
        self.picture, self.label, self.nested = self._described(self.table.schema, self.files[number])


def saved_files(folder: Path) -> list[Path]:
    """The arrow files of a folder written by `save_to_disk`, in their order. Raises DataError where some are absent."""
    try:
        state = json.loads((folder / "state.json").read_text())
        files = [folder / item["filename"] for item in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: is no folder of save_to_disk ({error}); save the set again") from error
    for path in files:
        if path.parent != folder or not path.is_file():
            raise DataError(f"{path}: is named in {folder / 'state.json'} and is not there; copy the folder again")
    if state.get("_indices_data_files") or not files:
        raise DataError(f"{folder}: is a selection, or empty; save the set again with flatten_indices()")
    return files


def _labels(column: Any, schema: Any, name: str, path: Path) -> np.ndarray:
    """Labels in sorted-wnid order. Raises DataError for class numbers in another order and for rows without one."""
    values = column.to_pylist()
    unlabelled = next((k for k, value in enumerate(values) if value is None or value == -1), None)
    if unlabelled is not None:
        raise DataError(f"{path}: row {unlabelled} has no label (a hidden test set?); take a split that has labels")
    if values and isinstance(values[0], str):
        meaning: Mapping[Any, int] = wnids.label_of()
    else:
        meaning = _meaning(_class_names(schema, name), path)
    foreign = next((value for value in values if value not in meaning), None)
    if foreign is not None:
        raise DataError(f"{path}: the label '{str(foreign)[:40]}' is no class; expected wnids, or 0 to 999")
    return np.array([meaning[value] for value in values], dtype=np.int64)


def _class_names(schema: Any, label: str) -> list[str] | None:
    """Names of the classes from the metadata that the `datasets` library writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _meaning(class_names: list[str] | None, path: Path) -> dict[int, int]:
    """Class number of the file -> label."""
    order = wnids.label_of()
    if class_names is None:
        return {label: label for label in order.values()}
    if all(name in order for name in class_names):
        return {number: order[name] for number, name in enumerate(class_names)}
    if len(class_names) == len(order):
        alike = sum(_first(ours) == _first(theirs) for ours, theirs in zip(wnids.names(), class_names, strict=True))
        if alike >= 0.9 * len(order):  # spellings differ a little from copy to copy
            return {label: label for label in order.values()}
    raise DataError(
        f"{path}: its {len(class_names)} classes ({', '.join(class_names[:2])}, ...) are neither wnids nor "
        "the 1000 names in their usual order; save the set with wnids as class names"
    )


def _first(name: str) -> str:
    return name.split(",")[0].strip().lower().replace("_", " ")


def _names(path: Path, names: Sequence[str | None]) -> np.ndarray:
    return np.array([name or f"{path.stem}/{row}" for row, name in enumerate(names)], dtype=str)


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _pyarrow(path: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{path}: reading it needs pyarrow; install it: pip install 'nsbench[parquet]'") from error
