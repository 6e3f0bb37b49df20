"""Figures that papers report, as rows beside ours: shown in italics with their reference, never ranked or marked."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from nsbench.errors import ResultError
from nsbench.registry import content_folder

SOURCE = "Liu et al., Approximate Nullspace Augmented Finetuning (CPAL 2025, arXiv 2403.10476), table 2"
SUITES = {"imagenet_c_mce": "imagenet_c"}  # columns of the file that are not named after their suite


@dataclass(frozen=True)
class Published:
    """One reported row: top-1 accuracy in percent by suite, mCE for imagenet_c, and the average as printed."""

    model: str
    method: str
    reference: str
    figures: dict[str, float]


def published_rows(source: str, *models: str, folder: Path | None = None) -> list[Published]:
    """Rows of the paper's table 2 for a table of `source` and `models`.

    Only ImageNet figures are there, so other sources have none. Where the paper has the same model, only its rows;
    otherwise all, because the reader wants some landmark.
    """
    if not source.startswith("imagenet"):
        return []
    rows = _read((folder or content_folder("baselines") / "published") / "table2_robustness.csv")
    return [row for row in rows if any(model.startswith(row.model) for model in models)] or rows


def _read(path: Path) -> list[Published]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_row(record) for record in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise ResultError(f"{path}: the published figures cannot be read ({error}); reinstall nsbench") from error


def _row(record: dict[str, str]) -> Published:
    model, method, reference = (record.pop(key) for key in ("model", "method", "reference"))
    figures = {SUITES.get(key, key): float(value) for key, value in record.items() if value}
    return Published(model, method, reference or "Liu et al. 2025", figures)  # no reference: measured by the paper
