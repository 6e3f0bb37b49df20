"""What `--set-attack` makes of a suite: another suite, whose attacks run with other settings, in a column of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
from nsbench import registry
from nsbench.errors import NsbenchError, UnknownName, UsageError
from nsbench.run.own_settings import typed_setting
from nsbench.types import Attack, Condition, Setting, Suite

OPTION = "--set-attack"


def with_attack_settings(suites: Sequence[str], settings: Mapping[str, str]) -> tuple[str, ...]:
    """Names of these suites with the settings, registered; a suite that attacks nothing, or has them anyway, as it is.

    Raises UnknownName for a setting that an attack does not declare, and UsageError for a value that it does not take or
    where no suite attacks anything.
    """
    if settings and not any(_attacks(registry.suites[name]) for name in suites):
        given = ", ".join(f"{name}={text}" for name, text in settings.items())
        raise UsageError(
            f"{OPTION} {given}: nothing is attacked in {', '.join(suites) or 'no suite'}; add a suite that attacks"
        )
    return tuple(_variant(registry.suites[name], settings) for name in suites)


def is_made_again(suite: str, params: Sequence[Mapping[str, Setting]]) -> bool:
    """Whether this is a suite of `with_attack_settings`: then it is registered, from what each condition states.

    What is stated decides nothing by itself: the suite has to come out with this very name.
    """
    for base in [one for one in registry.suites.values() if suite.startswith(f"{one.name}-")]:
        each = zip(base.conditions(), params, strict=False)
        settings = {
            name: str(value) for one, stated in each for name, value in stated.items() if one.params.get(name) != value
        }
        if _name(base, settings) == suite:
            with suppress(NsbenchError):  # of a setting that the attack does not have
                return _variant(base, settings) == suite
    return False


def own_parameters(attack: Attack) -> list[str]:
    """The settings that a condition may change; how many images go through the model at a time moves nothing."""
    return [
        name
        for name, parameter in attack.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
        if name != "batch_size"
    ]


def _attacks(suite: Suite) -> list[Attack]:
    return [registry.attacks[name] for name in dict.fromkeys(one.attack for one in suite.conditions()) if name]


def _variant(suite: Suite, settings: Mapping[str, str]) -> str:
    before = suite.conditions()
    first = next((one for one in before if one.attack), None)
    after = [_changed(one, first, settings) if first and one.attack else one for one in before]
    if [one.params for one in after] == [one.params for one in before]:
        return suite.name
    words, name = [f"{name} {text}" for name, text in settings.items()], _name(suite, settings)
    if name not in registry.suites:
        changed = replace(
            suite,
            name=name,
            title=f"{suite.title} ({', '.join(words)})",
            build=lambda: list(after),
            summary=f"{suite.summary} Not the suite's own settings: the attack runs with {', '.join(words)}.",
            paper=False,
            watched=False,
        )
        registry.suites.add(name, changed)
    return name


def _name(suite: Suite, settings: Mapping[str, str]) -> str:
    return re.sub(r"[^\w.-]", "_", "-".join([suite.name, *(f"{key}-{text}" for key, text in settings.items())]))


def _changed(condition: Condition, first: Condition, settings: Mapping[str, str]) -> Condition:
    """The condition with those settings that it does not have anyway, by itself or as the attack's default.

    One that differs from the suite's first attacked condition in a setting, such as "50 steps", keeps what it is there for.
    """
    attack = registry.attacks[str(condition.attack)]
    values: dict[str, Setting] = {}
    for name, text in settings.items():
        if name not in own_parameters(attack):
            raise UnknownName(f"setting of {attack.name}", name, own_parameters(attack))
        parameter = attack.parameters[name]
        value = typed_setting(attack.function, parameter, text, f"{OPTION} {name}")
        mine, theirs = (one.params.get(name, parameter.default) for one in (condition, first))
        if value != mine and mine == theirs:
            values[name] = value
    return replace(condition, params={**condition.params, **values})
