"""A suite for each set that a data config names, so that it is a column without a file of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nsbench import registry
from nsbench.data.named_sets import NamedSet
from nsbench.errors import UsageError
from nsbench.files import expanded
from nsbench.statistics import accuracy
from nsbench.types import Condition, Suite

CONFIG = ".toml"


def register_sets(data: str | None) -> None:
    """Register a suite for each [sets.NAME] of a config file; nothing for other sources.

    Raises UsageError where a suite of another kind has that name, and what reading the file raises.
    """
    path = expanded(data or "")
    if path.suffix.lower() != CONFIG or not path.is_file():
        return
    for one in _sets(path).values():
        if one.name not in registry.suites:
            registry.suites.add(one.name, _suite(one))
        elif registry.suites[one.name].code != one.digest:
            raise UsageError(f"{path}: [sets.{one.name}]: there is a suite of that name already; choose another one")


def _sets(path: Path) -> dict[str, NamedSet]:
    from nsbench.data.config import read_config
    from nsbench.data.own import OwnSource
    from nsbench.data.own_config import read_own_config

    own = read_own_config(path)
    if own is None:
        return read_config(path).sets
    return OwnSource(own.root, name=own.name, order=own.class_names, sets=own.sets, config=path).sets


def _suite(one: NamedSet) -> Suite:
    return Suite(
        one.name, one.title, "ood", partial(_conditions, one.name), accuracy, one.citation, one.summary, order=900,
        paper=False, code=one.digest,
    )  # fmt: skip


def _conditions(name: str) -> list[Condition]:
    return [Condition(name, split=name)]
