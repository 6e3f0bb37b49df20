"""What two results must share to be compared, and what makes them rows of their own."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nsbench.results.store import Result

CONTROL = "finetune"  # the matched control: the same recipe, steps and data, and nothing of a method's own


def image_set(result: Result) -> str:
    """ "all images", or the limit that the run was given."""
    limit = result.provenance.get("limit")
    return f"limit {limit}" if limit else "all images"


def preprocessing(result: Result) -> str:
    """What the checkpoint does to a picture, in words; "" where the result does not say."""
    return str(result.provenance.get("preprocessing") or "")


def measured(result: Result) -> dict[str, Any]:
    """What must agree for two figures of a suite to be comparable, by the words that name a disagreement.

    Raises KeyError, IndexError or TypeError for a result that does not say what it measured.
    """
    conditions = result.conditions
    return {
        "suite version": result.suite_version,
        "images per condition": _common([condition["n"] for condition in conditions]),
        "origin of the images": _common([condition["origin"] for condition in conditions]),
        "preprocessing": [result.provenance.get("preprocessing"), *(c["preprocess"] for c in conditions)],
        "conditions": [
            [c["name"], c["split"], c["attack"], c["threat"], sorted(c["params"].items())] for c in conditions
        ],
        "images": [condition["data_digest"] for condition in conditions],
    }


def _common(values: list) -> Any:
    return values[0] if len(set(values)) <= 1 else values


@dataclass(frozen=True)
class Measured:
    """What a result measured, worked out once."""

    what: Mapping[str, Any]

    @classmethod
    def of(cls, result: Result) -> Measured:
        return cls(measured(result))

    @cached_property
    def fingerprint(self) -> str:
        """Equal where two figures of a suite may be compared."""
        return json.dumps(self.what, sort_keys=True, default=str)

    def reason_apart(self, reference: Measured) -> str:
        """In what this differs from its column; "" where it may be compared."""
        if self.what == reference.what:
            return ""
        for what, value in self.what.items():
            theirs = reference.what[what]
            if value != theirs:
                if isinstance(value, (int, str)) and isinstance(theirs, (int, str)):
                    return f"{what}: {value} instead of {theirs}"
                return f"other {what} than the rest of the column"
        return ""


def fingerprint(result: Result) -> str:
    """Equal where two figures of a suite may be compared."""
    return Measured.of(result).fingerprint


def reason_apart(result: Result, reference: Result) -> str:
    """In what a result differs from `reference`; "" where they may be compared."""
    return Measured.of(result).reason_apart(Measured.of(reference))


def recipe_key(result: Result) -> str:
    """The recipe without its seed, "" where nothing was trained; equal for rows trained alike."""
    recipe = {key: value for key, value in (result.provenance.get("recipe") or {}).items() if key != "seed"}
    return json.dumps(recipe, sort_keys=True, default=str) if recipe else ""


def row_key(result: Result) -> Hashable:
    """What makes a row of its own; the seed does not, and neither does the recipe's."""
    provenance = result.provenance
    return (
        result.model,
        result.method,
        provenance.get("normalisation"),
        recipe_key(result),
        provenance.get("parent_digest"),
        provenance.get("method_version"),
    )


def recipe_names(results: Iterable[Result]) -> list[str]:
    """The recipes by which anything here was trained."""
    return sorted({str((r.provenance.get("recipe") or {}).get("name")) for r in results if r.provenance.get("recipe")})


def qualifiers(result: Result, rivals: Sequence[Result], several_recipes: bool) -> tuple[str, ...]:
    """The recipe where the table has several; whatever else tells this row from `rivals`, rows of the same method."""
    own = result.provenance

    def differs(key: str) -> bool:
        return len({json.dumps(r.provenance.get(key), sort_keys=True, default=str) for r in rivals}) > 1

    words = []
    recipe = own.get("recipe") or {}
    if recipe and several_recipes:
        words.append(f"recipe {recipe.get('name', '?')}")
    if own.get("normalisation") not in (None, "own"):
        words.append(f"{own['normalisation']} normalisation")
    if differs("parent_digest"):
        words.append(f"checkpoint {str(own.get('parent_digest'))[:8]}")
    if differs("method_version"):
        words.append(f"version {own.get('method_version')}")
    namesakes = [r.provenance.get("recipe") or {} for r in rivals]
    changed = sorted(
        {
            key
            for other in namesakes
            if other.get("name") == recipe.get("name")
            for key in recipe
            if key != "seed" and other.get(key) != recipe[key]
        }
    )
    return (*words, *(f"{key} {recipe[key]}" for key in changed))
