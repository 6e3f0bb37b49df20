"""Registries of suites, methods and attacks, and the loading of content files.

A registry is a dict and a decorator: it refuses duplicates and answers an unknown name with the known ones.
Content is found by scanning folders (`suites/`, `baselines/`) and the entry points `nsbench.suites` and
`nsbench.methods`, so adding a suite or a method is adding one file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Generic, TypedDict, TypeVar, Unpack, overload

from nsbench.errors import NsbenchError, UnknownName
from nsbench.types import (
    GROUPS,
    Attack,
    AttackFacts,
    AttackFunction,
    Condition,
    FitFunction,
    Method,
    ScoreFunction,
    Suite,
)

Item = TypeVar("Item")
BuildConditions = Callable[[], list[Condition]]
AnyAttack = TypeVar("AnyAttack", bound=AttackFunction)
AnyFit = TypeVar("AnyFit", bound=FitFunction)


class Registry(Generic[Item]):
    """Names to items, in order of registration."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, Item] = {}

    def add(self, name: str, item: Item) -> None:
        if name in self._items:
            raise NsbenchError(f"{self.kind} '{name}' is registered twice; rename one of the two files")
        self._items[name] = item

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            raise UnknownName(self.kind, name, self._items)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def values(self) -> list[Item]:
        return list(self._items.values())


class Methods(Registry[Method]):
    """Methods, and their chains: "madry+ns" is ns from madry's model."""

    def __getitem__(self, name: str) -> Method:
        parts = [super(Methods, self).__getitem__(part) for part in name.split("+")]
        return _chain(parts) if len(parts) > 1 else parts[0]

    def __contains__(self, name: object) -> bool:
        return all(super(Methods, self).__contains__(part) for part in str(name).split("+"))


def _chain(parts: list[Method]) -> Method:
    def fit(*arguments: object, **keywords: object) -> None:
        raise NsbenchError(f"{'+'.join(part.name for part in parts)} is a chain; its parts are fitted one by one")

    return Method(
        "+".join(part.name for part in parts),
        " + ".join(part.title for part in parts),
        fit,
        "; ".join(part.citation for part in parts),
        " Then: ".join(f"{part.title}: {part.summary}" for part in parts),
        version=sum(part.version for part in parts),
        trains=any(part.trains for part in parts),
        order=parts[-1].order + 5,
        parts=tuple(parts),
    )


suites: Registry[Suite] = Registry("suite")
methods: Registry[Method] = Methods("method")
attacks: Registry[Attack] = Registry("attack")


class SuiteFields(TypedDict, total=False):
    """Fields of Suite that have defaults."""

    version: int
    order: int
    paper: bool
    unit: str
    lower_is_better: bool
    watched: bool


class MethodFields(TypedDict, total=False):
    """Fields of Method that have defaults and that an author states."""

    version: int
    trains: bool
    role: str
    order: int


def suite(
    *, title: str, group: str, score: ScoreFunction, citation: str, **fields: Unpack[SuiteFields]
) -> Callable[[BuildConditions], BuildConditions]:
    """Register `def name() -> list[Condition]` as the suite `name`; its docstring is the summary."""
    if group not in GROUPS:
        raise NsbenchError(f"suite '{title}': group '{group}' is none of {', '.join(GROUPS)}")

    def register(build: BuildConditions) -> BuildConditions:
        name = build.__name__
        summary = " ".join((build.__doc__ or "").split())
        suites.add(name, Suite(name, title, group, build, score, citation, summary, **fields))
        return build

    return register


def method(*, title: str, citation: str, **fields: Unpack[MethodFields]) -> Callable[[AnyFit], AnyFit]:
    """Register `def name(model, train, recipe, ...) -> model` as the method `name`; its docstring is the summary."""

    def register(fit: AnyFit) -> AnyFit:
        name = fit.__name__
        summary = " ".join((fit.__doc__ or "").split())
        methods.add(name, Method(name, title, fit, citation, summary, **fields))
        return fit

    return register


@overload
def attack(function: AnyAttack, /) -> AnyAttack: ...


@overload
def attack(
    *,
    steps: int | None = None,
    restarts: int | None = None,
    loss: str | None = None,
    start: str | None = None,
    library: str | None = None,
) -> Callable[[AnyAttack], AnyAttack]: ...


def attack(
    function: AnyAttack | None = None,
    /,
    *,
    steps: int | None = None,
    restarts: int | None = None,
    loss: str | None = None,
    start: str | None = None,
    library: str | None = None,
) -> AnyAttack | Callable[[AnyAttack], AnyAttack]:
    """Register `def name(model, images, labels, *, ids, seed, threat, **params)` as the attack `name`.

    `@attack`, or `@attack(loss="cross-entropy", ...)` with the facts of AttackFacts. The function stays as it is.
    """
    facts = AttackFacts(steps, restarts, loss, start, library)

    def register(function: AnyAttack) -> AnyAttack:
        attacks.add(function.__name__, Attack(function.__name__, function, facts))
        return function

    return register if function is None else register(function)


def content_folder(name: str) -> Path:
    """`suites` or `baselines`: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    bundled = package / "_content" / name
    return bundled if bundled.is_dir() else package.parent / name


def load_content() -> None:
    """Import every content file once. Idempotent; a file that breaks the contract is named."""
    from importlib.metadata import entry_points  # a third of what `import nsbench` would take

    for kind, registry in (("suites", suites), ("baselines", methods)):
        for path in sorted(content_folder(kind).glob("*.py")):
            if path.stem not in registry:
                _load_file(path)
                if path.stem not in registry:
                    raise NsbenchError(f"{path}: must register '{path.stem}', its own file name")
    for group in ("nsbench.suites", "nsbench.methods"):
        for entry in entry_points(group=group):
            entry.load()


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"nsbench_content.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NsbenchError(f"{path}: is not a Python file that can be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
