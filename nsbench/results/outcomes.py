"""Per-image outcomes in a file: Parquet, and the .npz of schema 1, which is read and never written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from nsbench.results import npz, parquet
from nsbench.types import Outcomes


def pack(outcomes: Mapping[str, Outcomes]) -> bytes:
    """The file of these conditions. Raises ValueError for what cannot be stored."""
    return parquet.pack(outcomes)


def unpack(content: bytes, form: Literal["parquet", "npz"]) -> dict[str, Outcomes]:
    """By condition, in the stored order. Raises ValueError with one line for what is no such file."""
    return npz.unpack(content) if form == "npz" else parquet.unpack(content)
