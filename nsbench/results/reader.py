"""Outcomes of many results, as fast as a table of a thousand methods asks for them.

Images that several files store alike are decoded once and are one object. Of a file only the columns that the reader
was made for are decoded, and the files read last are held, so that what looks at one row after the other reads each
file once. `store.read_outcomes` gives everything that one file holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nsbench.results import outcomes as files
from nsbench.results.parquet import PROBABILITIES, TOP
from nsbench.results.parquet_reading import Images, Known, Rows
from nsbench.results.record import Result
from nsbench.results.store import decoded
from nsbench.types import Outcomes

PREDICTION = "prediction"
EXTRA = ("predictions_clean", "predictions_all", "predictions_uint8", "linf", "l2")  # looked at beside predictions
HELD = 64  # files of one row, and some more


class Right(NamedTuple):
    """C conditions of a file on the same n images in one order: which are right."""

    images: Images
    conditions: Sequence[str]
    right_CN: np.ndarray  # bool


@dataclass(frozen=True, eq=False)
class _File:
    """What is held of a file."""

    result: Result  # whose id() it is known by
    rows: Mapping[str, Rows]
    outcomes: dict[str, Outcomes] = field(default_factory=dict)  # by condition, where they were asked for

    @cached_property
    def right(self) -> list[Right]:
        alike: dict[int, list[str]] = {}
        for name, one in self.rows.items():
            alike.setdefault(id(one.images), []).append(name)
        found = []
        for names in alike.values():
            images = self.rows[names[0]].images
            predictions_CN = np.array([self.rows[name].columns[PREDICTION] for name in names])
            found.append(Right(images, names, predictions_CN == images.labels))
        return found


@dataclass
class OutcomesReader:
    """Reads results' outcomes and remembers which images they are on."""

    extra: Sequence[str] = EXTRA  # the extra columns that are read, where a condition has them
    _known: Known = field(default_factory=Known)
    _held: OrderedDict[tuple[int, bool], _File] = field(
        default_factory=OrderedDict
    )  # by id(result), and whether with what stands beside predictions
    _common: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # by id() of known ids

    def rows(self, result: Result, beside: bool = True) -> Mapping[str, Rows]:
        """By condition, in the stored order: its images, its predictions and the extra columns, in the stored types.

        `beside`: with what stands beside predictions; a file of 75 conditions is read in half the time without. Results
        on the same images share the object. Raises ResultError for a file that is absent, changed, or of other conditions
        than the result lists.
        """
        return self._file(result, beside).rows

    def right(self, result: Result) -> list[Right]:
        """Of all conditions which images are right. Raises ResultError, as `rows` does."""
        return self._file(result, beside=False).right

    def outcomes(self, result: Result, names: Sequence[str], beside: bool = True) -> dict[str, Outcomes]:
        """Of these conditions, in the stored order, with predictions and, for `beside`, probabilities and the extra
        columns.

        Raises ResultError, as `rows` does.
        """
        file = self._file(result, beside)
        for name in names:
            if name not in file.outcomes:
                file.outcomes[name] = self._outcomes(file.rows[name])
        return {name: file.outcomes[name] for name in names}

    def common(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in two arrays of ids, both given by this reader, of the images that both hold."""
        key = id(one), id(other)
        if key not in self._common:
            self._common[key] = _common_places(one, other)
        return self._common[key]

    def _file(self, result: Result, beside: bool) -> _File:
        key = id(result), beside or (id(result), True) in self._held
        if key in self._held:
            self._held.move_to_end(key)
        else:
            self._held[key] = _File(result, self._read(result, beside))
            if len(self._held) > HELD:
                self._held.popitem(last=False)
        return self._held[key]

    def _read(self, result: Result, beside: bool) -> dict[str, Rows]:
        columns = (PREDICTION, *PROBABILITIES, *TOP, *self.extra) if beside else (PREDICTION,)
        return decoded(
            result,
            lambda content: files.read_columns(content, result.outcomes_format, result.image_ids, columns, self._known),
        )

    def _outcomes(self, rows: Rows) -> Outcomes:
        extra = {name: rows.columns[name] for name in self.extra if name in rows.columns}
        tops = [rows.columns[name] for name in TOP if name in rows.columns]
        return Outcomes(
            rows.images.ids,
            rows.images.labels,
            rows.columns[PREDICTION].astype(np.int64),
            extra,
            label_probability=rows.columns.get("label_probability"),
            confidence=rows.columns.get("confidence"),
            top5=np.stack(tops).T if tops else None,
        )


def _common_places(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if one is other or np.array_equal(one, other):
        return (np.arange(len(one)),) * 2
    _, at_one, at_other = np.intersect1d(one, other, return_indices=True)
    return at_one, at_other
