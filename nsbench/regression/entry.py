"""One suite of one method, image by image: what a baseline holds, and what a new result is turned into to be compared.

Shapes: C conditions on the same n images; outcomes are right (True) or wrong.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np

from nsbench.errors import ResultError
from nsbench.regression.noise import Noise
from nsbench.results import Provenance, Result, read_outcomes
from nsbench.results.comparability import measured
from nsbench.types import Composition, Outcomes, Setting

TOLERANCE = 1e-6  # of a percentage point: rounding of sums in another order


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


@dataclass(frozen=True)
class ModelFacts:
    """Where a model comes from: what may differ from the baseline, and is then named. The order is the file's."""

    normalisation: str
    recipe: Mapping[str, Setting] | None  # see `_settings`; None: nothing was trained
    method_version: int
    parent_digest: str
    weights_digest: str
    preprocessing: str
    device: str
    commit: str | None
    nsbench: str

    @classmethod
    def of(cls, own: Provenance) -> ModelFacts:
        return cls(
            own.normalisation,
            _settings(own),
            own.method_version,
            own.parent_digest,
            own.weights_digest,
            own.preprocessing,
            own.device,
            own.commit,
            own.nsbench,
        )


def _settings(trained: Provenance) -> dict[str, Setting] | None:
    """Name, seed, all fields of the recipe, and the method's own settings where they are not its defaults."""
    used = trained.recipe
    own = {name: one.value for name, one in trained.own_settings.items() if one.changed}
    return {"name": used.name, "seed": used.seed, **used.settings, **own} if used else None


@dataclass(frozen=True)
class RunFacts:
    """When an entry was measured and what it cost."""

    date: str
    seconds: float | None  # of the evaluation; None here and below: not recorded
    fit_seconds: float | None
    peak_memory_mib: int | None

    @classmethod
    def of(cls, own: Provenance) -> RunFacts:
        return cls(own.date, own.seconds, own.fit_seconds, own.peak_memory_mib)


@dataclass(frozen=True)
class Definition:
    """What a suite measured, and how its score is made of that. The order is the file's."""

    title: str
    unit: str
    lower_is_better: bool
    measured: Mapping[str, object]  # what must agree for a comparison, by the words that name a disagreement; plain
    weights: tuple[float, ...]  # what a right (or wrong) outcome of each condition adds to an image's contribution
    rewards: bool  # the weights are for right outcomes
    conditions: tuple[str, ...]  # C names: those on the images of the score

    @property
    def is_accuracy(self) -> bool:
        """The score is the share of right outcomes of one condition."""
        return self.rewards and sum(weight != 0 for weight in self.weights) == 1

    @property
    def splits(self) -> dict[str, str]:
        """By condition of the suite."""
        return {name: split for name, split, *_ in self._evaluated}

    @property
    def attacked(self) -> bool:
        """Images are attacked while it is evaluated."""
        return any(attack is not None for _, _, attack, *_ in self._evaluated)

    @property
    def _evaluated(self) -> list[list[Any]]:
        """Of every condition of the suite: name, split, attack, threat, settings."""
        return cast(list[list[Any]], self.measured["conditions"])


@dataclass(frozen=True, eq=False)
class Entry:
    """One (source, model, method, suite, seed) with its outcomes."""

    source: str
    model: str
    method: str
    suite: str
    seed: int
    score: float
    definition: Definition
    images: Images
    right_CN: np.ndarray  # (C, n) bool
    model_facts: ModelFacts
    run_facts: RunFacts
    noise: Noise = field(default_factory=Noise)
    predictions_CN: np.ndarray | None = None  # class indices; a baseline does not hold them

    @property
    def key(self) -> str:
        """For people: "ns x imagenet_c", with the seed where it is not 0."""
        return f"{self.method} x {seeded(self.suite, self.seed)}"

    @cached_property
    def values(self) -> np.ndarray:
        """(n,) what each image adds: the mean is the score."""
        counted_CN = self.right_CN if self.definition.rewards else ~self.right_CN
        values_N: np.ndarray = np.asarray(self.definition.weights) @ counted_CN
        return values_N

    def worse(self, after: Entry) -> np.ndarray:
        """(n,) by how much each image's part of the score got worse, in its unit; negative: better."""
        change_N = after.values - self.values
        worse_N: np.ndarray = change_N if self.definition.lower_is_better else -change_N
        return worse_N

    @property
    def losses(self) -> np.ndarray:
        """(n,) by how much each image's part gets worse if it is lost in all conditions at once.

        Where weights differ in sign, in those that make up the larger part: won in all of them if that is worse.
        """
        sign = 1 if self.definition.rewards != self.definition.lower_is_better else -1
        cost_C = sign * np.asarray(self.definition.weights)  # what it costs that a right outcome becomes wrong
        if cost_C.sum() >= 0:
            losses_N: np.ndarray = np.maximum(cost_C, 0) @ self.right_CN
        else:
            losses_N = np.maximum(-cost_C, 0) @ ~self.right_CN
        return losses_N

    @classmethod
    def of(cls, result: Result) -> Entry:
        """A stored result with its outcomes. Raises ResultError where its score is no sum over its images."""
        made_of = result.score.made_of
        if made_of is None:
            raise ResultError(
                f"{result.path}: its suite does not say what its score is made of, so it cannot be compared image by "
                "image"
            )
        shared = _on_scored_images(result, made_of)
        first = next(iter(shared.values()))
        entry = cls(
            result.source,
            result.model,
            result.method,
            result.suite,
            result.seed,
            result.score.value,
            _definition(result, made_of, tuple(shared)),
            Images(first.ids, first.labels),
            np.array([outcome.correct for outcome in shared.values()]),
            ModelFacts.of(result.provenance),
            RunFacts.of(result.provenance),
            predictions_CN=np.array([outcome.predictions for outcome in shared.values()]),
        )
        if abs(float(entry.values.mean()) - entry.score) > TOLERANCE:
            raise ResultError(
                f"{result.path}: says {entry.score:.4f}, and the outcomes that its score is made of give "
                f"{float(entry.values.mean()):.4f}"
            )
        return entry


