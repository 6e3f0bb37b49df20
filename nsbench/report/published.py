"""Figures that papers report, as rows beside ours: shown in italics with their reference, never ranked or marked."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from nsbench.errors import ResultError
from nsbench.leaderboard import AVERAGE, Cell, Row, Table
from nsbench.registry import content_folder

SOURCE = "Liu et al., Approximate Nullspace Augmented Finetuning (CPAL 2025, arXiv 2403.10476), table 2"
OWN = "Liu et al. 2025"  # rows that the paper measured itself
T = TypeVar("T")


@dataclass(frozen=True)
class Published:
    """One reported row: top-1 accuracy in percent by suite, mCE for imagenet_c, and the average as printed."""

    model: str
    method: str
    reference: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Beside:
    """Our figure next to the published one of the same model and method."""

    label: str  # of our row
    suite: str
    ours: Cell
    published: Published
    differs: tuple[str, ...]  # what is known to differ between the two, a phrase each

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.ours.value - self.published.figures[self.suite]


def beside(table: Table) -> list[Beside]:
    """Every figure of ours that the paper has too, in the order of the table. None of them is a test."""
    rows = published_rows(table.source, *table.models)
    found = []
    for row in table.rows:
        for theirs in rows:
            if row.model.startswith(theirs.model) and row.method == theirs.method:
                found += [
                    Beside(row.label, suite, cell, theirs, _differs(row, suite, cell, theirs))
                    for suite in theirs.figures
                    if (cell := row.average if suite == AVERAGE else row.cells.get(suite)) is not None
                ]
    return found


def _differs(row: Row, suite: str, cell: Cell, theirs: Published) -> tuple[str, ...]:
    provenance = row.results[0].provenance
    words = []
    if theirs.reference == OWN and provenance.normalisation != "imagenet":
        words.append("normalisation: the checkpoint's own here, ImageNet's mean and std in the authors' code")
    if provenance.recipe:
        words.append(
            f"recipe: '{provenance.recipe.name}' here; the authors' code adds augmentation that the paper does not state"
        )
    full = images_of_suites().get(suite, 0)
    if cell.n < full:
        words.append(f"images: {cell.n:,} here, {full:,} there")
    origins = sorted({c.origin for r in cell.results for c in r.conditions} - {"official"})
    return (*words, f"origin of the images here: {', '.join(origins)}") if origins else tuple(words)


def published_rows(source: str, *models: str, folder: Path | None = None) -> list[Published]:
    """Rows of the paper's table 2 for a table of `source` and `models`.

    Only ImageNet figures are there, so other sources have none. Where the paper has the same model, only its rows;
    otherwise all, because the reader wants some landmark.
    """
    if not source.startswith("imagenet"):
        return []
    rows = read_published("table2_robustness.csv", _row, folder)
    return [row for row in rows if any(model.startswith(row.model) for model in models)] or rows


@cache
def images_of_suites() -> dict[str, int]:
    """How many images the paper's figures rest on, by suite: the protocol of the data sets."""
    return dict(read_published("table2_images.csv", lambda record: (record["suite"], int(record["images"]))))


def read_published(name: str, row: Callable[[dict[str, str]], T], folder: Path | None = None) -> list[T]:
    """The rows of a file of published figures, each as `row` makes it. Raises ResultError where it cannot be read."""
    path = (folder or content_folder("baselines") / "published") / name
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row(record) for record in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise ResultError(f"{path}: the published figures cannot be read ({error}); reinstall nsbench") from error


def _row(record: dict[str, str]) -> Published:
    model, method, reference = (record.pop(key) for key in ("model", "method", "reference"))
    return Published(model, method, reference or OWN, figures_of(record))  # no reference: measured by the paper


def figures_of(record: Mapping[str, str]) -> dict[str, float]:
    """By suite: a column is named after its suite, with "_mce" behind it where it holds mean corruption errors."""
    return {key.removesuffix("_mce"): float(value) for key, value in record.items() if value}
