"""Per-image matrices behind a table: rows x images of each suite, and of the average over suites.

A row takes part with what each image adds to its figure, mean over its seeds. What cannot be read image by image, or is
on other images than the rest of its column, does not take part and says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nsbench.files import stem
from nsbench.leaderboard.outcomes import ImageSet, PerImage, Reader
from nsbench.results import Result

# Splits of the data vocabulary (see data.source) that show the validation images, beside those that were attacked
# beforehand. Ids cannot say it: shapes10 names "stylized/00007", which shows a validation image, and "v2/00007" alike.
VALIDATION_SPLITS = ("clean", "c", "stylized")
SMALLEST_STRATUM = 8  # fewer images than this have no spread to speak of and join the largest stratum


@dataclass(frozen=True, eq=False)
class SuiteEvidence:
    """One column, image by image."""

    images: ImageSet
    values: Mapping[int, np.ndarray]  # by row: (n,) float32, mean over the cell's seeds, in the unit of the score
    single: frozenset[int]  # rows whose values are the right and wrong predictions of one seed: 100 or 0
    accuracy: frozenset[int]  # rows whose values are shares of right predictions

    def matrix(self, rows: Sequence[int]) -> np.ndarray:
        """(len(rows), n) float32."""
        return np.array([self.values[row] for row in rows], dtype=np.float32)


@dataclass
class Evidence:
    """All columns of one table. Filled row by row, then asked for matrices."""

    reader: Reader
    suites: dict[str, SuiteEvidence] = field(default_factory=dict)
    reasons: dict[tuple[int, str], str] = field(default_factory=dict)  # (row, suite) -> why not image by image
    sums: Mapping[int, np.ndarray] = field(default_factory=dict)  # by row: bootstrap resamples of the average

    def add(self, suite: str, cells: Mapping[int, Sequence[Result]]) -> None:
        """Read a column; `cells`: results of each row, one for each seed."""
        by_row: dict[int, list[PerImage]] = {}
        for row, results in cells.items():
            read = [self.reader.per_image(result) for result in results]
            wrong = [one for one in read if isinstance(one, str)]
            if wrong:
                self.reasons[row, suite] = wrong[0]
            else:
                by_row[row] = [one for one in read if isinstance(one, PerImage)]
        if not by_row:
            return
        images = _most_common(one.images for mine in by_row.values() for one in mine)
        for row in [row for row, mine in by_row.items() if any(one.images is not images for one in mine)]:
            self.reasons[row, suite] = "other images than the rest of the column"
            del by_row[row]
        self.suites[suite] = SuiteEvidence(
            images,
            {row: _mean(mine) for row, mine in by_row.items()},
            frozenset(row for row, mine in by_row.items() if len(mine) == 1 and mine[0].accuracy),
            frozenset(row for row, mine in by_row.items() if all(one.accuracy for one in mine)),
        )

    def average_strata(
        self, rows: Mapping[int, Mapping[str, Sequence[Result]]], lower: Mapping[str, bool], pools: Mapping[str, str]
    ) -> list[np.ndarray]:
        """Strata (M, m) whose sum over all images is each row's average, 100 - score where lower is better.

        `rows`: for each row the results, by suite, that its average is of; each suite with the same `pools` draws its
        images from one pool, where images are known by the stem of their id. Strata are images in the same suites.
        """
        suites = list(pools)
        strata: list[np.ndarray] = []
        for pool in sorted(set(pools.values())):
            mine = [suite for suite in suites if pools[suite] == pool]
            places, membership = _positions([self.suites[suite].images.ids for suite in mine])
            total_MN = np.zeros((len(rows), len(membership)), dtype=np.float32)
            for suite, place in zip(mine, places, strict=True):
                for index, results in enumerate(rows.values()):
                    values = _mean([self._read(result) for result in results[suite]])
                    total_MN[index, place] += (100 - values if lower[suite] else values) / (len(place) * len(suites))
            strata += [total_MN[:, members] for members in _strata(membership)]
        return strata

    def _read(self, result: Result) -> PerImage:
        one = self.reader.per_image(result)
        assert isinstance(one, PerImage), one
        return one


def pool_of(result: Result) -> str:
    """Suites on the validation images share their luck; each other split is drawn apart."""
    first = result.conditions[0]
    root = first.split.partition("/")[0]
    return "validation" if root in VALIDATION_SPLITS or first.beforehand else root


def _mean(seeds: Sequence[PerImage]) -> np.ndarray:
    return seeds[0].values if len(seeds) == 1 else np.array([one.values for one in seeds]).mean(axis=0)


def _most_common(sets: Iterable[ImageSet]) -> ImageSet:
    held = list(sets)
    counts = Counter(id(one) for one in held)
    different = {id(one): one for one in held}
    return max(different.values(), key=lambda one: (counts[id(one)], len(one.ids), one.ids.tolist()))


def _positions(ids: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Where each suite's images stand among all images of the pool, and the bit set of suites of each image."""
    keys = [np.array([stem(one) for one in mine.tolist()]) for mine in ids]
    if any(len(np.unique(key)) != len(key) for key in keys):  # stems are not names here
        keys = list(ids)
    everything = np.unique(np.concatenate(keys))
    places = [np.searchsorted(everything, key) for key in keys]
    membership = np.zeros(len(everything), dtype=np.int64)
    for bit, place in enumerate(places):
        membership[place] |= 1 << bit
    return places, membership


def _strata(membership: np.ndarray) -> list[np.ndarray]:
    """Indices of the images of each pattern of suites; patterns of very few images join the largest one."""
    patterns, inverse, counts = np.unique(membership, return_inverse=True, return_counts=True)
    inverse = np.where(counts[inverse] < SMALLEST_STRATUM, counts.argmax(), inverse)
    return [np.flatnonzero(inverse == index) for index in range(len(patterns)) if (inverse == index).any()]
