"""Weights between those of two models."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model


def interpolation(alpha: float) -> Callable[[Model, Model], Model]:
    """between(start, fitted) -> a model with the weights (1 - alpha) * start + alpha * fitted.

    All entries of the state are averaged, running statistics among them; a counter, which is no float, is that of
    `fitted`. 0 and 1 give the two models' weights bit for bit. Raises UsageError for an alpha outside [0, 1] at once,
    and later ModelError for models that do not have the same weights.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha {alpha:g} is not between 0 (the model before the training) and 1 (the trained one)")

    def between(start: Model, fitted: Model) -> Model:
        first, second = start.timm_state_dict(), fitted.timm_state_dict()
        if _shapes(first) != _shapes(second):
            raise ModelError(
                f"models '{start.name}' and '{fitted.name}' differ in their weights; nothing is between them"
            )
        model = deepcopy(fitted)
        model.load_timm_state_dict({name: _between(first[name], value, alpha) for name, value in second.items()})
        return model.eval()

    return between


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _between(start: torch.Tensor, fitted: torch.Tensor, alpha: float) -> torch.Tensor:
    if alpha == 0:
        return start
    return torch.lerp(start, fitted, alpha) if alpha < 1 and fitted.is_floating_point() else fitted
