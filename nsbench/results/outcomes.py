"""Per-image outcomes in a file: Parquet, and the .npz of schema 1, which is read and never written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from nsbench.results import npz, parquet, parquet_reading
from nsbench.results.parquet_reading import Known, Rows
from nsbench.types import Outcomes

Form = Literal["parquet", "npz"]
ImageIds = Literal["canonical", "names"]  # names: of files, as they were stored before schema 4


def pack(outcomes: Mapping[str, Outcomes]) -> bytes:
    """The file of these conditions. Raises ValueError for what cannot be stored."""
    return parquet.pack(outcomes)


def unpack(content: bytes, form: Form, image_ids: ImageIds) -> dict[str, Outcomes]:
    """By condition, in the stored order, by canonical ids (`nsbench.data.image_ids`) whatever the file has.

    Raises ValueError with one line for what is no such file.
    """
    return npz.unpack(content) if form == "npz" else parquet_reading.unpack(content, image_ids == "names")


def read_columns(
    content: bytes, form: Form, image_ids: ImageIds, columns: Collection[str], known: Known
) -> dict[str, Rows]:
    """By condition, in the stored order: its images, shared with all files that `known` met, and these columns.

    Raises ValueError with one line for what is no such file.
    """
    if form == "npz":
        return npz.read_columns(content, columns, known)
    return parquet_reading.read_columns(content, columns, known, image_ids == "names")
