"""Stored results with outcomes that a test chooses, and baselines of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import made
import numpy as np

from nsbench.regression import Baseline, Entry
from nsbench.regression.noise import Noise
from nsbench.results import Result, read_result, write_result
from nsbench.statistics import ALEXNET_ERROR, SEVERITIES, accuracy
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Outcomes

CORRUPTED = tuple(f"{corruption}/{severity}" for corruption in ALEXNET_ERROR for severity in SEVERITIES)
Right = Mapping[str, Sequence[bool] | np.ndarray]  # by condition: which of the images are right


def outcomes_of(
    right: Right, ids: Sequence[str] | None = None, labels: Sequence[int] | None = None
) -> dict[str, Outcomes]:
    n = len(next(iter(right.values())))
    names = np.array(list(ids) if ids is not None else [f"clean/{k:05d}" for k in range(n)], dtype=np.str_)
    wanted = np.array(labels if labels is not None else np.arange(n) % 10, dtype=np.int64)
    return {name: Outcomes(names, wanted, np.where(flags, wanted, (wanted + 1) % 10)) for name, flags in right.items()}


def store(
    folder: Path,
    right: Right,
    *,
    suite: str = "clean",
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    condition: Mapping[str, object] | None = None,
    **changes: object,
) -> Result:
    """A result whose conditions have these outcomes, written to `folder` and read back.

    `condition`: fields of every condition; `changes`: fields of the result and of its provenance.
    """
    outcomes = outcomes_of(right, ids, labels)
    many = len(outcomes) > 1
    conditions = tuple(
        made.condition(
            name,
            one,
            **{"split": f"c/{name}" if many else suite, "preprocess": "none" if many else "checkpoint"}
            | dict(condition or {}),
        )
        for name, one in outcomes.items()
    )
    plain: dict[str, object] = {
        "score": (mean_corruption_error if len(outcomes) >= 75 else accuracy)(outcomes),
        "unit": "mCE" if many else "%",
        "lower_is_better": many,
        "conditions": conditions,
        "limit": len(next(iter(outcomes.values()))),
    }
    stored = write_result(folder, made.result(suite=suite, **(plain | changes)), outcomes)
    assert stored.path is not None
    return read_result(stored.path)


def baseline(*results: Result, noise: Noise | None = None, **fields: object) -> Baseline:
    """What `record` makes of these results."""
    entries = tuple(replace(Entry.of(result), noise=noise or Noise()) for result in results)
    return Baseline(entries, recorded="2026-01-01T00:00:00+00:00", **fields)  # type: ignore[arg-type]


def flags(n: int, right: int, *, lose: int = 0, win: int = 0) -> np.ndarray:
    """n outcomes, the first `right` of them right; then the first `lose` of these lost and `win` others won."""
    outcome = np.arange(n) < right
    outcome[:lose] = False
    outcome[right : right + win] = True
    return outcome