def _definition(result: Result, made_of: Composition, conditions: tuple[str, ...]) -> Definition:
    return Definition(
        result.title,
        result.unit,
        result.lower_is_better,
        comparable(result),
        tuple(float(made_of.weights.get(name, 0.0)) for name in conditions),
        made_of.counts == "right",
        conditions,
    )


def _on_scored_images(result: Result, made_of: Composition) -> dict[str, Outcomes]:
    """Conditions on the images that the score counts, in the stored order, each sorted by id. Raises ResultError."""
    outcomes = {name: _by_id(one) for name, one in read_outcomes(result).items()}
    counted = [name for name, weight in made_of.weights.items() if weight]
    if not counted or not set(counted) <= set(outcomes):
        raise ResultError(f"{result.path}: its score counts conditions that it does not hold")
    ids = outcomes[counted[0]].ids
    shared = {name: one for name, one in outcomes.items() if np.array_equal(one.ids, ids)}
    if not set(counted) <= set(shared):
        raise ResultError(f"{result.path}: its score counts conditions on different images")
    return shared


def comparable(result: Result) -> dict[str, object]:
    """`comparability.measured` as JSON gives it back."""
    plain: dict[str, object] = json.loads(json.dumps(measured(result), default=str))
    return plain


def reason_apart(after: Entry, before: Entry) -> str:
    """Why two entries cannot be compared: other data, another definition of the suite, other images; named."""
    images = after.images.reason_apart(before.images)
    new, old = after.definition, before.definition
    if new.measured != old.measured:
        for what, value in old.measured.items():
            theirs = new.measured.get(what)
            if theirs != value and what != "images":
                return f"{what}: {_difference(theirs, value)}" + (f"; {images}" if images else "")
        return images or "other data: the pictures, ids or labels changed though their names did not"
    if images:
        return images
    alike = (new.conditions, new.rewards) == (old.conditions, old.rewards)
    if not alike or not np.allclose(new.weights, old.weights, rtol=1e-9, atol=0):
        return "the score is made of its outcomes in another way than in the baseline"
    return ""


def _difference(new: object, old: object) -> str:
    """The first place where two plain values differ."""
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return next(_difference(a, b) for a, b in zip(new, old, strict=True) if a != b)
    if isinstance(new, list) and isinstance(old, list):
        return f"{len(new)} instead of {len(old)}"
    return f"{new} instead of {old}"


def flipped_images(before: Entry, after: Entry) -> np.ndarray:
    """Ids of images with another outcome in any condition."""
    ids: np.ndarray = before.images.ids[(before.right_CN != after.right_CN).any(axis=0)]
    return ids


def averaged(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(U,) what each image adds to the average of several means, from (ids, what they add to theirs) of each: its mean
    over the U images that are in any of them is the average."""
    ids = np.concatenate([ids for ids, _ in parts])
    added = np.concatenate([values / len(values) for _, values in parts])
    names, places = np.unique(ids, return_inverse=True)
    total_U: np.ndarray = np.bincount(places, weights=added, minlength=len(names)) * (len(names) / len(parts))
    return total_U


def most_of_an_image(entries: Sequence[Entry]) -> int:
    """How many of these entries hold the same image, at most; at least 1."""
    counts = Counter(image for entry in entries for image in entry.images.ids.tolist())
    return max(counts.values(), default=1)


def seeded(suite: str, seed: int) -> str:
    """For people: a suite, with the seed where it is not 0."""
    return suite + (f" (seed {seed})" if seed else "")


def _by_id(outcomes: Outcomes) -> Outcomes:
    order = np.argsort(outcomes.ids)
    return Outcomes(outcomes.ids[order], outcomes.labels[order], outcomes.predictions[order])


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} (such as {names[0]})"
