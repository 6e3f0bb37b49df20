"""Finetuning: one loop and named recipes, the same for every method of a comparison. Recipes need no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsbench.training.adversaries import Adversary, adversarial, divergence
    from nsbench.training.averaging import interpolation
    from nsbench.training.loop import finetune
    from nsbench.training.recipe import Recipe, known_recipes, load_recipe
    from nsbench.training.state import Trained
    from nsbench.training.trainable import Probe

_LAZY = {
    "Adversary": "adversaries",
    "Probe": "trainable",
    "Recipe": "recipe",
    "Trained": "state",
    "adversarial": "adversaries",
    "divergence": "adversaries",
    "finetune": "loop",
    "interpolation": "averaging",
    "known_recipes": "recipe",
    "load_recipe": "recipe",
}

__all__ = [
    "Adversary",
    "Probe",
    "Recipe",
    "Trained",
    "adversarial",
    "divergence",
    "finetune",
    "interpolation",
    "known_recipes",
    "load_recipe",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"nsbench.training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'nsbench.training' has no attribute '{name}'")
