"""Per-image outcomes in a file: Parquet, and the .npz of schema 1, which is read and never written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from nsbench.results import npz, parquet, parquet_reading
from nsbench.results.parquet_reading import Known, Rows
from nsbench.types import Outcomes

Form = Literal["parquet", "npz"]


def pack(outcomes: Mapping[str, Outcomes]) -> bytes:
    """The file of these conditions. Raises ValueError for what cannot be stored."""
    return parquet.pack(outcomes)


def unpack(content: bytes, form: Form) -> dict[str, Outcomes]:
    """By condition, in the stored order. Raises ValueError with one line for what is no such file."""
    return npz.unpack(content) if form == "npz" else parquet_reading.unpack(content)


def read_columns(content: bytes, form: Form, columns: Collection[str], known: Known) -> dict[str, Rows]:
    """By condition, in the stored order: its images, shared with all files that `known` met, and these columns.

    Raises ValueError with one line for what is no such file.
    """
    read = npz.read_columns if form == "npz" else parquet_reading.read_columns
    return read(content, columns, known)
