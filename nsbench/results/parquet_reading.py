"""Reading tables of outcomes that nobody vouches for: see `parquet` for their form.

Decoding is bounded by what cannot lie: the footer bounds the rows, and Snappy makes at most 22 bytes of one, gzip
1,032. (A page of zstd may hold 30,000 times its size, and pyarrow does not compare it with the size that the footer
states.) Strings are decoded once for each that the file spells out, not once for each row.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsbench.data.image_ids import canonical_ids
from nsbench.results.parquet import GROWS, IMAGES, KINDS, LARGEST, NAMED, PAGES, TOP, kinds_of
from nsbench.types import Outcomes

LONGEST = 1 << 10  # characters of an id or of a condition's name
FOOTER = 1 << 16  # bytes: twenty columns need about 2,000
BROKEN = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, NotImplementedError, EOFError, MemoryError)


@dataclass(frozen=True, eq=False)
class Images:
    """Images in one order. All conditions and files on the same images that one `Known` met share the object."""

    ids: np.ndarray  # (n,) str, each once
    labels: np.ndarray  # (n,) int64


@dataclass(frozen=True, eq=False)
class Rows:
    """Of one condition: its images, and those of the asked columns that it has."""

    images: Images
    columns: Mapping[str, np.ndarray]  # by column name: (n,) in the stored type, in the order of `images`


@dataclass(frozen=True, eq=False)
class _Part:
    """Where the rows of a condition stand."""

    condition: str
    rows: slice
    images: Images


@dataclass(frozen=True)
class Known:
    """Images that were read before. Files that store IMAGES in the same bytes are not decoded again."""

    parts: dict[bytes, tuple[_Part, ...]] = field(default_factory=dict)
    images: dict[bytes, Images] = field(default_factory=dict)


def unpack(content: bytes, named: bool = False) -> dict[str, Outcomes]:
    """By condition, in the stored order. `named`: its ids are names of files, and canonical ones are given.

    Raises ValueError, with one line, for what is no such file.
    """
    with _one_line():
        file = _opened(content, None)
        columns = _decoded(file, list(file.columns))
        parts = _parts(columns, Known(), named)
        values = _values({name: column for name, column in columns.items() if name not in IMAGES})
        return {part.condition: _outcomes(part, dict(_held(part, values))) for part in parts}


def read_columns(
    content: bytes, columns: Collection[str], known: Known | None = None, named: bool = False
) -> dict[str, Rows]:
    """Of every condition its images and these columns, such as ("prediction", "linf"). For many files pass one `known`.

    For `named` see `unpack`.

    Raises ValueError, with one line, for what is no such file.
    """
    known = Known() if known is None else known
    with _one_line():
        file = _opened(content, columns)
        key = _stored(file, content) + bytes([named])
        if key not in known.parts:
            known.parts[key] = _parts(_decoded(file, IMAGES), known, named)
        values = _values(_decoded(file, [name for name in file.columns if name not in IMAGES]))
        return {part.condition: Rows(part.images, dict(_held(part, values))) for part in known.parts[key]}


@contextmanager
def _one_line() -> Iterator[None]:
    """Whatever is wrong with a file, as a ValueError of one line."""
    try:
        yield
    except BROKEN as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"is no table of outcomes ({line})") from error


class _Column(NamedTuple):
    """How it is stored."""

    kind: str  # Arrow's
    nullable: bool
    codec: str
    size: int  # bytes
    chunk: pq.ColumnChunkMetaData


class _File(NamedTuple):
    """A file that can be decoded."""

    parquet: pq.ParquetFile
    rows: int
    columns: dict[str, _Column]  # IMAGES and those of the wanted columns that it has


def _opened(content: bytes, wanted: Collection[str] | None) -> _File:
    """The file, once its footer says that the wanted columns (None: all) can be decoded."""
    if len(content) < 12 or int.from_bytes(content[-8:-4], "little") > FOOTER:
        raise ValueError("its footer is missing or too long")
    try:
        parquet = pq.ParquetFile(pa.BufferReader(content), read_dictionary=IMAGES[:2], pre_buffer=False)
    except KeyError as error:
        raise ValueError(f"no column {error.args[0].decode()!r}") from error
    found, schema = parquet.metadata, parquet.schema_arrow
    rows, names = found.num_rows, schema.names
    if found.num_row_groups != 1 or not len(set(names)) == len(names) == found.num_columns:
        raise ValueError(f"{found.num_row_groups} row groups and {found.num_columns} columns, called {names}")
    if missing := [name for name in (*IMAGES, "prediction") if name not in names]:
        raise ValueError(f"no column {missing[0]!r}")
    if not 0 < rows * len(names) * 8 <= LARGEST:
        raise ValueError(f"{rows} rows of {len(names)} columns")
    places = [at for at, name in enumerate(names) if wanted is None or name in IMAGES or name in wanted]
    # What is raised when columns are opened, to read no rows, would end the process in the properties of their chunks.
    list(parquet.reader.iter_batches(0, [0], places, use_threads=False))
    group = found.row_group(0)
    columns = {names[at]: _checked(schema.field(at), group.column(at), rows) for at in places}
    pages = sum(one.size * GROWS[one.codec] for one in columns.values())
    if group.num_rows != rows or pages > PAGES:
        raise ValueError(f"{rows} rows that may be {pages} bytes")
    return _File(parquet, rows, columns)


def _checked(field: pa.Field, chunk: pq.ColumnChunkMetaData, rows: int) -> _Column:
    column = _Column(str(field.type), field.nullable, chunk.compression, chunk.total_compressed_size, chunk)
    if KINDS.get(column.kind) not in kinds_of(field.name):
        raise ValueError(f"column {field.name!r} holds {column.kind}")
    if chunk.num_values != rows:
        raise ValueError("columns of different lengths")
    if column.codec not in GROWS or column.size < 0:
        raise ValueError(f"compressed with {column.codec}, whose pages have no bound")
    return column


def _decoded(file: _File, names: Sequence[str]) -> dict[str, pa.Array]:
    table = file.parquet.read(columns=list(names), use_threads=False)
    if names and len(table) != file.rows:
        raise ValueError("columns of different lengths")
    return dict(zip(table.column_names, map(_whole, table.columns), strict=True))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _stored(file: _File, content: bytes) -> bytes:
    """Equal for files whose IMAGES are stored in the same bytes and decoded alike."""
    found = hashlib.sha256(f"{file.rows} {file.parquet.metadata.created_by}".encode())
    for kind, nullable, codec, size, chunk in map(file.columns.__getitem__, IMAGES):
        data = chunk.data_page_offset
        start = min(data, chunk.dictionary_page_offset) if chunk.has_dictionary_page else data
        if not 0 < start < start + size <= len(content):
            raise ValueError("a column outside the file")
        found.update(f" {kind} {nullable} {chunk.physical_type} {codec} {size} {data - start} ".encode())
        found.update(memoryview(content)[start : start + size])
    return found.digest()


def _parts(columns: Mapping[str, pa.Array], known: Known, named: bool) -> tuple[_Part, ...]:
    """The conditions, in order, with their images."""
    if nulls := [name for name in IMAGES if columns[name].null_count]:
        raise ValueError(f"column {nulls[0]!r} has gaps")
    conditions, places = _strings(columns["condition"])
    names, codes = _strings(columns["id"])
    labels = _array(columns["label"]).astype(np.int64)
    starts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
    spans = [slice(start, stop) for start, stop in itertools.pairwise(starts)]
    if len({places[rows.start] for rows in spans}) != len(spans):
        raise ValueError("a condition in two places")
    mine: dict[bytes, Images] = {}
    room = LARGEST - names.nbytes
    parts = []
    for rows in spans:
        key = codes[rows].tobytes() + labels[rows].tobytes()
        if key not in mine:
            room -= names.itemsize * (rows.stop - rows.start)
            if room < 0:
                raise ValueError("its ids are too long")
            mine[key] = _images(names, codes[rows], labels[rows], known, named)
        parts.append(_Part(str(conditions[places[rows.start]]), rows, mine[key]))
    return tuple(parts)


def _images(names: np.ndarray, codes: np.ndarray, labels: np.ndarray, known: Known, named: bool) -> Images:
    if (np.diff(np.sort(codes)) == 0).any():
        raise ValueError("an image twice in a condition")
    ids = canonical_ids(names[codes].tolist()) if named else names[codes]
    key = hashlib.sha256("\0".join(ids.tolist()).encode() + labels.tobytes()).digest()
    return known.images.setdefault(key, Images(ids, labels.copy()))


def _strings(column: pa.DictionaryArray) -> tuple[np.ndarray, np.ndarray]:
    """(D,) different strings, and (rows,) which of them stands where."""
    lengths = pc.utf8_length(column.dictionary)
    if 4 * len(lengths) * (pc.max(lengths).as_py() or 0) > LARGEST:  # bytes of an array, whose strings are equally wide
        raise ValueError("its strings are too long")
    names, codes = column.dictionary.to_pylist(), _array(column.indices)
    if len(set(names)) != len(names) or not 0 <= codes.min() <= codes.max() < len(names):
        raise ValueError("strings twice or missing")
    if max(map(len, names)) > LONGEST or "\0" in "".join(names):
        raise ValueError("strings too long or with zero bytes")
    return np.array(names, np.str_), codes


def _values(columns: Mapping[str, pa.Array]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """By name: (rows,) values, and (rows,) where they are not null; None: everywhere."""
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for name, column in columns.items():
        valid = _array(column.is_valid()) if column.null_count else None
        filled = column if valid is None else column.fill_null(pa.scalar(0).cast(column.type))
        found[name] = _array(filled), valid
    return found


def _array(column: pa.Array) -> np.ndarray:
    """Of a column without nulls. (pyarrow's own `to_numpy` imports pandas, which a board needs for nothing.)"""
    if pa.types.is_boolean(column.type):
        return np.from_dlpack(column.cast(pa.uint8())).view(np.bool_)
    return np.from_dlpack(column)


def _held(part: _Part, values: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> Iterator[tuple[str, np.ndarray]]:
    """The columns that this condition has."""
    for name, (column, valid) in values.items():
        if valid is None or valid[part.rows].all():
            yield name, column[part.rows]
        elif name == "prediction" or valid[part.rows].any():
            raise ValueError(f"column {name!r} has gaps in {part.condition!r}")


def _outcomes(part: _Part, found: Mapping[str, np.ndarray]) -> Outcomes:
    tops = [name for name in TOP if name in found]
    if tops != list(TOP[: len(tops)]):
        raise ValueError(f"the best classes of {part.condition!r} have gaps")
    return Outcomes(
        ids=part.images.ids,
        labels=part.images.labels,
        predictions=found["prediction"].astype(np.int64),
        extra={name: _wide(values) for name, values in found.items() if name not in NAMED},
        label_probability=_wide(found["label_probability"]) if "label_probability" in found else None,
        confidence=_wide(found["confidence"]) if "confidence" in found else None,
        top5=np.stack([found[name] for name in tops], axis=1).astype(np.int64) if tops else None,
    )


def _wide(values: np.ndarray) -> np.ndarray:
    """A copy that does not hold on to the table: integers as int64."""
    return values.astype(np.int64) if values.dtype.kind in "iu" else values.copy()
