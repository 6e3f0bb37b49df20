"""Figures that papers report, as rows beside ours: shown in italics with their reference, never ranked or marked."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypedDict, TypeVar

from nsbench.errors import ResultError
from nsbench.leaderboard import AVERAGE, Cell, Column, Row, Table
from nsbench.registry import content_folder

SOURCE = "Liu et al., Approximate Nullspace Augmented Finetuning (CPAL 2025, arXiv 2403.10476), table 2"
NOTED = "table2"  # the table that has a file of notes
OTHER = "‡"  # behind a figure that is not what its column holds
OWN = "Liu et al. 2025"  # rows that the paper measured itself
T = TypeVar("T")


@dataclass(frozen=True)
class CellNote:
    """What a printed figure is, where its column does not say it."""

    words: str
    other: bool  # another metric, or over other classes, than the column: no difference is taken from it


@dataclass(frozen=True)
class Published:
    """One reported row: top-1 accuracy in percent by suite, mCE for imagenet_c, and the average as printed."""

    model: str
    method: str
    reference: str
    figures: dict[str, float]
    start: str = ""  # the checkpoint that was finetuned, or "from scratch"
    source: str = ""  # who measured it
    notes: Mapping[str, CellNote] = field(default_factory=dict)  # by suite
    setting: Mapping[str, str] = field(default_factory=dict)  # of a table of several settings

    def other(self, suite: str) -> bool:
        """The figure is not what its column holds."""
        return suite in self.notes and self.notes[suite].other

    @property
    def about(self) -> str:
        """Where the row comes from, in a sentence without its full stop."""
        return "; ".join(filter(None, (self.source, self.start and f"start: {self.start}")))


@dataclass(frozen=True)
class Beside:
    """Our figure next to the published one of the same model and method."""

    label: str  # of our row
    suite: str
    ours: Cell
    published: Published
    differs: tuple[str, ...]  # what is known to differ between the two, a phrase each

    @property
    def difference(self) -> float | None:
        """Ours minus theirs; None where the two are not the same measure."""
        return None if self.published.other(self.suite) else self.ours.value - self.published.figures[self.suite]


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
    words = [f"measure: {theirs.notes[suite].words} there"] if suite in theirs.notes and theirs.other(suite) else []
    words.append(f"start: {theirs.start} there")
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
    rows = read_rows("table2_robustness.csv", folder)
    return [row for row in rows if any(model.startswith(row.model) for model in models)] or rows


def read_rows(name: str, folder: Path | None = None) -> list[Published]:
    """The rows of a table of the paper, with what its notes say of them."""
    notes = _notes(folder) if name.startswith(NOTED) else {}
    return [
        replace(row, **notes[row.model, row.method]) if (row.model, row.method) in notes else row
        for row in read_published(name, _row, folder)
    ]


class _OfRow(TypedDict):
    start: str
    source: str
    notes: dict[str, CellNote]


def _notes(folder: Path | None = None) -> dict[tuple[str, str], _OfRow]:
    """What table2_notes.csv says, by model and method: of a row where it names no suite, else of a cell."""
    found: dict[tuple[str, str], _OfRow] = {}
    for record in read_published("table2_notes.csv", dict, folder):
        own = found.setdefault((record["model"], record["method"]), {"start": "", "source": "", "notes": {}})
        if not record["suite"]:
            own["start"], own["source"] = record["start"], record["source"]
            continue
        classes = record["classes"] and ("over 200 classes" if record["classes"] == "200" else record["classes"])
        words = "; ".join(filter(None, (record["metric"], classes)))
        own["notes"][record["suite"]] = CellNote(words, record["other"] == "yes")
    return found


def printed_otherwise(rows: Sequence[Published], columns: Sequence[Column]) -> list[str]:
    """A sentence for every measure that cells marked OTHER hold in place of their column's, and one for the starts."""
    cells: dict[str, list[str]] = {}
    for row in rows:
        for suite, note in row.notes.items():
            if note.other and any(column.suite == suite for column in columns):
                cells.setdefault(note.words, []).append(f"{row.method} ({suite})")
    said = [f"{OTHER} {words}: {', '.join(places)}" for words, places in cells.items()]
    starts: dict[str, list[str]] = {}
    for row in rows:
        if row.about:
            starts.setdefault(row.about, []).append(f"{row.method} ({row.model})")
    return [*said, *(f"{', '.join(names)}: {about}" for about, names in starts.items())]


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
    model, method, reference = record.pop("model"), record.pop("method"), record.pop("reference", "")
    setting = {"epsilon": record.pop("epsilon")} if "epsilon" in record else {}
    return Published(model, method, reference or OWN, figures_of(record), setting=setting)  # no reference: the paper's


def figures_of(record: Mapping[str, str]) -> dict[str, float]:
    """By suite: a column is named after its suite, with "_mce" behind it where it holds mean corruption errors."""
    return {key.removesuffix("_mce"): float(value) for key, value in record.items() if value}
