"""Registries of suites, methods and attacks.

A registry is a dict and a decorator: it refuses duplicates and answers an unknown name with the known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Generic, TypedDict, TypeVar, Unpack, overload

from nsbench.errors import NsbenchError, UnknownName
from nsbench.registry.code import ReadCode, code_of
from nsbench.types import (
    GROUPS,
    Attack,
    AttackFacts,
    AttackFunction,
    Condition,
    FitFunction,
    FitPasses,
    Method,
    Passes,
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
        self._readers: dict[str, ReadCode] = {}  # of the code of items that a session registered

    def add(self, name: str, item: Item, code: str | ReadCode = "") -> None:
        """`code`: that of one's own, as `code_of` gives it; "": the item has it already, or has a version."""
        if name in self._items:
            raise NsbenchError(f"{self.kind} '{name}' is registered twice; rename one of the two files")
        if callable(code):
            self._readers[name] = code
        self._items[name] = _with_code(item, code) if isinstance(code, str) and code else item

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            raise UnknownName(self.kind, name, self._items)
        return _with_code(self._items[name], self._readers[name]()) if name in self._readers else self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def note_code(self, known: Collection[str], code: str) -> int:
        """Give the items whose names are not among the `known` the digest of the file that registered them; how many."""
        new = [name for name in self._items if name not in known]
        for name in new:
            self._readers.pop(name, None)
            self._items[name] = _with_code(self._items[name], code)
        return len(new)

    def values(self) -> list[Item]:
        return [Registry.__getitem__(self, name) for name in self._items]


def _with_code(item: Item, code: str) -> Item:
    return replace(item, code=code)  # type: ignore[type-var]


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
    needs: Callable[..., str] | None
    requires: Callable[..., object] | None
    passes: FitPasses | Callable[..., FitPasses] | None


def suite(
    *, title: str, group: str, score: ScoreFunction, citation: str, **fields: Unpack[SuiteFields]
) -> Callable[[BuildConditions], BuildConditions]:
    """Register `def name() -> list[Condition]` as the suite `name`; its docstring is the summary."""
    if group not in GROUPS:
        raise NsbenchError(f"suite '{title}': group '{group}' is none of {', '.join(GROUPS)}")

    def register(build: BuildConditions) -> BuildConditions:
        name = build.__name__
        summary = " ".join((build.__doc__ or "").split())
        suites.add(name, Suite(name, title, group, build, score, citation, summary, **fields), code_of(build, score))
        return build

    return register


def method(*, title: str, citation: str, **fields: Unpack[MethodFields]) -> Callable[[AnyFit], AnyFit]:
    """Register `def name(model, train, recipe, ...) -> model` as the method `name`.

    The first paragraph of its docstring is the summary. Keywords with defaults are settings of its own. `passes`: the
    FitPasses of a training, or a function that gives them, which a plan of a run counts with. `requires`: a function that
    raises where the method cannot train a model, which is asked before anything is trained.
    """

    def register(fit: AnyFit) -> AnyFit:
        name = fit.__name__
        summary = " ".join((fit.__doc__ or "").partition("\n\n")[0].split())
        methods.add(name, Method(name, title, fit, citation, summary, **fields), code_of(fit, fields.get("needs")))
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
    passes: Callable[..., Passes] | None = None,
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
    passes: Callable[..., Passes] | None = None,
) -> AnyAttack | Callable[[AnyAttack], AnyAttack]:
    """Register `def name(model, images, labels, *, ids, seed, threat, **params)` as the attack `name`.

    `@attack`, or `@attack(loss="cross-entropy", ...)` with the facts of AttackFacts. The function stays as it is.
    `passes(model, **settings)` gives the Passes that it makes for one image at most, which a plan of a run counts with;
    one with a parameter `threat` is given that too.
    """
    facts = AttackFacts(steps, restarts, loss, start, library)

    def register(function: AnyAttack) -> AnyAttack:
        attacks.add(function.__name__, Attack(function.__name__, function, facts, passes), code_of(function))
        return function

    return register if function is None else register(function)
