"""AutoAttack by both sides on the same images: which stay right, after which part how many, and at what cost."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from statistics import mean
from typing import Any
from unittest import mock

import torch
from pyautoattack_alone import standard_version
from torch import Tensor

from nsbench.attacks.common import l2_norm, misclassified
from nsbench.models import Model, frozen
from nsbench.randomness import global_generators_kept
from nsbench.types import ThreatModel

BATCH = 250  # pyautoattack's own default
PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")


@dataclass(frozen=True)
class Run:
    """One run of one side with one seed."""

    right: Tensor  # (B,) bool
    after: tuple[float, ...]  # % of the images that are right after each part; it ends where none is left
    forwards: int  # images sent through the model
    cpu: float  # seconds of the process
    wall: float

    @property
    def accuracy(self) -> float:
        return 100 * float(self.right.float().mean())


def run_ours(model: Model, images: Tensor, labels: Tensor, ids: Sequence[str], seed: int, threat: ThreatModel) -> Run:
    module, left = import_module("nsbench.attacks.autoattack"), []

    def noted(part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            found, broken_B = part(*arguments)
            left.append(100 * int((~broken_B).sum()) / len(labels))
            return found, broken_B

        return run

    wrapped = {name: noted(getattr(module, name)) for name in ("climb", "approach", "search")}
    with mock.patch.multiple(module, **wrapped):
        return _run(
            model,
            images,
            labels,
            threat,
            left,
            lambda: module.autoattack(model, images, labels, ids=ids, seed=seed, threat=threat, batch_size=BATCH),
        )


def run_theirs(model: Model, images: Tensor, labels: Tensor, seed: int, threat: ThreatModel) -> Run:
    """pyautoattack's standard version as its users call it: its own batches, one seed for all images."""
    standard = standard_version(model, threat.norm, float(threat.eps or 0), seed, model.num_classes, images.device)
    left: list[float] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if said := re.match(r"robust accuracy after .*: ([\d.]+)% ", record.getMessage()):
                left.append(float(said[1]))

    standard.logger.addHandler(Kept())
    with global_generators_kept():
        return _run(
            model,
            images,
            labels,
            threat,
            left,
            lambda: standard.run_standard_evaluation(images, labels, batch_size=BATCH)[0],
        )


def _run(
    model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, left: list[float], attack: Callable[[], Tensor]
) -> Run:
    """What comes back is judged anew, by the budget and by the model."""
    with frozen(model), forwards(model) as seen:
        cpu, wall = time.process_time(), time.perf_counter()
        found = attack()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    change = found - images
    length = l2_norm(change) if threat.norm == "l2" else change.flatten(1).abs().amax(dim=1)
    assert length.max() <= float(threat.eps or 0) * 1.0001
    assert found.min() >= 0
    assert found.max() <= 1
    with torch.no_grad():
        right_B = ~misclassified(model(found), labels)
    return Run(right_B, tuple(left), sum(seen), cpu, wall)


@contextmanager
def forwards(model: Model) -> Iterator[list[int]]:
    """Collects the number of images of every forward pass."""
    seen: list[int] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    try:
        yield seen
    finally:
        hook.remove()


def spread(runs: Sequence[Run]) -> float:
    """Percentage points between the seeds that leave most and fewest images right."""
    return max(run.accuracy for run in runs) - min(run.accuracy for run in runs)


def reached(ours: Sequence[Run], theirs: Sequence[Run]) -> bool:
    """Ours leaves, on average over the seeds, no more images right than pyautoattack and its own spread over seeds."""
    return mean(run.accuracy for run in ours) <= mean(run.accuracy for run in theirs) + spread(theirs) + 1e-9


def undecided(runs: Sequence[Run]) -> int:
    """Images that some seeds break and others do not."""
    right = torch.stack([run.right for run in runs])
    return int((right.any(dim=0) & ~right.all(dim=0)).sum())
