"""One suite of one method, image by image: what a baseline holds, and what a new result is turned into to be compared.

Shapes: C conditions on the same n images; outcomes are right (True) or wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nsbench.errors import ResultError
from nsbench.regression.evidence import Noise
from nsbench.results import Result
from nsbench.results.comparability import measured
from nsbench.statistics import MCE_WEIGHTS
from nsbench.types import Outcomes

TOLERANCE = 1e-6  # of a percentage point: rounding of sums in another order
FACTS = (
    "normalisation",
    "recipe",
    "method_version",
    "parent_digest",
    "weights_digest",
    "preprocessing",
    "device",
    "commit",
    "nsbench",
    "versions",
    "date",
    "seconds",
    "fit_seconds",
    "peak_memory_mib",
)


@dataclass(frozen=True, eq=False)
class Images:
    """n images with their labels, sorted by id."""

    ids: np.ndarray  # (n,) str
    labels: np.ndarray  # (n,) int64

    def reason_apart(self, reference: Images) -> str:
        """In what these images differ from `reference`, with an example; "" where they are the same."""
        if absent := sorted(set(reference.ids.tolist()) - set(self.ids.tolist())):
            return f"{_some(absent)} of {len(reference.ids)} images are not there"
        if others := sorted(set(self.ids.tolist()) - set(reference.ids.tolist())):
            return f"{_some(others)} images are not in the baseline"
        if relabelled := self.ids[self.labels != reference.labels].tolist():
            return f"{_some(relabelled)} of {len(self.ids)} images have another label"
        return ""


@dataclass(frozen=True, eq=False)
class Entry:
    """One (source, model, method, suite, seed) with its outcomes."""

    source: str
    model: str
    method: str
    suite: str
    seed: int
    title: str  # of the suite
    unit: str
    lower_is_better: bool
    score: float
    measured: Mapping[str, Any]  # what must agree for a comparison, by the words that name a disagreement
    weights: tuple[float, ...]  # what a right (or wrong) outcome of each condition adds to an image's contribution
    rewards: bool  # the weights are for right outcomes
    conditions: tuple[str, ...]  # C names: those on the images of the score
    images: Images
    right_CN: np.ndarray  # (C, n) bool
    facts: Mapping[str, Any] = field(default_factory=dict)  # FACTS of the provenance
    noise: Noise = field(default_factory=Noise)
    predictions_CN: np.ndarray | None = None  # class indices; a baseline does not hold them

    @property
    def key(self) -> str:
        """For people: "ns x imagenet_c", with the seed where it is not 0."""
        return f"{self.method} x {self.suite}" + (f" (seed {self.seed})" if self.seed else "")

    @property
    def is_accuracy(self) -> bool:
        """The score is the share of right outcomes of one condition."""
        return self.rewards and sum(weight != 0 for weight in self.weights) == 1

    @cached_property
    def values(self) -> np.ndarray:
        """(n,) what each image adds: the mean is the score."""
        return np.asarray(self.weights) @ (self.right_CN if self.rewards else ~self.right_CN)

    @property
    def right(self) -> int:
        """Images that can be lost: right in any condition of the score."""
        return int(self.right_CN[np.asarray(self.weights) != 0].any(axis=0).sum())

    @classmethod
    def of(cls, result: Result) -> Entry:
        """A stored result with its outcomes. Raises ResultError where the score is no mean over its images."""
        outcomes = result.outcomes()
        if not outcomes or not all(map(len, outcomes.values())):
            raise ResultError(f"{result.path}: holds no outcomes")
        first = next(iter(outcomes.values()))
        ids = np.sort(first.ids)
        if len(np.unique(ids)) != len(ids):
            raise ResultError(f"{result.path}: its outcomes name an image twice")
        sorted_ = {name: _by_id(outcome) for name, outcome in outcomes.items()}
        shared = {name: outcome for name, outcome in sorted_.items() if np.array_equal(outcome.ids, ids)}
        right_CN = np.array([outcome.correct for outcome in shared.values()])
        for weights, rewards in formulas(list(shared)):
            total = np.asarray(weights) @ (right_CN if rewards else ~right_CN)
            if abs(float(total.mean()) - result.score.value) <= TOLERANCE:
                break
        else:
            raise ResultError(
                f"{result.path}: its score is not a mean over its images, so it cannot be compared image by image"
            )
        labels = next(iter(shared.values())).labels
        return cls(
            result.source,
            result.model,
            result.method,
            result.suite,
            result.seed,
            result.title,
            result.unit,
            result.lower_is_better,
            result.score.value,
            comparable(result),
            tuple(weights),
            rewards,
            tuple(shared),
            Images(ids, labels),
            right_CN,
            {key: result.provenance.get(key) for key in FACTS},
            predictions_CN=np.array([outcome.predictions for outcome in shared.values()]),
        )


def comparable(result: Result) -> dict[str, Any]:
    """`comparability.measured` as JSON gives it back."""
    return json.loads(json.dumps(measured(result), default=str))


def flipped_images(before: Entry, after: Entry) -> np.ndarray:
    """Ids of images with another outcome in any condition."""
    return before.images.ids[(before.right_CN != after.right_CN).any(axis=0)]


def formulas(names: Sequence[str]) -> Iterator[tuple[list[float], bool]]:
    """Candidates for how a score is made of its conditions: their weights, and whether right outcomes count."""
    if all(name in names for name in MCE_WEIGHTS):
        yield [float(MCE_WEIGHTS.get(name, 0.0)) for name in names], False
    yield [100.0] + [0.0] * (len(names) - 1), True
    corrupted = sum(name != "clean" for name in names)
    if corrupted:
        yield [100 / corrupted if name != "clean" else 0.0 for name in names], False
    yield [100 / len(names)] * len(names), True


def _by_id(outcomes: Outcomes) -> Outcomes:
    order = np.argsort(outcomes.ids)
    return Outcomes(outcomes.ids[order], outcomes.labels[order], outcomes.predictions[order])


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} (such as {names[0]})"
