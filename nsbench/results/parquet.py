"""Per-image outcomes as one Parquet table, a row for each condition and image, that pandas, DuckDB and R open as well.

    condition  id  label  prediction  [label_probability  confidence]  [top1 .. top5]  [what else a condition reports]

Strings, the smallest integers that hold the values, float32 and bool. Conditions and their images keep their order. A
column that a condition lacks is null in all its rows. One row group; integers by a dictionary, floats split by byte.

Files of strangers are read, so decoding is bounded by what cannot lie: the footer bounds the rows, and Snappy makes at
most 22 bytes of one, gzip 1,032. (A page of zstd may hold 30,000 times its size, and pyarrow does not compare it with
the size that the footer states.) Strings are decoded once for each that the file spells out, not once for each row.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nsbench.types import Outcomes

IMAGES = ("condition", "id", "label")  # which images, in which order
PROBABILITIES = ("label_probability", "confidence")
TOP = ("top1", "top2", "top3", "top4", "top5")
NAMED = (*IMAGES, "prediction", *PROBABILITIES, *TOP)  # what an extra column may not be called
LARGEST = 1 << 30  # bytes of all values of a file: more than any data set needs, less than a machine has
GROWS = {"UNCOMPRESSED": 1, "SNAPPY": 22, "LZ4": 255, "GZIP": 1032}  # times that a page can exceed its stored size
PAGES = 3 << 30  # bytes that all pages of a file could be, whatever their headers say
LONGEST = 1 << 10  # characters of an id or of a condition's name
FOOTER = 1 << 16  # bytes: twenty columns need about 2,000
INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
STRINGS = "dictionary<values=string, indices=int32, ordered=0>"
KINDS = {"float": "floats", "bool": "bools", STRINGS: "strings"} | dict.fromkeys(
    [np.dtype(one).name for one in INTEGERS], "integers"
)  # by Arrow type
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


def pack(outcomes: Mapping[str, Outcomes]) -> bytes:
    """The file. Equal outcomes give equal bytes (with one version of pyarrow); floats become float32.

    Raises ValueError for what cannot be stored: no images, an image twice, arrays of other lengths, other types.
    """
    table = _table(outcomes)
    names = table["id"].chunk(0).dictionary
    once = len(names) == len(table)  # ids that occur once are shorter as they are than behind an index
    codecs = dict.fromkeys(table.column_names, "snappy")
    if once and names.nbytes * GROWS["GZIP"] <= PAGES:
        codecs["id"] = "gzip"
    floats = [one.name for one in table.schema if pa.types.is_floating(one.type)]
    indexed = [one.name for one in table.schema if pa.types.is_integer(one.type)] + ["condition"]
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, row_group_size=len(table), compression=codecs, use_dictionary=indexed + ["id"] * (not once),
        dictionary_pagesize_limit=LARGEST, column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        write_statistics=False, store_schema=False,
    )  # fmt: skip
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, Outcomes]:
    """By condition, in the stored order. Raises ValueError, with one line, for what is no such file."""
    with _one_line():
        file = _opened(content)
        columns = _decoded(file, file.schema_arrow.names)
        parts = _parts(columns, Known())
        values = _values({name: column for name, column in columns.items() if name not in IMAGES})
        return {part.condition: _outcomes(part, dict(_held(part, values))) for part in parts}


def read_columns(content: bytes, columns: Collection[str], known: Known | None = None) -> dict[str, Rows]:
    """Of every condition its images and these columns, such as ("prediction", "linf"). For many files pass one `known`.

    Raises ValueError, with one line, for what is no such file.
    """
    known = Known() if known is None else known
    with _one_line():
        file = _opened(content)
        key = _stored(file, content)
        if key not in known.parts:
            known.parts[key] = _parts(_decoded(file, IMAGES), known)
        wanted = [name for name in file.schema_arrow.names if name in columns and name not in IMAGES]
        values = _values(_decoded(file, wanted))
        return {part.condition: Rows(part.images, dict(_held(part, values))) for part in known.parts[key]}


# writing


def _table(outcomes: Mapping[str, Outcomes]) -> pa.Table:
    sizes = [len(one.ids) for one in outcomes.values()]
    if not sizes or not all(sizes):
        raise ValueError("a condition without images cannot be stored")
    arrays = {
        "condition": _indexed(np.repeat(np.arange(len(sizes)), sizes), list(outcomes)),
        "id": _ids([one.ids for one in outcomes.values()]),
    }
    values = [_by_name(one) for one in outcomes.values()]
    found = {name for one in values for name in one}
    for name in [name for name in NAMED if name in found] + sorted(found.difference(NAMED)):
        arrays[name] = _column(name, [one.get(name) for one in values], sizes)
    fields = [pa.field(name, one.type, nullable=one.null_count > 0) for name, one in arrays.items()]
    return pa.table(list(arrays.values()), schema=pa.schema(fields))


def _by_name(one: Outcomes) -> dict[str, np.ndarray]:
    """Everything but the ids, by column name."""
    if taken := sorted(set(one.extra).intersection(NAMED)):
        raise ValueError(f"an extra column may not be called {taken[0]!r}")
    found = {"label": one.labels, "prediction": one.predictions, **one.extra}
    for name, values in zip(PROBABILITIES, (one.label_probability, one.confidence), strict=True):
        if values is not None:
            found[name] = values
    if one.top5 is not None:
        if one.top5.ndim != 2 or not 1 <= one.top5.shape[1] <= len(TOP):
            raise ValueError(f"top5 has shape {one.top5.shape}")
        found |= dict(zip(TOP, one.top5.T, strict=False))
    return found


def _indexed(codes: np.ndarray, names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names, pa.string()))


def _ids(ids: Sequence[np.ndarray]) -> pa.DictionaryArray:
    """Of all conditions. Those that equal the ones before are looked up once."""
    places: dict[str, int] = {}
    codes: list[np.ndarray] = []
    for index, mine in enumerate(ids):
        if mine.dtype.kind != "U" or mine.ndim != 1:
            raise ValueError("ids are not an array of str")
        same = index > 0 and np.array_equal(mine, ids[index - 1])
        codes.append(codes[-1] if same else np.array([places.setdefault(one, len(places)) for one in mine.tolist()]))
        if not same and len(np.unique(codes[-1])) != len(mine):
            raise ValueError("an image stands twice in a condition")
    return _indexed(np.concatenate(codes), list(places))


def _column(name: str, parts: Sequence[np.ndarray | None], sizes: Sequence[int]) -> pa.Array:
    """Of all conditions, null where one lacks it."""
    if any(part is not None and part.shape != (size,) for part, size in zip(parts, sizes, strict=True)):
        raise ValueError(f"{name}: has another length than its images")
    kinds = {_kind(part.dtype) for part in parts if part is not None}
    if len(kinds) != 1 or not kinds.issubset(_kinds(name)):
        raise ValueError(f"{name}: holds {' and '.join(sorted(kinds))}, where {' or '.join(_kinds(name))} is stored")
    kind = {"integers": np.int64, "floats": np.float32, "bools": np.bool_}[kinds.pop()]
    absent = np.repeat([part is None for part in parts], sizes)
    values: np.ndarray = np.zeros(len(absent), kind)
    values[~absent] = np.concatenate([part for part in parts if part is not None])
    if kind is np.int64:
        values = values.astype(_smallest(values))
    return pa.array(values, mask=absent if absent.any() else None, from_pandas=False)


def _smallest(values: np.ndarray) -> type[np.generic]:
    least, largest = int(values.min()), int(values.max())
    return next(one for one in INTEGERS if np.iinfo(one).min <= least and largest <= np.iinfo(one).max)


def _kind(dtype: np.dtype) -> str:
    if dtype.kind in "fb":
        return "floats" if dtype.kind == "f" else "bools"
    return KINDS.get(dtype.name, dtype.name)


def _kinds(name: str) -> tuple[str, ...]:
    """What a column may hold."""
    if name in NAMED:
        return ("strings" if name in IMAGES[:2] else "floats" if name in PROBABILITIES else "integers",)
    return "integers", "floats", "bools"


# reading


@contextmanager
def _one_line() -> Iterator[None]:
    """Whatever is wrong with a file, as a ValueError of one line."""
    try:
        yield
    except BROKEN as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"is no table of outcomes ({line})") from error


def _opened(content: bytes) -> pq.ParquetFile:
    """The file, once its footer says that it is a table of outcomes of a size that can be decoded."""
    if len(content) < 12 or int.from_bytes(content[-8:-4], "little") > FOOTER:
        raise ValueError("its footer is missing or too long")
    try:
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=IMAGES[:2], pre_buffer=False)
    except KeyError as error:
        raise ValueError(f"no column {error.args[0].decode()!r}") from error
    if file.metadata.num_row_groups != 1:
        raise ValueError(f"{file.metadata.num_row_groups} row groups")
    # What raises in these readers of no rows ends the process in the properties of file.metadata's columns.
    list(file.reader.iter_batches(0, [0], range(file.metadata.num_columns), use_threads=False))
    _check_footer(file.metadata)
    _check_types(file.schema_arrow)
    return file


def _check_footer(found: pq.FileMetaData) -> None:
    rows = found.num_rows
    if not 0 < rows * found.num_columns * 8 <= LARGEST:
        raise ValueError(f"{rows} rows of {found.num_columns} columns")
    group, pages = found.row_group(0), 0
    for column in map(group.column, range(found.num_columns)):
        if column.num_values != rows or group.num_rows != rows:
            raise ValueError("columns of different lengths")
        if column.compression not in GROWS or column.total_compressed_size < 0:
            raise ValueError(f"compressed with {column.compression}, whose pages have no bound")
        pages += column.total_compressed_size * GROWS[column.compression]
    if pages > PAGES:
        raise ValueError(f"{rows} rows that may be {pages} bytes")


def _check_types(found: pa.Schema) -> None:
    types = dict(zip(found.names, map(str, found.types), strict=True))
    if len(types) != len(found):
        raise ValueError("two columns have one name")
    for name in (*IMAGES, "prediction"):
        if name not in types:
            raise ValueError(f"no column {name!r}")
    for name, kind in types.items():
        if KINDS.get(kind) not in _kinds(name):
            raise ValueError(f"column {name!r} holds {kind}")


def _decoded(file: pq.ParquetFile, names: Sequence[str]) -> dict[str, pa.Array]:
    table = file.read(columns=list(names), use_threads=False)
    if names and len(table) != file.metadata.num_rows:
        raise ValueError("columns of different lengths")
    return dict(zip(table.column_names, map(_whole, table.columns), strict=True))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _stored(file: pq.ParquetFile, content: bytes) -> bytes:
    """Equal for files whose IMAGES are stored in the same bytes and decoded alike."""
    found = hashlib.sha256(f"{file.metadata.num_rows} {file.metadata.created_by}".encode())
    group, schema = file.metadata.row_group(0), file.schema_arrow
    for index in map(schema.names.index, IMAGES):
        column = group.column(index)
        first = column.dictionary_page_offset if column.has_dictionary_page else None
        start = column.data_page_offset if first is None else min(first, column.data_page_offset)
        stop = start + column.total_compressed_size
        if not 0 < start < stop <= len(content):
            raise ValueError("a column outside the file")
        how = (
            schema.field(index),
            column.physical_type,
            column.compression,
            stop - start,
            column.data_page_offset - start,
        )
        found.update(repr(how).encode())
        found.update(memoryview(content)[start:stop])
    return found.digest()


def _parts(columns: Mapping[str, pa.Array], known: Known) -> tuple[_Part, ...]:
    """The conditions, in order, with their images."""
    if nulls := [name for name in IMAGES if columns[name].null_count]:
        raise ValueError(f"column {nulls[0]!r} has gaps")
    conditions, places = _strings(columns["condition"])
    names, codes = _strings(columns["id"])
    labels = columns["label"].to_numpy().astype(np.int64)
    starts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
    spans = [slice(start, stop) for start, stop in itertools.pairwise(starts)]
    if len({places[rows.start] for rows in spans}) != len(spans):
        raise ValueError("a condition in two places")
    mine: dict[bytes, Images] = {}
    room = LARGEST
    parts = []
    for rows in spans:
        key = codes[rows].tobytes() + labels[rows].tobytes()
        if key not in mine:
            room -= names.itemsize * (rows.stop - rows.start)
            if room < 0:
                raise ValueError("its ids are too long")
            mine[key] = _images(names, codes[rows], labels[rows], known)
        parts.append(_Part(str(conditions[places[rows.start]]), rows, mine[key]))
    return tuple(parts)


def _images(names: np.ndarray, codes: np.ndarray, labels: np.ndarray, known: Known) -> Images:
    if (np.diff(np.sort(codes)) == 0).any():
        raise ValueError("an image twice in a condition")
    ids = names[codes]
    key = hashlib.sha256("\0".join(ids.tolist()).encode() + labels.tobytes()).digest()
    return known.images.setdefault(key, Images(ids, labels.copy()))


def _strings(column: pa.DictionaryArray) -> tuple[np.ndarray, np.ndarray]:
    """(D,) different strings, and (rows,) which of them stands where."""
    names, codes = column.dictionary.to_pylist(), column.indices.to_numpy()
    if len(set(names)) != len(names) or not 0 <= codes.min() <= codes.max() < len(names):
        raise ValueError("strings twice or missing")
    if max(map(len, names)) > LONGEST or "\0" in "".join(names):
        raise ValueError("strings too long or with zero bytes")
    return np.array(names, np.str_), codes


def _values(columns: Mapping[str, pa.Array]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """By name: (rows,) values, and (rows,) where they are not null; None: everywhere."""
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for name, column in columns.items():
        valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
        filled = column if valid is None else column.fill_null(pa.scalar(0).cast(column.type))
        found[name] = filled.to_numpy(zero_copy_only=False), valid
    return found


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
