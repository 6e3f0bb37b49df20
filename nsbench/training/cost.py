"""What training costs, in forward passes of one image: the same unit on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nsbench import processes
from nsbench.models import Model
from nsbench.training.shares import present, rounded
from nsbench.training.trainable import Work

_counting: ContextVar[TrainingCost | None] = ContextVar("counting", default=None)


def besides(forwards: float) -> None:
    """Count work that is no pass of the model, in its forward passes of one image; less than none takes some back."""
    if cost := _counting.get():
        cost.forwards += rounded(forwards, present())


@dataclass
class TrainingCost:
    """Counts of images. A backward pass costs as much as a forward one for the inputs, and again for the weights.

    Where a part of the weights is trained, it is counted as far as it goes (`Work` in training/trainable.py).
    """

    forwards: int = 0
    backwards: int = 0  # gradients of activations
    weight_gradients: int = 0

    @property
    def forward_equivalents(self) -> int:
        return self.forwards + self.backwards + self.weight_gradients

    @contextmanager
    def of_all_processes(self) -> Iterator[None]:
        """What is counted inside is afterwards what all processes counted; nothing where it fails and is done again."""
        before = (self.forwards, self.backwards, self.weight_gradients)
        try:
            yield
            after = (self.forwards, self.backwards, self.weight_gradients)
            added = processes.totals([b - a for a, b in zip(before, after, strict=True)])
        except Exception:
            self.forwards, self.backwards, self.weight_gradients = before
            raise
        self.forwards, self.backwards, self.weight_gradients = (a + b for a, b in zip(before, added, strict=True))

    @contextmanager
    def counted(self, model: Model) -> Iterator[None]:
        """Count every image that goes through `model` to its end, and the gradients that come back."""
        work = Work.of(model)

        def passed(module: nn.Module, inputs: Any, logits_BK: torch.Tensor) -> None:
            images, trains = len(logits_BK), any(p.requires_grad for p in model.parameters())
            self.forwards += images
            piece = present()  # asked here: a GPU's gradients come back in another thread

            def back(gradient: torch.Tensor) -> None:
                self.backwards += (
                    rounded(images * work.activations, piece) if trains else images
                )  # to the images themselves
                self.weight_gradients += rounded(images * work.weights, piece) if trains else 0

            if logits_BK.requires_grad:
                logits_BK.register_hook(back)

        hook, counting = _end(model).register_forward_hook(passed), _counting.set(self)
        try:
            yield
        finally:
            hook.remove()
            _counting.reset(counting)


def _end(model: Model) -> nn.Module:
    """The module that every pass calls once, last: the classifier, since tokens may enter in the middle."""
    if model.patch_embed is None:
        network: nn.Module = model.vit
        return network
    classifier = model.vit.get_classifier()
    last: nn.Module = classifier[0] if isinstance(classifier, tuple) else classifier
    return last
