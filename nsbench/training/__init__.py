"""Finetuning: one loop and named recipes, the same for every method of a comparison. Recipes need no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsbench.training.adversaries import Adversary, adversarial, divergence
    from nsbench.training.averaging import interpolation
    from nsbench.training.chains import jensen_shannon, mixed_chains
    from nsbench.training.discretiser import Discretiser
    from nsbench.training.loop import finetune
    from nsbench.training.negative import negative_loss, negative_view, seen
    from nsbench.training.noise import learnt_noise_passes, noisy_at, scaled_noise_passes
    from nsbench.training.recipe import Recipe, known_recipes, load_recipe
    from nsbench.training.relevance import Foreground
    from nsbench.training.state import Trained
    from nsbench.training.trainable import Probe
    from nsbench.training.views import Views

_LAZY = {
    "Adversary": "adversaries",
    "Discretiser": "discretiser",
    "Foreground": "relevance",
    "Probe": "trainable",
    "Recipe": "recipe",
    "Trained": "state",
    "Views": "views",
    "adversarial": "adversaries",
    "divergence": "adversaries",
    "finetune": "loop",
    "interpolation": "averaging",
    "jensen_shannon": "chains",
    "known_recipes": "recipe",
    "learnt_noise_passes": "noise",
    "load_recipe": "recipe",
    "mixed_chains": "chains",
    "negative_loss": "negative",
    "negative_view": "negative",
    "noisy_at": "noise",
    "scaled_noise_passes": "noise",
    "seen": "negative",
}

__all__ = [
    "Adversary",
    "Discretiser",
    "Foreground",
    "Probe",
    "Recipe",
    "Trained",
    "Views",
    "adversarial",
    "divergence",
    "finetune",
    "interpolation",
    "jensen_shannon",
    "known_recipes",
    "learnt_noise_passes",
    "load_recipe",
    "mixed_chains",
    "negative_loss",
    "negative_view",
    "noisy_at",
    "scaled_noise_passes",
    "seen",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"nsbench.training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'nsbench.training' has no attribute '{name}'")
