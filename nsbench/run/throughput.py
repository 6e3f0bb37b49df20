"""How fast a model is on the device: a few seconds of passes, so that a plan can say hours."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from statistics import median

import torch
from torch.nn.functional import cross_entropy

from nsbench.models import Model, frozen
from nsbench.models.memory import let_go, out_of_memory, too_large
from nsbench.provenance import device_name
from nsbench.run.cost import Work
from nsbench.run.job import Job
from nsbench.training.optimisation import autocast, optimiser_of
from nsbench.training.recipe import Recipe

SECONDS = 2.5  # of each of the three measurements, at most
FIRST = 2  # images of the first batch, which says how many fit into the time
FORWARDS = 3  # forward passes that a training step of one image counts as


@dataclass(frozen=True)
class Throughput:
    """Seconds of one image. None: not measured, since nothing needs it or the model has no gradient."""

    device: str
    forward: float
    backward: float | None = None  # to the image, beside the forward pass
    training: float | None = None  # forward, back to all weights, and the step of the optimiser

    def seconds(self, work: Work) -> float | None:
        """None where a part of the work was not measured."""
        found = work.passes.forwards * self.forward
        if work.passes.backwards:
            if self.backward is None:
                return None
            found += work.passes.backwards * self.backward
        if work.training:
            if self.training is None:
                return None
            found += work.training * self.training / FORWARDS
        return found


def measure(job: Job, backwards: bool, training: bool) -> Throughput:
    """In the job's batch size and its recipe's precision, on random images; at most some ten seconds.

    Raises ModelError where not even one image fits into memory.
    """
    model, both = job.parent, None
    with frozen(model):
        forward = _seconds_each(lambda n: _forward(model, n), job.batch_size, model)
        if backwards and _backward(model, 1):
            both = _seconds_each(lambda n: _backward(model, n), job.batch_size, model)
    return Throughput(
        device_name(job.device),
        forward,
        None if both is None else max(both - forward, 0.0),
        _training_seconds(model, job.recipe) if training else None,
    )


def _images(model: Model, n: int) -> torch.Tensor:
    return torch.rand(n, 3, model.input_size, model.input_size, device=model.device)


def _labels(model: Model, n: int) -> torch.Tensor:
    return torch.arange(n, device=model.device) % model.num_classes


def _forward(model: Model, n: int) -> None:
    with torch.inference_mode():
        model(_images(model, n))


def _backward(model: Model, n: int) -> bool:
    """False where no gradient comes back."""
    with torch.enable_grad():
        images_BCHW = _images(model, n).requires_grad_()
        loss = cross_entropy(model(images_BCHW), _labels(model, n), reduction="sum")
        if not loss.requires_grad:
            return False
        torch.autograd.grad(loss, images_BCHW)
    return True


def _training_seconds(model: Model, recipe: Recipe) -> float:
    """Of steps of a copy, all of whose weights are trained."""
    copy = deepcopy(model).requires_grad_(True).train()
    optimiser = optimiser_of(copy, recipe)

    def step(n: int) -> None:
        optimiser.zero_grad()
        with autocast(copy, recipe):
            loss = cross_entropy(copy(_images(copy, n)), _labels(copy, n))
        loss.backward()
        optimiser.step()

    return _seconds_each(step, min(recipe.micro_batch or recipe.batch_size, recipe.batch_size), copy)


def _seconds_each(step: Callable[[int], object], batch_size: int, model: Model) -> float:
    """Seconds of an image in batches of `batch_size`, or of as many images as memory and time allow: the median."""
    end, n = time.perf_counter() + SECONDS, min(FIRST, batch_size)
    try:
        step(n)  # which also loads what a first pass loads
        n = min(batch_size, max(n, int(SECONDS / 4 / _timed(step, n, model))))
        step(n)
        times = [_timed(step, n, model)]
        while time.perf_counter() + n * times[-1] < end:
            times.append(_timed(step, n, model))
        return median(times)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if n == 1:
            raise too_large(error) from error
    let_go()  # here, where the failed step's tensors are let go
    return _seconds_each(step, n // 2, model)


def _timed(step: Callable[[int], object], n: int, model: Model) -> float:
    """Seconds of an image in one batch."""
    start = time.perf_counter()
    step(n)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return (time.perf_counter() - start) / n
