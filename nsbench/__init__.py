"""nsbench: a robustness benchmark and leaderboard for vision transformers.

This is the public surface: a suite or method file imports `nsbench` and nothing else of the engine. Names that need
numpy or torch are loaded on first use, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nsbench.registry import attack, method, suite
from nsbench.types import Composition, Condition, Method, Outcomes, Score, Suite, ThreatModel

if TYPE_CHECKING:
    from nsbench.corruptions import CORRUPTIONS
    from nsbench.models import Preprocessing, load_model
    from nsbench.nullspace import learn_noise, scale_noise
    from nsbench.statistics import accuracy
    from nsbench.statistics.combined import weighted
    from nsbench.statistics.corruption_error import mean_corruption_error, partial_corruption_error
    from nsbench.training import Recipe, Trained, adversarial, divergence, finetune

__version__ = "0.1.0"

_LAZY = {  # name -> module that defines it
    "CORRUPTIONS": "nsbench.corruptions",
    "Preprocessing": "nsbench.models",
    "Recipe": "nsbench.training",
    "Trained": "nsbench.training",
    "accuracy": "nsbench.statistics",
    "adversarial": "nsbench.training",
    "divergence": "nsbench.training",
    "finetune": "nsbench.training",
    "learn_noise": "nsbench.nullspace",
    "load_model": "nsbench.models",
    "mean_corruption_error": "nsbench.statistics.corruption_error",
    "partial_corruption_error": "nsbench.statistics.corruption_error",
    "scale_noise": "nsbench.nullspace",
    "weighted": "nsbench.statistics.combined",
}

__all__ = [
    "CORRUPTIONS",
    "Composition",
    "Condition",
    "Method",
    "Outcomes",
    "Preprocessing",
    "Recipe",
    "Score",
    "Suite",
    "ThreatModel",
    "Trained",
    "accuracy",
    "adversarial",
    "attack",
    "divergence",
    "finetune",
    "learn_noise",
    "load_model",
    "mean_corruption_error",
    "method",
    "partial_corruption_error",
    "scale_noise",
    "suite",
    "weighted",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'nsbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
