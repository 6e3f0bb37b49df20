"""Per-image matrices behind a table: rows x images of each suite, and of the average over suites.

A row takes part with what each image adds to its figure, in each of its seeds and on average over them. What cannot be
read image by image, or is on other images than the rest of its column, does not take part and says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nsbench.data.image_ids import file_stem
from nsbench.leaderboard.outcomes import ImageSet, PerImage, Reader
from nsbench.leaderboard.pairs import AVERAGE
from nsbench.results import Result
from nsbench.statistics.trainings import Trained

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
    methods: Methods | None  # where a row has several seeds

    def matrix(self, rows: Sequence[int]) -> np.ndarray:
        """(len(rows), n) float32."""
        return np.array([self.values[row] for row in rows], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Methods:
    """A column's rows with the spread over their trainings: what may be said of methods, not only of these weights."""

    rows: Sequence[int]  # positions in the table, in the order of `trained`
    trained: Trained
    once: frozenset[int]  # rows that were trained one time, so that nothing is known of another training

    @classmethod
    def of(cls, strata: Mapping[int, Sequence[np.ndarray]], results: Mapping[int, Sequence[Result]]) -> Methods | None:
        """None where no row has several seeds; `strata`: by row, (seeds, m) each, whose sum is the row's figure."""
        if all(len(mine[0]) == 1 for mine in strata.values()):
            return None
        once = {row for row, mine in strata.items() if len(mine[0]) == 1 and is_trained(results[row])}
        return cls(list(strata), Trained.of(list(strata.values())), frozenset(once))

    def speak(self, row: int, other: int) -> bool:
        """A difference of the two is one of methods: neither was trained one time alone, and one several times."""
        return bool(self._speak[self.rows.index(row), self.rows.index(other)])

    def difference(self, row: int, other: int, accuracy: bool) -> tuple[float, float]:
        return self.trained.difference(self.rows.index(row), self.rows.index(other), accuracy=accuracy)

    def pvalues(self, of_weights: np.ndarray) -> np.ndarray:
        """(M, M), those of methods where the two rows `speak` of them, else those given; none is below those given."""
        return np.where(self._speak, np.maximum(self.trained.pvalues(), of_weights), of_weights)

    @cached_property
    def _speak(self) -> np.ndarray:
        """(M, M) bool."""
        several, not_once = self.trained.freedom > 0, np.array([row not in self.once for row in self.rows])
        speak: np.ndarray = np.logical_or.outer(several, several) & np.logical_and.outer(not_once, not_once)
        return speak


@dataclass
class Evidence:
    """All columns of one table. Filled row by row, then asked for matrices."""

    reader: Reader
    suites: dict[str, SuiteEvidence] = field(default_factory=dict)
    reasons: dict[tuple[int, str], str] = field(default_factory=dict)  # (row, suite) -> why not image by image
    sums: Mapping[int, np.ndarray] = field(default_factory=dict)  # by row: bootstrap resamples of the average
    withheld: list[str] = field(default_factory=list)  # a line for each result whose figures its outcomes do not give
    average: Methods | None = None  # of the average, where a row has several seeds

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
            Methods.of({row: [_seeds(mine) / len(images.ids)] for row, mine in by_row.items()}, cells),
        )

    def methods(self, suite: str) -> Methods | None:
        """Of a column, or of the average; None where no row has several seeds."""
        if suite == AVERAGE:
            return self.average
        return self.suites[suite].methods if suite in self.suites else None

    def average_strata(
        self, rows: Mapping[int, Mapping[str, Sequence[Result]]], lower: Mapping[str, bool], pools: Mapping[str, str]
    ) -> dict[int, list[np.ndarray]]:
        """By row its strata (seeds, m), whose sum over all images is each seed's average, 100 - score where lower is
        better.

        `rows`: for each row the results, by suite, that its average is of; each suite with the same `pools` draws its
        images from one pool, where images are known by the stem of their id. Strata are images in the same suites.
        """
        suites = list(pools)
        strata: dict[int, list[np.ndarray]] = {row: [] for row in rows}
        for pool in sorted(set(pools.values())):
            mine = [suite for suite in suites if pools[suite] == pool]
            places, membership = _positions([self.suites[suite].images.ids for suite in mine])
            apart = _strata(membership)
            for row, results in rows.items():
                total_SN = np.zeros((len(results[mine[0]]), len(membership)), dtype=np.float32)
                for suite, place in zip(mine, places, strict=True):
                    values = _seeds([self._read(result) for result in results[suite]])
                    total_SN[:, place] += (100 - values if lower[suite] else values) / (len(place) * len(suites))
                strata[row] += [total_SN[:, members] for members in apart]
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


def is_trained(results: Sequence[Result]) -> bool:
    """Another training would have given other weights; an untouched checkpoint has none."""
    return any(result.provenance.recipe for result in results)


def _seeds(seeds: Sequence[PerImage]) -> np.ndarray:
    """(seeds, n) float32."""
    return seeds[0].values[None] if len(seeds) == 1 else np.array([one.values for one in seeds])


def _mean(seeds: Sequence[PerImage]) -> np.ndarray:
    return seeds[0].values if len(seeds) == 1 else np.array([one.values for one in seeds]).mean(axis=0)


def _most_common(sets: Iterable[ImageSet]) -> ImageSet:
    held = list(sets)
    counts = Counter(id(one) for one in held)
    different = {id(one): one for one in held}
    return max(different.values(), key=lambda one: (counts[id(one)], len(one.ids), one.ids.tolist()))


def _positions(ids: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Where each suite's images stand among all images of the pool, and the bit set of suites of each image."""
    keys = [np.array([file_stem(one) for one in mine.tolist()]) for mine in ids]
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
