"""Finetuning: one loop and named recipes, the same for every method of a comparison. Recipes need no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsbench.training.adversaries import adversarial, divergence
    from nsbench.training.discretiser import Discretiser
    from nsbench.training.loop import finetune
    from nsbench.training.recipe import Recipe, known_recipes, load_recipe
    from nsbench.training.relevance import Foreground
    from nsbench.training.state import Trained

_LAZY = {
    "Discretiser": "discretiser",
    "Foreground": "relevance",
    "Recipe": "recipe",
    "Trained": "state",
    "adversarial": "adversaries",
    "divergence": "adversaries",
    "finetune": "loop",
    "known_recipes": "recipe",
    "load_recipe": "recipe",
}

__all__ = [
    "Discretiser",
    "Foreground",
    "Recipe",
    "Trained",
    "adversarial",
    "divergence",
    "finetune",
    "known_recipes",
    "load_recipe",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"nsbench.training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'nsbench.training' has no attribute '{name}'")
