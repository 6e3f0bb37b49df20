"""What the work of a run takes at most, in passes through the model, before any of it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
from nsbench import registry
from nsbench.data import Split
from nsbench.models.subset import over_classes
from nsbench.run.class_maps import for_classes
from nsbench.run.job import Job
from nsbench.run.known import UNKNOWN, Memory
from nsbench.training.trainable import work_of
from nsbench.types import FitPasses, Method, Passes, Suite

if TYPE_CHECKING:
    from nsbench.models import Model
    from nsbench.training import Recipe

NONE = Passes()
JUDGED = Passes(2)  # of each image that an attack gives back: as it is, and in 8 bits


@dataclass(frozen=True)
class PairCost:
    """What an evaluation takes at most."""

    images: int  # of all conditions
    passes: Passes  # at most, those that judge among them
    unknown: tuple[str, ...] = ()  # attacks that do not declare theirs


@dataclass(frozen=True)
class Work:
    """Passes of one image: of evaluations, attacks and noise, and of training steps, which are counted in forward ones."""

    passes: Passes = NONE
    training: float = 0.0  # a backward pass counts as one for the activations and another one for the weights

    def __add__(self, other: Work) -> Work:
        return Work(self.passes + other.passes, self.training + other.training)

    @property
    def forward_equivalents(self) -> float:
        """In the unit of training/cost.py."""
        return self.passes.forwards + self.passes.backwards + self.training


@dataclass(frozen=True)
class FitCost:
    """What a training takes: not known exactly where it learns a noise."""

    steps: int
    batch_size: int
    least: Work
    most: Work


def pair_cost(model: Model, suite: Suite, splits: Sequence[Split], memory: Memory) -> PairCost:
    """`memory` is that of this model: what is in it needs no pass any more, and what this pair looks at is noted there.

    Raises an nsbench error where an attack cannot work on the model.
    """
    passes, unknown = Passes(), dict[str, None]()
    for condition, split in zip(suite.conditions(), splits, strict=True):
        known, positions = memory.of(split, condition.preprocess)
        new = positions[known.columns["predictions"][positions] == UNKNOWN]
        known.put(new, {"predictions": np.zeros(len(new), dtype=np.int64)})
        passes += Passes(len(new))
        if condition.attack:
            own = for_classes(model, split.set_classes) if split.set_classes else over_classes(model, split.classes)
            each = registry.attacks[condition.attack].most_passes(own, condition.params, condition.threat)
            if each is None:
                unknown[condition.attack] = None
            passes += ((each or Passes()) + JUDGED) * len(split)
    return PairCost(sum(map(len, splits)), passes, tuple(unknown))


def fit_cost(job: Job, method: Method, chained: bool = False) -> FitCost | None:
    """Of a method that is no chain, `chained` behind another one; None where it does not declare what it does.

    Raises an nsbench error where the method lacks what it needs.
    """
    train = job.source.split("train", job.progress)
    declared = method.passes_of(job.parent, train, job.recipe, chained)
    if declared is None:
        return None
    step = _of_a_step(job.parent, declared, job.recipe)
    least, most = (_whole(step, one, job.recipe) for one in (declared.round_least, declared.round_most))
    if budget := job.recipe.compute:  # it ends with the step that reaches the budget
        least = Work(training=budget)
        most = least + step + Work(declared.round_most)
    return FitCost(job.recipe.steps, job.recipe.batch_size, least, most)


def equal_compute(job: Job, method: Method, subject: Method, chained: bool = False) -> FitCost | None:
    """As `fit_cost`, with the cost of the subject of the comparison as the budget."""
    costs = [fit_cost(job, part, number > 0) for number, part in enumerate(subject.parts or (subject,))]
    if not costs or None in costs:
        return None
    ends = []
    for end in ("least", "most"):
        budget = sum(getattr(one, end).forward_equivalents for one in costs)
        recipe = job.recipe.model_copy(update={"compute": budget})
        ends.append(fit_cost(replace(job, recipe=recipe), method, chained))
    return replace(ends[0], most=ends[1].most) if ends[0] and ends[1] else None


def _of_a_step(model: Model, declared: FitPasses, recipe: Recipe) -> Work:
    """Of all images of its batch; the mean over the steps, where the head is trained alone in some of them."""
    each = _step_equivalents(model, recipe.trainable)
    if declared.head_alone:
        each += declared.head_alone * (_step_equivalents(model, "head") - each)
    apart = Passes(declared.forwards - declared.trained, declared.backwards)
    return Work(apart * recipe.batch_size, declared.trained * each * recipe.batch_size)


def _step_equivalents(model: Model, trainable: str) -> float:
    """Of one image that goes forward, and back to the weights."""
    work = work_of(model, trainable)
    return 1 + work.activations + work.weights


def _whole(step: Work, noise: Passes, recipe: Recipe) -> Work:
    return Work(step.passes * recipe.steps + noise * recipe.rounds, step.training * recipe.steps)
