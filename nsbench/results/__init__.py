"""The results folder: one record, one store, one reader of outcomes for the whole house."""

from nsbench.results.store import (
    SCHEMA,
    UPGRADES,
    Result,
    ensure_writable,
    find_result,
    folder_of,
    read_result,
    read_results,
    write_result,
)

__all__ = [
    "SCHEMA",
    "UPGRADES",
    "Result",
    "ensure_writable",
    "find_result",
    "folder_of",
    "read_result",
    "read_results",
    "write_result",
]
