"""nsbench: a robustness benchmark and leaderboard for vision transformers.

This is the authoring surface: a suite or method file imports `nsbench` and nothing else of the engine.
Names that need torch are loaded on first use, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nsbench.registry import attack, method, suite
from nsbench.types import Condition, Method, Outcomes, Score, Suite, ThreatModel

__version__ = "0.1.0"

_LAZY = {  # name -> module that defines it; everything here needs numpy or torch
    "accuracy": "nsbench.statistics",
    "mean_corruption_error": "nsbench.statistics.corruption_error",
    "partial_corruption_error": "nsbench.statistics.corruption_error",
    "CORRUPTIONS": "nsbench.corruptions",
    "finetune": "nsbench.training",
    "adversarial": "nsbench.training",
    "divergence": "nsbench.training",
    "Recipe": "nsbench.training",
    "learn_noise": "nsbench.nullspace",
    "scale_noise": "nsbench.nullspace",
    "load_model": "nsbench.models",
}

__all__ = ["Condition", "Method", "Outcomes", "Score", "Suite", "ThreatModel", "attack", "method", "suite", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'nsbench' has no attribute '{name}'")
