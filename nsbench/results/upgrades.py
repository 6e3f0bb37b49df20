"""Result files of earlier schemas, brought to the present one step by step.

A step takes the parsed JSON of schema k and gives that of schema k + 1. What an old file flattened to text is read back
here and nowhere else; the names of suites, methods and splits that stand here are those that the old versions knew.
A file that a step cannot read raises KeyError, TypeError or ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from nsbench.statistics import MCE_WEIGHTS

Json = dict[str, Any]
ROLES_BEFORE_2 = {"finetune": "control", "pretrained": "untouched", "ns": "subject"}
DAMAGENET_BUDGET = {"norm": "linf", "eps": 25.5 / 255, "patches": 0}
ROUND_FIELDS = ("round", "step", "lr", "forward_equivalents", "noise_seconds", "seconds", "micro_batch", "stage")
CLOSE = 1e-3  # percentage points: schema 1 kept accuracies with four decimals


def upgrade(record: Json) -> Json:
    """The record in the present schema. Raises KeyError, TypeError or ValueError for what is no old result."""
    while record["schema"] in UPGRADES:
        record = UPGRADES[record["schema"]](record)
    return record


def _from_1(record: Json) -> Json:
    """Scores say what they are made of; threats, attack cards and rounds are records; methods have roles."""
    score = dict(record["score"])
    conditions = [_condition(one) for one in record["conditions"]]
    upgraded = {key: value for key, value in record.items() if key not in ("score", "conditions", "provenance")}
    unit, lower_is_better = score.pop("unit"), score.pop("lower_is_better")
    score["made_of"] = made_of(score["value"], unit, conditions)
    return upgraded | {
        "schema": 2,
        "score": score,
        "unit": unit,
        "lower_is_better": lower_is_better,
        "method_role": ROLES_BEFORE_2.get(record["method"], ""),
        "conditions": conditions,
        "provenance": _provenance(record["provenance"]),
        "outcomes_format": "npz",
    }


def made_of(value: float, unit: str, conditions: list[Json]) -> Json | None:
    """What a score of schema 1 was made of: the formulas of its time, proved by the conditions' own accuracies."""
    accuracy = {one["name"]: float(one["accuracy"]) for one in conditions}
    if not accuracy:
        raise ValueError("it has no conditions")
    corrupted = [name for name in accuracy if name != "clean"]
    candidates: list[tuple[dict[str, float], str]] = [({next(iter(accuracy)): 100.0}, "right")]
    if unit == "mCE" and all(name in accuracy for name in MCE_WEIGHTS):
        candidates = [(dict(MCE_WEIGHTS), "wrong")]
    elif len(corrupted) > 1:
        candidates.append((dict.fromkeys(corrupted, 100 / len(corrupted)), "wrong"))
        candidates.append((dict.fromkeys(accuracy, 100 / len(accuracy)), "right"))
    for weights, counts in candidates:
        shares = {name: accuracy[name] if counts == "right" else 100 - accuracy[name] for name in weights}
        if abs(sum(weight * shares[name] / 100 for name, weight in weights.items()) - value) <= CLOSE:
            return {"weights": weights, "counts": counts}
    return None


def threat_of(text: str | None) -> Json | None:
    """ "linf 4/255", "l2 0.5", "l2 unbounded", "2 patches" as a record."""
    if text is None:
        return None
    if match := re.fullmatch(r"(\d+) patch(es)?", text):
        return {"norm": "patch", "eps": None, "patches": int(match[1])}
    if match := re.fullmatch(r"(\w+) unbounded", text):
        return {"norm": match[1], "eps": None, "patches": 0}
    if match := re.fullmatch(r"(\w+) ([0-9.e+-]+)(/255)?", text):
        return {"norm": match[1], "eps": float(match[2]) / (255 if match[3] else 1), "patches": 0}
    raise ValueError(f"the threat '{text[:40]}' is none that schema 1 knows")


def _condition(old: Json) -> Json:
    new = {key: value for key, value in old.items() if key not in ("threat", "attack_card", "unreadable")}
    new |= {"threat": threat_of(old["threat"]), "unreadable": old.get("unreadable") or {}}
    if old.get("attack_card"):
        new["attack_card"] = _card(old["attack_card"])
    if old["split"] == "damagenet":
        new["beforehand"] = DAMAGENET_BUDGET
    elif str(old["split"]).startswith("transfer/"):
        new["beforehand"] = new["threat"]
        if match := re.search(r"\(weights ([0-9a-f]{16})\)", str(old["origin"])):
            new["surrogate_digest"] = match[1]
    return new


def _card(old: Json) -> Json:
    """The threat of an attack card is its condition's."""
    return {key: value for key, value in old.items() if key not in ("attack", "norm", "eps", "patches")}


def _provenance(old: Json) -> Json:
    new = {"parent_digest": "", "fit_key": "", "method_version": 1, "mean": [], "std": [], "batch_size": 0} | old
    new["recipe"] = recipe_of(old["recipe"])
    new["history"] = [round_of(entry) for entry in old.get("history") or []]
    new["commit"], new["device"] = old.get("commit"), old.get("device") or ""
    new["command"], new["versions"] = old.get("command") or "", old.get("versions") or {}
    new["outputs"] = old.get("outputs") or None
    return new


def recipe_of(old: Json | None) -> Json | None:
    """A recipe as schema 1 kept it: all its fields side by side."""
    if old is None:
        return None
    settings = {key: value for key, value in old.items() if key not in ("name", "seed")}
    return {"name": old["name"], "seed": old.get("seed", 0), "settings": settings}


def round_of(entry: Json) -> Json:
    """A round of a training as schema 1 kept it: all its figures side by side."""
    new: Json = {key: entry[key] for key in ROUND_FIELDS if entry.get(key) is not None}
    for key, value in entry.items():
        if key.startswith("loss_"):
            new.setdefault("losses", {})[key.removeprefix("loss_")] = value
        elif key.startswith("accuracy_"):
            new.setdefault("accuracies", {})[key.removeprefix("accuracy_")] = value
        elif key not in ROUND_FIELDS:
            new.setdefault("noise", {})[key.removeprefix("noise_")] = value
    return {"losses": {}} | new


def _from_2(record: Json) -> Json:
    """Conditions may say how many images were available, which no older one does."""
    return record | {"schema": 3}


def _from_3(record: Json) -> Json:
    """The outcomes name images by their files, as these lay in their container."""
    return record | {"schema": 4, "image_ids": "names"}


UPGRADES: dict[int, Callable[[Json], Json]] = {1: _from_1, 2: _from_2, 3: _from_3}
