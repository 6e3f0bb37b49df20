"""nsbench: a robustness benchmark and leaderboard for vision transformers.

This is the public surface: a suite or method file imports `nsbench` and nothing else of the engine, and a script or a
notebook calls `nb.evaluate`, `nb.fit`, `nb.run`, `nb.leaderboard` and `nb.report` (see `nsbench.api`). Names that need
numpy or torch are loaded on first use, so that the command line starts quickly.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from nsbench.registry import attack, method, suite
from nsbench.types import Composition, Condition, FitPasses, Method, Outcomes, Passes, Score, Suite, ThreatModel

if TYPE_CHECKING:
    from nsbench.api import FittedMethod, evaluate, fit, leaderboard, open_source, read_results, report, run
    from nsbench.corruptions import CORRUPTIONS
    from nsbench.models import Preprocessing, load_model
    from nsbench.nullspace import learn_noise, scale_noise
    from nsbench.report.standings import Standings
    from nsbench.statistics import accuracy
    from nsbench.statistics.combined import weighted
    from nsbench.statistics.corruption_error import mean_corruption_error, partial_corruption_error
    from nsbench.training import (
        Adversary,
        Discretiser,
        Foreground,
        Probe,
        Recipe,
        Trained,
        Views,
        adversarial,
        divergence,
        finetune,
        interpolation,
        jensen_shannon,
        learnt_noise_passes,
        mixed_chains,
        negative_loss,
        negative_view,
        noisy_at,
        scaled_noise_passes,
        seen,
    )

__version__ = "0.1.0"

_LAZY = {  # name -> module that defines it
    "Adversary": "nsbench.training",
    "FittedMethod": "nsbench.api",
    "Standings": "nsbench.report.standings",
    "evaluate": "nsbench.api",
    "fit": "nsbench.api",
    "open_source": "nsbench.api",
    "read_results": "nsbench.api",
    "CORRUPTIONS": "nsbench.corruptions",
    "Discretiser": "nsbench.training",
    "Foreground": "nsbench.training",
    "Preprocessing": "nsbench.models",
    "Probe": "nsbench.training",
    "Recipe": "nsbench.training",
    "Trained": "nsbench.training",
    "Views": "nsbench.training",
    "accuracy": "nsbench.statistics",
    "adversarial": "nsbench.training",
    "divergence": "nsbench.training",
    "finetune": "nsbench.training",
    "interpolation": "nsbench.training",
    "jensen_shannon": "nsbench.training",
    "learn_noise": "nsbench.nullspace",
    "learnt_noise_passes": "nsbench.training",
    "load_model": "nsbench.models",
    "mean_corruption_error": "nsbench.statistics.corruption_error",
    "mixed_chains": "nsbench.training",
    "negative_loss": "nsbench.training",
    "negative_view": "nsbench.training",
    "noisy_at": "nsbench.training",
    "partial_corruption_error": "nsbench.statistics.corruption_error",
    "scale_noise": "nsbench.nullspace",
    "scaled_noise_passes": "nsbench.training",
    "seen": "nsbench.training",
    "weighted": "nsbench.statistics.combined",
}

_ROOMS = ("leaderboard", "report", "run")  # packages whose name is a verb of the command line as well

__all__ = [
    "CORRUPTIONS",
    "Adversary",
    "Composition",
    "Condition",
    "Discretiser",
    "FitPasses",
    "FittedMethod",
    "Foreground",
    "Method",
    "Outcomes",
    "Passes",
    "Preprocessing",
    "Probe",
    "Recipe",
    "Score",
    "Standings",
    "Suite",
    "ThreatModel",
    "Trained",
    "Views",
    "accuracy",
    "adversarial",
    "attack",
    "divergence",
    "evaluate",
    "finetune",
    "fit",
    "interpolation",
    "jensen_shannon",
    "leaderboard",
    "learn_noise",
    "learnt_noise_passes",
    "load_model",
    "mean_corruption_error",
    "method",
    "mixed_chains",
    "negative_loss",
    "negative_view",
    "noisy_at",
    "open_source",
    "partial_corruption_error",
    "read_results",
    "report",
    "run",
    "scale_noise",
    "scaled_noise_passes",
    "seen",
    "suite",
    "weighted",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return import_module(f"nsbench.{name}")
    raise AttributeError(f"module 'nsbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Room(ModuleType):
    """A package of the engine that can be called: nb.run(...) is nsbench.api.run(...)."""

    def __call__(self, *args: object, **options: object) -> object:
        return getattr(import_module("nsbench.api"), self.__name__.rpartition(".")[2])(*args, **options)


class _Surface(ModuleType):
    """This package, which makes rooms callable when they are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _ROOMS and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Surface
