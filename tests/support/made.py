"""Made-up results: the one definition that all tests build theirs from. Every field has a plain default."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from nsbench.results import ConditionResult, Provenance, RecipeUsed, Result, write_result
from nsbench.types import Outcomes, Score, Setting

IDENTITY = "c" * 16


def digest(text: str) -> str:
    """16 hex digits, such as an identity has."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe(name: str = "quick", seed: int = 0, **settings: Setting) -> RecipeUsed:
    return RecipeUsed(name, seed, settings)


def provenance(**changes: object) -> Provenance:
    plain: dict[str, object] = {
        "nsbench": "0.1.0",
        "versions": {"torch": "2.15"},
        "commit": None,
        "device": "CPU",
        "date": "2026-01-01T00:00:00+00:00",
        "command": "nsbench run",
        "weights_digest": "b" * 16,
        "parent_digest": "a" * 16,
        "fit_key": "e" * 16,
        "data_digest": "d" * 16,
        "limit": None,
        "preprocessing": "resize 48 bicubic, crop 48",
        "normalisation": "own",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "batch_size": 64,
        "method_version": 1,
        "recipe": None,
        "seconds": 2.0,
        "fit_seconds": 10.0,
        "peak_memory_mib": 800,
    }
    return Provenance(**(plain | changes))  # type: ignore[arg-type]


def condition(name: str = "clean", outcomes: Outcomes | None = None, **changes: object) -> ConditionResult:
    """A condition of these outcomes, or of 100 images of which 50 are right."""
    plain: dict[str, object] = {
        "name": name,
        "split": "clean",
        "attack": None,
        "params": {},
        "threat": None,
        "preprocess": "checkpoint",
        "n": len(outcomes) if outcomes else 100,
        "origin": "embedded",
        "data_digest": "0" * 16,
        "accuracy": round(100 * float(outcomes.correct.mean()), 4) if outcomes else 50.0,
    }
    return ConditionResult(**(plain | changes))  # type: ignore[arg-type]


def result(**changes: object) -> Result:
    """A result that has not been stored. Fields of the provenance may be given like those of the result."""
    own = {field.name for field in fields(Provenance)}
    given = {key: changes.pop(key) for key in list(changes) if key in own}
    plain: dict[str, object] = {
        "source": "shapes10",
        "model": "vit_shapes10",
        "method": "ns",
        "suite": "clean",
        "seed": 0,
        "score": Score(50.0, 40.0, 60.0, 100),
        "unit": "%",
        "lower_is_better": False,
        "title": str(changes.get("suite", "clean")),
        "group": "clean",
        "order": 1,
        "paper": True,
        "suite_version": 1,
        "summary": "",
        "citation": "",
        "method_title": str(changes.get("method", "ns")),
        "method_summary": "",
        "method_order": 1,
        "method_role": ROLES.get(str(changes.get("method", "ns")), ""),
        "conditions": (condition(),),
        "identity": IDENTITY,
    }
    if "provenance" not in changes:
        plain["provenance"] = provenance(**given)
    return Result(**(plain | changes))  # type: ignore[arg-type]


ROLES = {"finetune": "control", "pretrained": "untouched", "ns": "subject"}


def stored(folder: Path, outcomes: Mapping[str, Outcomes], **changes: object) -> Result:
    """A result written to `folder` with its outcomes, whose conditions, unless they are given, are these."""
    if "conditions" not in changes:
        changes["conditions"] = tuple(condition(name, one) for name, one in outcomes.items())
    return write_result(folder, result(**changes), outcomes)
