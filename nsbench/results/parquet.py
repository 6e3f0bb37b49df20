"""Per-image outcomes as one Parquet table, a row for each condition and image, that pandas, DuckDB and R open as well.

    condition  id  label  prediction  [label_probability  confidence]  [top1 .. top5]  [what else a condition reports]

Strings, the smallest integers that hold the values, float32 and bool. Conditions and their images keep their order. A
column that a condition lacks is null in all its rows. One row group; integers by a dictionary, floats split by byte.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

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
INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
STRINGS = "dictionary<values=string, indices=int32, ordered=0>"
KINDS = {"float": "floats", "bool": "bools", STRINGS: "strings"} | dict.fromkeys(
    [np.dtype(one).name for one in INTEGERS], "integers"
)  # by Arrow type


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
    if len(kinds) != 1 or not kinds.issubset(kinds_of(name)):
        raise ValueError(f"{name}: holds {' and '.join(sorted(kinds))}, where {' or '.join(kinds_of(name))} is stored")
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


def kinds_of(name: str) -> tuple[str, ...]:
    """What a column may hold."""
    if name in NAMED:
        return ("strings" if name in IMAGES[:2] else "floats" if name in PROBABILITIES else "integers",)
    return "integers", "floats", "bools"
