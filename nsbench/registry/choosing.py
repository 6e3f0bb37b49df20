"""What a comma-separated list of names and groups stands for, and the order in which things are listed."""

from __future__ import annotations

from typing import Any

from nsbench.errors import UnknownName, UsageError
from nsbench.registry.registries import Registry, methods, suites
from nsbench.types import Method, Suite


def ordered_suites() -> list[Suite]:
    return sorted(suites.values(), key=lambda suite: (suite.order, suite.name))


def ordered_methods() -> list[Method]:
    return sorted(methods.values(), key=lambda method: (method.order, method.name))


def resolve_methods(names: str) -> tuple[str, ...]:
    """Names, or `all`, as registered names without repetition."""
    return _resolve(names, {"all": [method.name for method in ordered_methods()]}, methods)


def resolve_suites(names: str) -> tuple[str, ...]:
    """Names or groups as registered names without repetition."""
    everything = ordered_suites()
    groups = {
        "all": [suite.name for suite in everything if suite.paper],
        "extended": [suite.name for suite in everything],
    }
    for group in ("adversarial", "ood"):
        groups[group] = [suite.name for suite in everything if suite.group == group and suite.paper]
    return _resolve(names, groups, suites)


def _resolve(names: str, groups: dict[str, list[str]], known: Registry[Any]) -> tuple[str, ...]:
    chosen: dict[str, None] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in groups and name not in known:
            raise UnknownName(known.kind, name, [*groups, *known])
        chosen |= dict.fromkeys(groups.get(name, [name]))
    if not chosen:
        raise UsageError(f"no {known.kind} was named; known: {', '.join([*groups, *known])}")
    return tuple(chosen)
