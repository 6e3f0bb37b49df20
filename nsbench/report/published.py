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
OF_SUITE = "suite_"  # how files of figures for one column begin
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
    rows = published_of(table)
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
    if theirs.start:
        words.append(f"start: {theirs.start} there")
    if theirs.reference == OWN and provenance.normalisation != "imagenet":
        words.append("normalisation: the checkpoint's own here, ImageNet's mean and std in the authors' code")
    if provenance.recipe:
        words.append(
            f"recipe: '{provenance.recipe.name}' here; the authors' code adds augmentation that the paper does not state"
        )
    if not is_whole(suite, cell):
        words.append(f"images: {cell.n:,} here, {images_of_suites()[suite]:,} there")
    origins = sorted({c.origin for r in cell.results for c in r.conditions} - {"official"})
    return (*words, f"origin of the images here: {', '.join(origins)}") if origins else tuple(words)


def is_whole(suite: str, cell: Cell) -> bool:
    """On as many images as the paper's figure."""
    return cell.n >= images_of_suites().get(suite, 0)


def published_rows(source: str, *models: str, folder: Path | None = None) -> list[Published]:
    """Rows of the paper's table 2 for a table of `source` and `models`.

    Only ImageNet figures are there, so other sources have none. Where the paper has the same model, only its rows;
    otherwise all, because the reader wants some landmark.
    """
    if not source.startswith("imagenet"):
        return []
    rows = read_rows("table2_robustness.csv", folder)
    return [row for row in rows if any(model.startswith(row.model) for model in models)] or rows


def published_of(table: Table) -> list[Published]:
    """The reported rows of a table: those of the paper, and those that are kept for a column of its (`suite_NAME.csv`)."""
    rows = published_rows(table.source, *table.models)
    if not table.source.startswith("imagenet"):
        return rows
    files = {path.name: path.stem.removeprefix(OF_SUITE) for path in _folder(None).glob(f"{OF_SUITE}*.csv")}
    suites = {column.suite for column in table.columns}
    return rows + [row for name, suite in sorted(files.items()) if suite in suites for row in read_rows(name)]


def read_rows(name: str, folder: Path | None = None) -> list[Published]:
    """The rows of a file of reported figures, with what its notes say of them."""
    notes = _notes(_notes_of(name), folder)
    return [
        replace(row, **notes[row.model, row.method]) if (row.model, row.method) in notes else row
        for row in read_published(name, _row, folder)
    ]


class _OfRow(TypedDict):
    start: str
    source: str
    notes: dict[str, CellNote]


def _notes_of(name: str) -> str:
    """Of table2_robustness.csv table2_notes.csv, of suite_x.csv suite_x_notes.csv."""
    stem = name.removesuffix(".csv")
    return f"{stem if stem.startswith(OF_SUITE) else stem.partition('_')[0]}_notes.csv"


def _notes(name: str, folder: Path | None = None) -> dict[tuple[str, str], _OfRow]:
    """What a file of notes says, by model and method: of a row where it names no suite, else of a cell. {}: no file."""
    found: dict[tuple[str, str], _OfRow] = {}
    if not (_folder(folder) / name).is_file():
        return found
    for record in read_published(name, dict, folder):
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
    path = _folder(folder) / name
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row(record) for record in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise ResultError(f"{path}: the published figures cannot be read ({error}); reinstall nsbench") from error


def _folder(given: Path | None) -> Path:
    return given or content_folder("baselines") / "published"


def _row(record: dict[str, str]) -> Published:
    model, method, reference = record.pop("model"), record.pop("method"), record.pop("reference", "")
    setting = {"epsilon": record.pop("epsilon")} if "epsilon" in record else {}
    return Published(model, method, reference or OWN, figures_of(record), setting=setting)  # no reference: the paper's


def figures_of(record: Mapping[str, str]) -> dict[str, float]:
    """By suite: a column is named after its suite, with "_mce" behind it where it holds mean corruption errors."""
    return {key.removesuffix("_mce"): float(value) for key, value in record.items() if value}
