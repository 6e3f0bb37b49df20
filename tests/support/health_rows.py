"""Results of one row for tests of health flags, with outcomes and attack cards that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import made
import numpy as np

from nsbench.health import Flag
from nsbench.results import AttackCard, ConditionResult, OutputCheck, Result
from nsbench.statistics import accuracy
from nsbench.types import Condition, Outcomes, ThreatModel

N = 400  # images
Measured = Mapping[str, tuple[Condition, Outcomes, AttackCard | None]]  # by name of the condition


def linf(k: float) -> ThreatModel:
    return ThreatModel("linf", k / 255)


class Row:
    """Stores results of one row, as the runner does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: list[Result] = []

    def add(self, suite: str, measured: Measured, seed: int = 0, outputs: OutputCheck | None = None) -> None:
        outcomes = {name: one for name, (_, one, _) in measured.items()}
        conditions = tuple(described(name, *one) for name, one in measured.items())
        changes = {"title": suite.upper(), "weights_digest": "w", "outputs": outputs, "group": "adversarial"}
        self.results.append(
            made.stored(
                self.folder,
                outcomes,
                source="noise",
                model="tiny",
                method="pretrained",
                suite=suite,
                seed=seed,
                score=accuracy(outcomes),
                conditions=conditions,
                identity=suite,
                **changes,
            )
        )


def described(name: str, condition: Condition, outcomes: Outcomes, card: AttackCard | None) -> ConditionResult:
    """A condition as the runner stores it."""
    return made.condition(
        name,
        outcomes,
        split=condition.split,
        attack=condition.attack,
        params=dict(condition.params),
        threat=condition.threat,
        beforehand=condition.beforehand,
        data_digest=condition.split,
        attack_card=card,
    )


def right_on(hits: float, n: int = N, shift: int = 0, ids: str = "image", **extra: np.ndarray) -> Outcomes:
    """`hits` of n images right: those from `shift` on, wrapping around."""
    correct = (np.arange(n) - shift) % n < hits
    return Outcomes(
        np.array([f"{ids}{k:04d}" for k in range(n)]), np.zeros(n, dtype=np.int64), (~correct).astype(np.int64), extra
    )


CARDS = {
    kind: AttackCard(images=N, forwards=forwards, backwards=backwards, seconds=0.0)
    for kind, forwards, backwards in (("single", 1, 1), ("multi", 11, 10), ("black", 500, 0), ("foreign", 0, 0))
}


def attacked(kind: str, k: float, hits: float, **more: np.ndarray) -> tuple[Condition, Outcomes, AttackCard]:
    return Condition("x", attack=kind, threat=linf(k)), right_on(hits, **more), CARDS[kind]


def clean(hits: float) -> tuple[Condition, Outcomes, None]:
    return Condition("x"), right_on(hits), None


def beforehand(k: float, hits: float, split: str = "foreign") -> tuple[Condition, Outcomes, None]:
    """A split of other images that were attacked on another network."""
    return Condition("x", split=split, beforehand=linf(k)), right_on(hits, ids="other"), None


def names(found: list[Flag]) -> list[str]:
    return [flag.name for flag in found]
