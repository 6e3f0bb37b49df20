"""Whether a suite can be worked out at all: what is asked of its conditions and settings before any work."""

from __future__ import annotations

from collections.abc import Sequence

from nsbench import registry
from nsbench.data import Split
from nsbench.errors import DataError, UnknownName, UsageError
from nsbench.run.own_settings import check_stated
from nsbench.run.threat_check import check_threat_model
from nsbench.types import Attack, Condition, Suite

GIVEN = ("ids", "seed", "threat", "batch_size")  # keywords of an attack that the harness gives
ARGUMENTS = 3  # model, images and labels, which come first


def check_suite(suite: Suite) -> list[Condition]:
    """Its conditions. Raises UsageError, in one line, where they give no figure or not the one that is meant."""
    conditions = suite.conditions()
    if not conditions:
        raise UsageError(f"suite '{suite.name}': has no conditions; give one or more")
    names = [condition.name for condition in conditions]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"suite '{suite.name}': two conditions are called '{twice}'; give each a name of its own")
    for condition in conditions:
        check_condition(condition)
    return conditions


def check_condition(condition: Condition) -> None:
    """Raises UsageError for what cannot be evaluated."""
    where = f"condition '{condition.name}'"
    if condition.limit is not None and condition.limit < 1:
        raise UsageError(f"{where}: limit {condition.limit} leaves no image; give 1 or more, or None for all")
    if condition.preprocess not in ("checkpoint", "none"):
        raise UsageError(f"{where}: preprocess '{condition.preprocess}' is neither 'checkpoint' nor 'none'")
    if condition.attack is None:
        return
    attack = registry.attacks[condition.attack]
    if condition.threat is None:
        raise UsageError(f"{where}: an attack needs a threat model")
    check_threat_model(condition)
    _check_settings(attack, condition)


def _check_settings(attack: Attack, condition: Condition) -> None:
    parameters = list(attack.parameters.values())
    own = [one for one in parameters[ARGUMENTS:] if one.name not in GIVEN]
    named = [one for one in own if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)]
    known, takes_any = [one.name for one in named], any(one.kind is one.VAR_KEYWORD for one in own)
    if given := [name for name in condition.params if name in GIVEN]:
        how = ", as --batch-size" if given[0] == "batch_size" else ""
        raise UsageError(
            f"condition '{condition.name}': {given[0]} is no setting of a condition, the run gives it{how}; leave it out"
        )
    if not takes_any and (unknown := [name for name in condition.params if name not in known]):
        raise UnknownName(f"setting of {attack.name}", unknown[0], known)
    if missing := [one.name for one in named if one.default is one.empty and one.name not in condition.params]:
        raise UsageError(
            f"condition '{condition.name}': {attack.name} needs the setting {missing[0]}; give it in params"
        )
    for one in named:
        if one.name in condition.params:
            where = f"condition '{condition.name}' of {attack.name}"
            check_stated(attack.function, one, condition.params[one.name], where)


def check_attackable(condition: Condition, split: Split) -> None:
    """Raises DataError where an attack would work against another judgement than the one that counts.

    An attack has one label of each image. It stops as soon as another one is predicted, and that may be right, too.
    """
    if condition.attack and split.also_right:
        raise DataError(
            f"condition '{condition.name}': '{split.name}' has images with several right labels, and an attack knows one "
            "of them; attack a set with one label for each image, or evaluate this one without an attack"
        )


def check_splits(conditions: Sequence[Condition], splits: Sequence[Split]) -> None:
    for condition, split in zip(conditions, splits, strict=True):
        check_attackable(condition, split)
