"""Stored results with outcomes that a test chooses, and baselines of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nsbench.regression import Baseline, Entry
from nsbench.regression.evidence import Noise
from nsbench.results import Result, read_result, write_result
from nsbench.statistics import accuracy
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Outcomes

CORRUPTED = tuple(
    f"{c}/{s}"
    for c in (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "snow",
        "frost",
        "fog",
        "brightness",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    )
    for s in range(1, 6)
)


def store(
    folder: Path,
    right: Mapping[str, Sequence[bool] | np.ndarray],
    *,
    suite: str = "clean",
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    method: str = "ns",
    **changes,
) -> Result:
    """A result whose conditions have these outcomes, written to `folder` and read back."""
    n = len(next(iter(right.values())))
    names = np.array(list(ids) if ids is not None else [f"clean/{k:05d}" for k in range(n)], dtype=np.str_)
    wanted = np.array(labels if labels is not None else np.arange(n) % 10, dtype=np.int64)
    outcomes = {
        name: Outcomes(names, wanted, np.where(flags, wanted, (wanted + 1) % 10)) for name, flags in right.items()
    }
    many = len(outcomes) > 1
    conditions = [
        {
            "name": name,
            "split": f"c/{name}" if many else suite,
            "attack": None,
            "params": {},
            "threat": None,
            "preprocess": "none" if many else "checkpoint",
            "n": n,
            "origin": "embedded",
            "data_digest": "0" * 16,
            "content_digest": None,
            "accuracy": 0.0,
            "unreadable": {},
        }
        for name in outcomes
    ]
    provenance = {
        "preprocessing": "resize 48 bicubic, crop 48",
        "normalisation": "own",
        "recipe": None,
        "method_version": 1,
        "parent_digest": "a" * 16,
        "weights_digest": "b" * 16,
        "limit": n,
        "seconds": 2.0,
        "fit_seconds": 10.0,
        "peak_memory_mib": 800,
        "date": "2026-01-01T00:00:00+00:00",
    }
    fields = {
        "source": "shapes10",
        "model": "vit_shapes10",
        "method": method,
        "suite": suite,
        "seed": 0,
        "score": (mean_corruption_error if len(outcomes) >= 75 else accuracy)(outcomes),
        "unit": "mCE" if many else "%",
        "lower_is_better": many,
        "title": suite,
        "group": "clean",
        "order": 1,
        "paper": True,
        "suite_version": 1,
        "summary": "",
        "citation": "",
        "method_title": method,
        "method_summary": "",
        "method_order": 1,
        "conditions": conditions,
        "provenance": provenance,
        "identity": "c" * 16,
    }
    fields["provenance"] |= changes.pop("provenance", {})
    for condition in conditions:
        condition |= changes.get("condition", {})
    changes.pop("condition", None)
    return read_result(write_result(folder, Result(**(fields | changes)), outcomes))


def baseline(*results: Result, noise: Noise | None = None, **fields) -> Baseline:
    """What `record` makes of these results."""
    entries = tuple(replace(Entry.of(result), noise=noise or Noise()) for result in results)
    return Baseline(entries, recorded="2026-01-01T00:00:00+00:00", **fields)


def flags(n: int, right: int, *, lose: int = 0, win: int = 0) -> np.ndarray:
    """n outcomes, the first `right` of them right; then the first `lose` of these lost and `win` others won."""
    outcome = np.arange(n) < right
    outcome[:lose] = False
    outcome[right : right + win] = True
    return outcome
