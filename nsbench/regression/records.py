"""What a check finds: small records, and the exit status."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from nsbench.regression.baseline import Baseline
from nsbench.regression.entry import Entry, seeded

NONE = np.array([], dtype=np.str_)


class Verdict(StrEnum):
    OK = "ok"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    INCOMPARABLE = "incomparable"


@dataclass(frozen=True)
class Rules:
    """What is called a regression."""

    alpha: float = 0.01  # chance of any false verdict in a check
    min_drop: float = 0.5  # points
    strict: bool = False  # a method whose outcomes moved beyond noise fails too, for the better or the worse
    max_slowdown: float | None = None  # seconds, as ratio to the reference workload, new over old
    max_memory: float | None = None  # the same for memory


@dataclass(frozen=True, eq=False)
class SuiteCheck:
    """One suite of one method, with one seed: what became of each image."""

    method: str
    suite: str
    seed: int
    before: Entry | None  # None: the baseline does not hold it
    after: Entry | None = None
    verdict: Verdict = Verdict.INCOMPARABLE
    reason: str = ""  # why it is incomparable
    drop: float = 0.0  # in the score's unit; positive is worse
    lost: np.ndarray = field(default_factory=NONE.copy)  # ids of images that got worse
    won: np.ndarray = field(default_factory=NONE.copy)
    mcnemar: float | None = None  # exact p of lost against won; None: not an accuracy
    p: float = 1.0  # of this suite alone, with the recorded noise
    p_adjusted: float = 1.0  # over the whole check
    detectable: float | None = None  # drop that would be called with 80 % probability; None: none would
    changes: tuple[str, ...] = ()  # what is different about the model, in words

    @property
    def key(self) -> str:
        """For people: "ns x imagenet_c", with the seed where it is not 0."""
        return f"{self.method} x {seeded(self.suite, self.seed)}"

    @property
    def n(self) -> int:
        return len(self.before.images.ids) if self.before else 0


@dataclass(frozen=True)
class MethodCheck:
    """All accuracies of one method as one: their average, which may drop though no single one can be named."""

    method: str
    suites: int  # accuracies, with seeds
    drop: float  # of the average, in points; positive is worse
    p_adjusted: float  # over the whole check
    verdict: Verdict


@dataclass(frozen=True)
class Moved:
    """Whether the outcomes of a method changed at all: distinct images, over all suites."""

    method: str
    flipped: int
    images: int
    repeat_flipped: int
    repeat_images: int
    p_holm: float
    moved: bool


@dataclass(frozen=True)
class CostRatio:
    """New over old, each as ratio to the reference workload of its own run."""

    what: str  # "seconds" or "memory"
    ratio: float
    limit: float | None  # None: for information

    @property
    def exceeded(self) -> bool:
        return self.limit is not None and self.ratio > self.limit


@dataclass(frozen=True)
class BaselineCheck:
    """Everything that a check against a baseline found."""

    baseline: Baseline
    rules: Rules
    suites: tuple[SuiteCheck, ...]
    moved: tuple[Moved, ...]
    costs: tuple[CostRatio, ...]
    methods: tuple[MethodCheck, ...] = ()  # where the baseline's repeat tells their noise

    @cached_property
    def counts(self) -> dict[Verdict, int]:
        return {verdict: sum(one.verdict is verdict for one in self.suites) for verdict in Verdict}

    @property
    def failed(self) -> bool:
        """Something got worse, or moved where the rules are strict."""
        verdicts = {one.verdict for one in self.suites} | {one.verdict for one in self.methods}
        moved = self.rules.strict and (any(m.moved for m in self.moved) or Verdict.IMPROVED in verdicts)
        return Verdict.REGRESSED in verdicts or moved or any(cost.exceeded for cost in self.costs)

    @property
    def exit_status(self) -> int:
        """0 ok or improved, 1 regressed, 3 incomparable (2 is wrong usage)."""
        return 1 if self.failed else 3 if self.counts[Verdict.INCOMPARABLE] else 0
