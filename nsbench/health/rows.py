"""What flags are made from: the conditions of a row with their outcomes; and what a flag is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nsbench.errors import ResultError
from nsbench.results import AttackCard, ConditionResult, Result
from nsbench.results.reader import OutcomesReader
from nsbench.types import Outcomes

UNATTACKED_SPLIT = "clean"  # of the data vocabulary (see data.source): what the attacks of this house start from
NORMS = ("linf", "l2", "l1")  # in which budgets can be compared


@dataclass(frozen=True)
class Flag:
    """One sign of ill health of a row."""

    name: str  # "zero gradients", ...
    suites: tuple[str, ...]  # whose figures raise it
    sentence: str  # why, with the figures


@dataclass(frozen=True, eq=False)
class Setting:
    """One condition of one result."""

    result: Result
    condition: ConditionResult
    outcomes: Outcomes
    reader: OutcomesReader

    @property
    def name(self) -> str:
        budget = f" at {self.condition.threat}" if self.condition.threat else ""
        return f"{self.result.title}{budget}"

    @property
    def card(self) -> AttackCard | None:
        return self.condition.attack_card

    @property
    def budget(self) -> tuple[str, float] | None:
        """(norm, largest norm of the change in [0, 1] pixel units), where there is one."""
        threat = self.condition.beforehand or self.condition.threat
        return (threat.norm, threat.eps) if threat and threat.norm in NORMS and threat.eps is not None else None

    @property
    def size(self) -> float:
        return self.budget[1] if self.budget else 0.0

    @cached_property
    def right(self) -> np.ndarray:
        """(n,) bool, of the images in the order of `outcomes`."""
        return self.outcomes.correct

    @cached_property
    def kind(self) -> str:
        """ "unattacked", "transfer", "black box", "single step", "multi-step", or "" where it is not known."""
        if self.condition.attack is None:
            return "unattacked" if not self.condition.attacked else "" if self.on_itself else "transfer"
        card = self.card
        if card is None or not card.images:
            return ""
        if not card.backwards:
            return "black box" if card.forwards else "transfer"
        steps = card.backwards if card.steps is None else card.steps
        return "single step" if steps * (1 if card.restarts is None else card.restarts) <= 1 else "multi-step"

    @property
    def on_itself(self) -> bool:
        """Whether the images were attacked beforehand on the very weights that were judged."""
        return self.condition.surrogate_digest == self.result.provenance.weights_digest

    @property
    def unattacked(self) -> np.ndarray | None:
        """Predictions on the images as they are, where they are known."""
        if self.condition.attack is None:
            return self.outcomes.predictions
        return self.outcomes.extra.get("predictions_clean")


def settings_of(result: Result, reader: OutcomesReader) -> list[Setting]:
    """The conditions that say something about attacks: what was attacked, and the clean images beside it."""
    wanted = [one for one in result.conditions if one.split == UNATTACKED_SPLIT or one.attacked]
    if not wanted:
        return []
    try:
        outcomes = reader.outcomes(result, [one.name for one in wanted], beside=any(one.attacked for one in wanted))
    except ResultError:  # the leaderboard names it
        return []
    return [Setting(result, one, outcomes[one.name], reader) for one in wanted]


def common(one: Setting, other: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images that both hold."""
    return one.reader.common(one.outcomes.ids, other.outcomes.ids)


def paired(one: Setting, other: Setting) -> tuple[np.ndarray, np.ndarray, int]:
    """Right or wrong on the images that both hold, and how many these are."""
    if one.outcomes.ids is other.outcomes.ids:
        return one.right, other.right, len(one.right)
    at_one, at_other = common(one, other)
    return one.right[at_one], other.right[at_other], len(at_one)


def curves(settings: Sequence[Setting]) -> Iterator[list[Setting]]:
    """Conditions of one result that differ in the budget alone, by rising budget."""
    groups: dict[tuple[object, ...], list[Setting]] = {}
    for one in settings:
        if one.condition.attack and one.budget:
            key = (
                id(one.result),
                one.condition.attack,
                one.condition.split,
                one.budget[0],
                str(sorted(one.condition.params.items())),
            )
            groups.setdefault(key, []).append(one)
    for curve in groups.values():
        if len(curve) > 1:
            yield sorted(curve, key=lambda one: one.size)
