"""Rows of parquet and arrow files, as Hugging Face writes them: encoded pictures and their labels.

Memory: arrow files are mapped. Parquet is read forwards page by page, so reading in order is quick and reading at
random is not.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsbench.errors import DataError
from nsbench.files import check_regular

PICTURES = ("image", "img", "jpg", "jpeg", "png", "webp")
LABELS = ("label", "labels", "cls", "wnid", "synset")
BYTES = ("binary", "large_binary", "binary_view")  # Arrow's types of pictures, and of names
TEXT = ("string", "large_string", "string_view")
PAGE = 16  # rows that are decoded at once
BROKEN = (  # what pyarrow raises for damaged files
    *(pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
    *(NotImplementedError, EOFError, MemoryError, RecursionError),
)


class Columns(NamedTuple):
    """All rows of one file, without their pictures."""

    names: list[str | None]  # file names, where the file holds them
    labels: list[object]  # as the file has them: numbers, wnids, None
    class_names: list[str] | None  # what the numbers mean, where the file says it
    sizes: np.ndarray  # int64, bytes of each picture; of parquet those of its row group


class TableFiles(ABC):
    """Several files, of which the one in hand is open. Reading raises one of BROKEN, or DataError for other columns."""

    picture: str  # column of the file in hand
    label: str
    nested: bool  # pictures are {bytes, path}
    named: bool  # the file holds the names of its pictures

    def __init__(self, files: Sequence[Path]) -> None:
        self.files, self.opened = files, -1

    @abstractmethod
    def columns(self, number: int) -> Columns:
        """Of file `number`."""

    def sizes(self, number: int) -> np.ndarray:
        """(rows,) int64: bytes of each picture of file `number`; the file is read to its end where it must be."""
        return self.columns(number).sizes

    @abstractmethod
    def row(self, number: int, row: int) -> bytes | None:
        """The encoded picture in a row of file `number`; None where there is none."""

    def _find_columns(self, schema: pa.Schema, path: Path) -> None:
        picture = next((name for name in PICTURES if name in schema.names), None)
        label = next((name for name in LABELS if name in schema.names), None)
        if picture is None or label is None:
            raise DataError(
                f"{path}: its columns are {', '.join(schema.names)}; expected a picture column "
                f"({', '.join(PICTURES[:3])}) and a label column ({', '.join(LABELS[:4])})"
            )
        kind = schema.field(picture).type
        inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        if str(inner) not in BYTES:
            raise DataError(
                f"{path}: the column '{picture}' holds {kind}, not encoded pictures; save the set again "
                "with its pictures embedded"
            )
        self.picture, self.label, self.nested = picture, label, inner is not kind
        self.named = self.nested and kind.get_field_index("path") >= 0 and _is_text(kind.field("path").type)


class ParquetFiles(TableFiles):
    """Reads on from the row before where it can; a step back starts the row group again."""

    file: pq.ParquetFile
    starts: np.ndarray  # first row of each row group of the file in hand
    group: int
    pages: Iterator[list[bytes | None]]
    page: list[bytes | None]
    first: int  # row, within the group, that the page starts with

    def columns(self, number: int) -> Columns:
        self._open(number)
        meta = self.file.metadata
        leaves = [meta.schema.column(k).path for k in range(meta.num_columns)]
        table = self.file.read(columns=[self.label] + [f"{self.picture}.path"] * self.named, use_threads=False)
        names: list[str | None] = [None] * len(table)
        if self.named:
            names = [row["path"] if row else None for row in table[self.picture].to_pylist()]
        at = leaves.index(self._leaf)
        groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
        sizes = np.repeat(
            np.array([group.column(at).total_compressed_size for group in groups], dtype=np.int64),
            [group.num_rows for group in groups],
        )
        return Columns(names, table[self.label].to_pylist(), _class_names(self.file.schema_arrow, self.label), sizes)

    def sizes(self, number: int) -> np.ndarray:
        self._open(number)
        batches = self.file.iter_batches(PAGE, columns=[self._leaf], use_threads=False)
        return np.concatenate([np.zeros(0, np.int64), *(_lengths(self._bytes(batch)) for batch in batches)])

    def row(self, number: int, row: int) -> bytes | None:
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
        self.opened, self.group, self.first = number, -1, 0
        self.page = []
        self.file = pq.ParquetFile(check_regular(self.files[number]), pre_buffer=False, buffer_size=1 << 20)
        self._find_columns(self.file.schema_arrow, self.files[number])
        groups = range(self.file.metadata.num_row_groups)
        for group in groups:  # what is raised here would end the process in the properties of the chunks
            list(self.file.reader.iter_batches(0, [group], None, use_threads=False))
        self.starts = np.cumsum([0, *(self.file.metadata.row_group(g).num_rows for g in groups)])

    @property
    def _leaf(self) -> str:
        """The column of the pictures' bytes."""
        return f"{self.picture}.bytes" if self.nested else self.picture

    def _pages(self, group: int) -> Iterator[list[bytes | None]]:
        for batch in self.file.iter_batches(PAGE, row_groups=[group], columns=[self._leaf], use_threads=False):
            yield self._bytes(batch).to_pylist()

    def _bytes(self, batch: pa.RecordBatch) -> pa.Array:
        column = batch.column(0)
        return column.field("bytes") if self.nested else column


class ArrowFiles(TableFiles):
    """Files that are mapped into memory, not read."""

    table: pa.Table

    def columns(self, number: int) -> Columns:
        self._open(number)
        pictures = self.table[self.picture]
        names = pc.struct_field(pictures, "path").to_pylist() if self.named else [None] * len(pictures)
        content = pc.struct_field(pictures, "bytes") if self.nested else pictures
        labels = self.table[self.label].to_pylist()
        return Columns(names, labels, _class_names(self.table.schema, self.label), _lengths(content))

    def row(self, number: int, row: int) -> bytes | None:
        if number != self.opened:
            self._open(number)
        value = self.table[self.picture][row]
        content: bytes | None = (value["bytes"] if self.nested else value).as_py()
        return content

    def _open(self, number: int) -> None:
        self.opened = number
        table = pa.ipc.open_stream(pa.memory_map(str(check_regular(self.files[number])))).read_all()
        self._find_columns(table.schema, self.files[number])
        self.table = table.select([self.picture, self.label])
        self.table.validate(full=True)  # Arrow itself would follow damaged offsets out of the file, and end the process


def _is_text(kind: pa.DataType) -> bool:
    """However it is stored: the same set must have the same names."""
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind) in TEXT


def _lengths(pictures: pa.Array | pa.ChunkedArray) -> np.ndarray:
    chunks = pictures.chunks if isinstance(pictures, pa.ChunkedArray) else [pictures]
    return np.concatenate([np.zeros(0, np.int64), *map(_lengths_of, chunks)])


def _lengths_of(pictures: pa.Array) -> np.ndarray:
    if str(pictures.type) == BYTES[-1]:  # whose lengths Arrow does not give
        pictures = pictures.cast(pa.large_binary())
    return np.asarray(pc.fill_null(pc.binary_length(pictures), 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Names of the classes from the metadata that the `datasets` library writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None
