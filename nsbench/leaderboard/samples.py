"""Pictures ready to be shown: samples of every condition, and the images that one row has right and another wrong.

Everything comes from the results folder. Where a result has no samples beside it there are no pictures, and images are
named by their ids alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from nsbench.data.image_ids import known_as
from nsbench.errors import ResultError
from nsbench.leaderboard.records import Row, Table
from nsbench.results import Result
from nsbench.results.samples import NOTHING, Kept, Sample, place, read_samples

MOST = 8  # images of a list


@dataclass(frozen=True)
class Picture:
    """One sampled image of one condition. Pictures are data URIs of at most 96 px."""

    id: str
    label: str  # name of the class where it is known, else its number
    prediction: str
    right: bool
    clean: str
    adversarial: str | None  # where it was attacked
    change: str | None  # attacked minus clean, ten times, around grey
    linf: float | None  # norms of the change, [0, 1] pixel units
    l2: float | None


@dataclass(frozen=True)
class Gallery:
    """Samples of one condition of one result; first what it has wrong."""

    condition: str
    threat: str  # norm and eps, "linf 1/255"; "" where nothing attacked
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Swing:
    """One image that one row has right more often than the other."""

    id: str
    label: str
    first: float  # how often the first row has it right, percent over seeds; of mCE 100 minus what it adds to it
    second: float
    predictions: tuple[str, str] | None  # of the first and the second row, where there is one condition and seed
    clean: str  # a data URI: of images without a sample in any row of the table there is no swing

    @property
    def change(self) -> float:
        return self.first - self.second


@dataclass(frozen=True)
class Swings:
    """Images that the first row wins over the second, and loses: the clearest with a sample, and how many there are."""

    won: tuple[Swing, ...]
    lost: tuple[Swing, ...]
    images_won: int
    images_lost: int


@dataclass
class Album:
    """The pictures of one table; every file is read once. `problems` names files that are broken."""

    table: Table
    problems: list[str] = field(default_factory=list)
    _read: dict[int, Kept] = field(default_factory=dict)  # by id(result)
    _seen: dict[str, dict[str, Sample]] = field(default_factory=dict)  # by suite: a sample of each image

    def galleries(self, row: Row, suite: str) -> list[Gallery]:
        """Of the row's first seed; [] where nothing is kept."""
        cell = row.cells.get(suite)
        if cell is None or not cell.results:
            return []
        result = cell.results[0]
        kept = self._kept(result)
        threats = {one.name: str(one.threat or "") for one in result.conditions}
        return [
            Gallery(name, threats[name], tuple(_picture(one, kept.class_names) for one in samples))
            for name, samples in kept.samples.items()
            if samples and name in threats
        ]

    def swings(self, suite: str, first: int, second: int, most: int = MOST) -> Swings | None:
        """Two rows, by position in the table, in one column; None where they cannot be compared image by image."""
        evidence = self.table.evidence.suites.get(suite) if self.table.evidence else None
        if evidence is None or not {first, second} <= set(evidence.values):
            return None
        lower = next(column.lower_is_better for column in self.table.columns if column.suite == suite)
        scores = [100 - evidence.values[row] if lower else evidence.values[row] for row in (first, second)]
        ids, labels, known = evidence.images.ids.tolist(), evidence.images.labels, self._samples_of(suite)
        predicted = self._predictions(suite, first, second) if {first, second} <= evidence.single else None
        names = self.class_names

        def swing(k: int) -> Swing:
            pair = (_class(predicted[0][ids[k]], names), _class(predicted[1][ids[k]], names)) if predicted else None
            return Swing(
                ids[k],
                _class(int(labels[k]), names),
                float(scores[0][k]),
                float(scores[1][k]),
                pair,
                _uri(known[ids[k]].clean),
            )

        change = np.round(scores[0].astype(float) - scores[1], 3)
        lists = [np.flatnonzero(sign * change > 0).tolist() for sign in (1, -1)]
        won, lost = (
            tuple(
                swing(k)
                for k in sorted((k for k in mine if ids[k] in known), key=lambda k: (-abs(change[k]), place(ids[k])))[
                    :most
                ]
            )
            for mine in lists
        )
        return Swings(won, lost, *map(len, lists))

    @property
    def class_names(self) -> Mapping[int, str]:
        """Names of classes that any sample of the table knows."""
        return {label: name for kept in self._read.values() for label, name in kept.class_names.items()}

    def _kept(self, result: Result) -> Kept:
        if id(result) not in self._read:
            try:
                self._read[id(result)] = read_samples(result)
            except ResultError as error:
                self._read[id(result)] = NOTHING
                self.problems.append(str(error))
        return self._read[id(result)]

    def _samples_of(self, suite: str) -> Mapping[str, Sample]:
        """A sample of each image that any row kept."""
        if suite not in self._seen:
            results: Iterable[Result] = (
                r for row in self.table.rows if suite in row.cells for r in row.cells[suite].results
            )
            self._seen[suite] = {
                image_id: one
                for result in results
                for samples in self._kept(result).samples.values()
                for one in samples
                for image_id in (known_as(one.id) if result.image_ids == "names" else [one.id])
            }
        return self._seen[suite]

    def _predictions(self, suite: str, first: int, second: int) -> list[Mapping[str, int]] | None:
        """By id, of the first condition, for both rows."""
        assert self.table.evidence is not None
        predictions: list[Mapping[str, int]] = []
        for row in (first, second):
            result = self.table.rows[row].cells[suite].results[0]
            name = result.conditions[0].name
            try:
                outcomes = self.table.evidence.reader.outcomes(result, [name])[name]
            except ResultError:  # it was readable when the table was made
                return None
            predictions.append(dict(zip(outcomes.ids.tolist(), outcomes.predictions.tolist(), strict=True)))
        return predictions


def _picture(sample: Sample, names: Mapping[int, str]) -> Picture:
    return Picture(
        sample.id,
        _class(sample.label, names),
        _class(sample.prediction, names),
        sample.right,
        _uri(sample.clean),
        _uri(sample.adversarial) if sample.adversarial else None,
        _uri(sample.change) if sample.change else None,
        sample.linf,
        sample.l2,
    )


def _class(label: int, names: Mapping[int, str]) -> str:
    return names.get(label, str(label))


def _uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
