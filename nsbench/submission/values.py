"""Outcomes of a submitted result, and values in them that cannot be."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nsbench.data import wnids
from nsbench.errors import ResultError
from nsbench.results import ConditionResult, Result
from nsbench.results.outcomes import unpack
from nsbench.shapes10 import make
from nsbench.submission.archive import Limits, printable, shown, unpacked_size
from nsbench.submission.attacked import attack_problems
from nsbench.types import PROBABILITY_STEP, Outcomes

CLASSES = {"shapes10": 10, "imagenet": 1000}  # of the sources that nsbench knows; no result states the number
PREDICTIONS = ("predictions_all", "predictions_uint8", "predictions_clean")
BEST = 5  # classes that are kept of each image
ACCURACY = 1e-3  # percentage points: accuracies of conditions are kept with four decimals


def outcomes_of(result: Result, content: bytes | None, limits: Limits) -> dict[str, Outcomes]:
    """Outcomes by condition, read without trust. Raises ResultError, with one line."""
    if content is None:
        raise ResultError(f"has no outcomes (.{result.outcomes_format}) beside it")
    if hashlib.sha256(content).hexdigest() != result.outcomes_sha256:
        raise ResultError("its outcomes file differs from the digest in its result")
    if result.outcomes_format == "npz":
        _check_size(content, limits)
    try:
        outcomes = unpack(content, result.outcomes_format, result.image_ids)
    except ValueError as error:
        raise ResultError(f"its file of outcomes {printable(str(error))}") from error
    if list(outcomes) != [condition.name for condition in result.conditions]:
        raise ResultError("its outcomes are of other conditions than it lists")
    if any(not image_id.isprintable() for one in outcomes.values() for image_id in one.ids.tolist()):
        raise ResultError("its image ids hold control characters")
    return outcomes


def _check_size(content: bytes, limits: Limits) -> None:
    """An .npz is a zip and may hold a thousand times its size; a table of outcomes bounds itself."""
    try:
        size = unpacked_size(content)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ResultError("its outcomes are no .npz file") from error
    if size > limits.unpacked:
        raise ResultError(f"its outcomes would unpack to {size:,} bytes; at most {limits.unpacked:,} are read")


def value_problems(result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
    """What cannot be, a line each."""
    problems = []
    for condition in result.conditions:
        mine, classes = outcomes[condition.name], _Classes.of(result.source, condition.split)
        problems += [
            f"condition {shown(condition.name)}: {line}"
            for line in (
                *_counts(condition, mine),
                *_outside(classes, condition.split, mine),
                *_over_all(classes, mine),
                *_probabilities(classes, mine, result.outcomes_format == "npz"),
                *attack_problems(result, condition, mine),
            )
        ]
    return problems[:20]


def _counts(condition: ConditionResult, mine: Outcomes) -> list[str]:
    problems = []
    if condition.n != len(mine):
        problems.append(f"says {condition.n:,} images and has {len(mine):,}")
    accuracy = 100 * float(mine.correct.mean())
    if abs(condition.accuracy - accuracy) > ACCURACY:
        problems.append(f"says accuracy {condition.accuracy:g} and its outcomes have {accuracy:.4f}")
    return problems


def _subset(source: str, split: str) -> tuple[int, ...] | None:
    if source == "imagenet":
        return wnids.subset(split)
    return make.CLASSES.get(split) if source == "shapes10" else None


@dataclass(frozen=True)
class _Classes:
    """What is known of a split's classes."""

    most: int  # labels and predictions are below
    subset: tuple[int, ...] | None  # those that it is scored over; None: all
    scored: int | None  # their number; None: not known

    @classmethod
    def of(cls, source: str, split: str) -> _Classes:
        subset = _subset(source, split)
        return cls(CLASSES.get(source, 1 << 31), subset, len(subset) if subset else CLASSES.get(source))


def _outside(classes: _Classes, split: str, mine: Outcomes) -> list[str]:
    """Labels and predictions are classes of the source, and those over a split's subset are of the subset."""
    most, subset = classes.most, classes.subset
    scored = {"labels": mine.labels, "predictions": mine.predictions}
    if mine.top5 is not None:
        scored["top5"] = mine.top5.ravel()
    columns = scored | {name: mine.extra[name] for name in PREDICTIONS if name in mine.extra}
    problems = [
        f"{name} outside the {most} classes"
        for name, values in columns.items()
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= most
    ]
    if subset is not None and not all(np.isin(values, subset).all() for values in scored.values()):
        problems.append(f"labels or predictions outside the {len(subset)} classes of split '{split}'")
    return problems


def _over_all(classes: _Classes, mine: Outcomes) -> list[str]:
    """Where a split has a subset, the prediction over all classes is the one inside it, or of another class."""
    if classes.subset is None:
        return []
    every = mine.extra.get("predictions_all")
    if every is None:
        return ["its outcomes lack predictions_all, which is reported where a split has its own classes"]
    if (np.isin(every, classes.subset) & (every != mine.predictions)).any():
        return ["predictions_all inside the split's classes that are not its predictions"]
    return []


def _probabilities(classes: _Classes, mine: Outcomes, old: bool) -> list[str]:
    """The label's probability, the largest, and the best classes fit each other and the predictions."""
    label, largest, best = mine.label_probability, mine.confidence, mine.top5
    if old and label is None and largest is None and best is None:
        return []  # results of schema 1 kept none
    if label is None or largest is None or best is None:
        return ["its outcomes lack label_probability, confidence or top5"]
    outside = [
        f"{name} outside [0, 1]"
        for name, values in (("label_probability", label), ("confidence", largest))
        if not ((values >= 0) & (values <= 1)).all()
    ]
    if outside:
        return outside
    checks = {
        "label_probability above confidence": label > largest + PROBABILITY_STEP,
        "right images whose label_probability is not their confidence": mine.correct
        & (np.abs(label.astype(np.float64) - largest) > PROBABILITY_STEP),
        "images whose first of top5 is not their prediction": best[:, 0] != mine.predictions,
        "images with a class twice in top5": (np.diff(np.sort(best, axis=1), axis=1) == 0).any(axis=1),
    }
    problems = [what for what, wrong in checks.items() if wrong.any()]
    if classes.scored and best.shape[1] != min(BEST, classes.scored):
        problems.append(f"{best.shape[1]} best classes of each image")
    return problems
