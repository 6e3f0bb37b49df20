"""Outcomes of a submitted result, and values in them that cannot be."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping

import numpy as np

from nsbench.data import wnids
from nsbench.errors import ResultError
from nsbench.leaderboard.outcomes import OutcomeArrays
from nsbench.results import Result
from nsbench.submission.archive import Limits, shown, unpacked_size
from nsbench.types import Outcomes

MEMBER = re.compile(r"(conditions|sets|set\d{1,4}\.(ids|labels)|\d{1,4}\.(predictions|extra\.\w{1,40}))")
CLASSES = {"shapes10": 10, "imagenet": 1000}
PREDICTIONS = ("predictions_all", "predictions_uint8", "predictions_clean")
NORMS = ("linf", "l2")
ROUNDING = 1e-5, 1e-6  # relative and absolute room of a norm kept in single precision
ACCURACY = 1e-3  # percentage points: accuracies of conditions are kept with four decimals


def outcomes_of(result: Result, content: bytes | None, limits: Limits) -> dict[str, Outcomes]:
    """Outcomes by condition, read without trust. Raises ResultError."""
    if content is None:
        raise ResultError("has no outcomes (.npz) beside it")
    try:
        size = unpacked_size(content)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ResultError("its outcomes are no .npz file") from error
    if size > limits.unpacked:
        raise ResultError(f"its outcomes would unpack to {size:,} bytes; at most {limits.unpacked:,} are read")
    arrays = OutcomeArrays(result)
    odd = [name for name in arrays.members if not MEMBER.fullmatch(name)]
    if odd:
        raise ResultError(f"its outcomes hold {shown(odd[0])}, which no outcomes file has")
    names = [str(name) for name in _column(arrays, "conditions", "U")]
    if names != [condition["name"] for condition in result.conditions]:
        raise ResultError("its outcomes are of other conditions than it lists")
    sets = _column(arrays, "sets", "iu")
    if len(sets) != len(names) or (sets < 0).any():
        raise ResultError("its outcomes do not say which images each condition is on")
    return {name: _outcomes(arrays, index, int(sets[index])) for index, name in enumerate(names)}


def _outcomes(arrays: OutcomeArrays, index: int, which: int) -> Outcomes:
    prefix = f"{index}.extra."
    ids, labels = _column(arrays, f"set{which}.ids", "S"), _column(arrays, f"set{which}.labels", "iu")
    predictions = _column(arrays, f"{index}.predictions", "iu")
    extra = {
        name.removeprefix(prefix): _column(arrays, name, "iufb") for name in arrays.members if name.startswith(prefix)
    }
    if any(len(values) != len(ids) for values in (labels, predictions, *extra.values())) or not len(ids):
        raise ResultError("its outcomes have other lengths than their images")
    try:
        decoded = np.char.decode(ids, "utf-8")
    except UnicodeDecodeError as error:
        raise ResultError("its image ids are no UTF-8") from error
    if len(np.unique(decoded)) != len(decoded):
        raise ResultError("its outcomes name an image twice")
    if any(not str(one).isprintable() for one in decoded.tolist()):
        raise ResultError("its image ids hold control characters")
    return Outcomes(decoded, labels.astype(np.int64), predictions.astype(np.int64), extra)


def _column(arrays: OutcomeArrays, name: str, kinds: str) -> np.ndarray:
    """A one-dimensional array of these kinds of values."""
    found = arrays.get(name)
    if found.ndim != 1 or found.dtype.kind not in kinds:
        raise ResultError(f"its outcomes hold {shown(name)} in a form that no outcomes file has")
    return found


def value_problems(result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
    """What cannot be, a line each."""
    problems = []
    for condition in result.conditions:
        mine = outcomes[condition["name"]]
        problems += [
            f"condition {shown(condition['name'])}: {line}"
            for line in (
                *_counts(condition, mine),
                *_classes(result.source, str(condition["split"]), mine),
                *_attack(condition, mine),
            )
        ]
    return problems[:20]


def _counts(condition: Mapping, mine: Outcomes) -> list[str]:
    problems = []
    if condition["n"] != len(mine):
        problems.append(f"says {condition['n']:,} images and has {len(mine):,}")
    accuracy = 100 * float(mine.correct.mean())
    if abs(condition["accuracy"] - accuracy) > ACCURACY:
        problems.append(f"says accuracy {condition['accuracy']:g} and its outcomes have {accuracy:.4f}")
    return problems


def _classes(source: str, split: str, mine: Outcomes) -> list[str]:
    """Labels and predictions are classes of the source, and predictions those of the split's subset."""
    most = CLASSES.get(source, 1 << 31)
    allowed = wnids.subset(split) if source == "imagenet" else None
    columns = {"labels": mine.labels, "predictions": mine.predictions} | {
        name: mine.extra[name] for name in PREDICTIONS if name in mine.extra
    }
    problems = [
        f"{name} outside the {most} classes"
        for name, values in columns.items()
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= most
    ]
    if allowed is not None and not (np.isin(mine.labels, allowed).all() and np.isin(mine.predictions, allowed).all()):
        problems.append(f"labels or predictions outside the {len(allowed)} classes of split '{split}'")
    return problems


def _attack(condition: Mapping, mine: Outcomes) -> list[str]:
    """Norms inside the budget; an image that was wrong before the attack stays as it was."""
    problems = []
    for norm in NORMS:
        values = mine.extra.get(norm)
        if values is None:
            continue
        if not np.isfinite(values).all() or (values < 0).any():
            problems.append(f"{norm} norms that are negative or not finite")
        budget = re.fullmatch(rf"{norm} ([0-9.e+-]+)(/255)?", str(condition["threat"]))
        if budget:
            eps = float(budget[1]) / (255 if budget[2] else 1)
            if (values > eps * (1 + ROUNDING[0]) + ROUNDING[1]).any():
                problems.append(f"{norm} norms beyond the budget of {condition['threat']}")
    before = mine.extra.get("predictions_clean")
    if before is not None and ((before != mine.labels) & mine.correct).any():
        problems.append("images that the attack made right: what is wrong before it is not attacked")
    return problems
