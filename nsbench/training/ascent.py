"""The worst weights nearby: the ascent step of sharpness-aware minimisation (Foret et al. 2021, arXiv:2010.01412)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from nsbench.errors import UsageError

TINY = 1e-12  # keeps a gradient of zero from dividing by zero, as in the authors' code


def check_radius(radius: float | None) -> None:
    """Raises UsageError for a radius that is no length."""
    if radius is not None and not (math.isfinite(radius) and radius >= 0):
        raise UsageError(f"the radius of the ascent is {radius:g}, and must be 0 or more; 0.05 to 0.2 are usual")


@torch.no_grad()
def gradient_norm(model: nn.Module) -> torch.Tensor:
    """l2 norm of the gradient of all parameters as one vector: biases and norms are part of it."""
    norms = [torch.linalg.vector_norm(p.grad) for p in model.parameters() if p.grad is not None]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


@contextmanager
def ascended(model: nn.Module, radius: float) -> Iterator[None]:
    """Inside, the weights are w + radius * g / (|g| + 1e-12), where g is their gradient; afterwards w, bit for bit.

    Running statistics, as those of batch norm, are afterwards what they were before, too: the pass at the worst weights
    leaves no trace in them.
    """
    kept = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
    try:
        with torch.no_grad():
            step = radius / (gradient_norm(model) + TINY)
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.add_(parameter.grad * step)
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)
