"""What flags are made from: the conditions of a row with their outcomes; and what a flag is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nsbench.errors import ResultError
from nsbench.making.transfer import TRANSFER
from nsbench.results import Result
from nsbench.types import Outcomes

TRANSFER_SPLITS = {"damagenet": ("linf", 25.5 / 255)}  # sets that were attacked beforehand, and their budget


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
    condition: Mapping[str, Any]
    outcomes: Outcomes
    reader: Reader

    @property
    def name(self) -> str:
        budget = f" at {self.condition['threat']}" if self.condition["threat"] else ""
        return f"{self.result.title}{budget}"

    @property
    def card(self) -> Mapping[str, Any]:
        return self.condition.get("attack_card") or {}

    @property
    def budget(self) -> tuple[str, float] | None:
        """(norm, largest norm of the change in [0, 1] pixel units), where there is one."""
        if self.condition["split"] in TRANSFER_SPLITS:
            return TRANSFER_SPLITS[self.condition["split"]]
        match = re.fullmatch(r"(linf|l2) ([0-9.e+-]+)(/255)?", str(self.condition["threat"]))
        return (match[1], float(match[2]) / (255 if match[3] else 1)) if match else None

    @property
    def size(self) -> float:
        return self.budget[1] if self.budget else 0.0

    @property
    def kind(self) -> str:
        """ "clean", "transfer", "black box", "single step", "multi-step", or "" where it is not known."""
        if self.condition["attack"] is None:
            return "clean" if not _attacked(self.condition) else "" if on_itself(self) else "transfer"
        if not self.card.get("images"):
            return ""
        if not self.card["backwards"]:
            return "black box" if self.card["forwards"] else "transfer"
        steps = self.card.get("steps", self.card["backwards"])
        return "single step" if steps * self.card.get("restarts", 1) <= 1 else "multi-step"

    @property
    def unattacked(self) -> np.ndarray | None:
        """Predictions on the images as they are, where they are known."""
        if self.condition["attack"] is None:
            return self.outcomes.predictions
        return self.outcomes.extra.get("predictions_clean")


class Reader(Protocol):
    """Where outcomes come from."""

    def outcomes(self, result: Result, names: Sequence[str]) -> Mapping[str, Outcomes]:
        """Of these conditions. Raises ResultError."""

    def common(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the ids that both arrays of ids hold."""


class Stored:
    """Outcomes as the results folder has them."""

    def outcomes(self, result: Result, names: Sequence[str]) -> Mapping[str, Outcomes]:
        return result.outcomes()

    def common(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return common_places(one, other)


def common_places(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in two arrays of ids of the images that both hold."""
    if one is other or np.array_equal(one, other):
        return (np.arange(len(one)),) * 2
    _, at_one, at_other = np.intersect1d(one, other, return_indices=True)
    return at_one, at_other


def settings_of(result: Result, reader: Reader) -> list[Setting]:
    """The conditions that say something about attacks: what was attacked, and the clean images beside it."""
    wanted = [one for one in result.conditions if one["split"] == "clean" or _attacked(one)]
    if not wanted:
        return []
    try:
        outcomes = reader.outcomes(result, [str(one["name"]) for one in wanted])
    except ResultError:  # the leaderboard names it
        return []
    return [Setting(result, one, outcomes[str(one["name"])], reader) for one in wanted]


def _attacked(condition: Mapping[str, Any]) -> bool:
    """Here, or beforehand."""
    split = str(condition["split"])
    return bool(condition["attack"]) or split in TRANSFER_SPLITS or split.startswith(TRANSFER)


def on_itself(one: Setting) -> bool:
    """Whether a transfer set was made on the very weights that were judged."""
    digest = one.result.provenance.get("weights_digest")
    return str(one.condition["split"]).startswith(TRANSFER) and f"(weights {digest})" in str(one.condition["origin"])


def common(one: Setting, other: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images that both hold."""
    return one.reader.common(one.outcomes.ids, other.outcomes.ids)


def paired(one: Setting, other: Setting) -> tuple[np.ndarray, np.ndarray, int]:
    """Right or wrong on the images that both hold, and how many these are."""
    at_one, at_other = common(one, other)
    return one.outcomes.correct[at_one], other.outcomes.correct[at_other], len(at_one)


def curves(settings: Sequence[Setting]) -> Iterator[list[Setting]]:
    """Conditions of one result that differ in the budget alone, by rising budget."""
    groups: dict[tuple, list[Setting]] = {}
    for one in settings:
        if one.condition["attack"] and one.budget:
            key = (
                id(one.result),
                one.condition["attack"],
                one.condition["split"],
                one.budget[0],
                str(sorted(one.condition["params"].items())),
            )
            groups.setdefault(key, []).append(one)
    for curve in groups.values():
        if len(curve) > 1:
            yield sorted(curve, key=lambda one: one.size)
