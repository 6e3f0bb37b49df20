"""The average over suites: which results it is of, its value over seeds, its interval over images.

The interval of one seed is the percentile bootstrap over images, drawn once for all suites that share them and for all
rows; that of several seeds is over images and trainings. A suite whose images are all right, or all wrong, adds its own
interval, since its resamples are all alike. Where per-image outcomes are missing it is Zou & Donner's
combination of the suites' own intervals, widened by the spread over seeds, which is never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nsbench.leaderboard.matrices import Evidence, Methods, is_trained, pool_of
from nsbench.leaderboard.pairs import column_pvalues
from nsbench.leaderboard.records import Cell
from nsbench.results import Result
from nsbench.statistics import average, paired_pvalues, percentile_interval, resampled_sums
from nsbench.types import Score

MOST = 100.0  # of an average: every image right, and an mCE of 0
NO_OUTCOMES = "per-image outcomes of some suites are missing"


@dataclass(frozen=True)
class Averaged:
    """What one row's average is of."""

    seeds: tuple[int, ...]
    results: Mapping[str, Sequence[Result]]  # by suite: one for each of the seeds

    @property
    def all(self) -> list[Result]:
        return [result for mine in self.results.values() for result in mine]


def averaged(cells: Mapping[str, Cell], notes: list[str]) -> Averaged | None:
    """The seeds that have all of these cells, each from one set of weights; None where there is none."""
    seeds = sorted(set.intersection(*(set(cell.seeds) for cell in cells.values())))
    for seed in seeds:
        weights = {r.provenance.weights_digest for cell in cells.values() for r in cell.results if r.seed == seed}
        if len(weights) > 1:
            notes.append(f"no average: the figures of seed {seed} come from different weights")
            return None
    if not seeds:
        return None
    return Averaged(
        tuple(seeds), {suite: [r for r in cell.results if r.seed in seeds] for suite, cell in cells.items()}
    )


@dataclass(frozen=True)
class AverageColumn:
    """The averages of all rows that have one."""

    cells: Mapping[int, Cell]  # by row
    p: np.ndarray  # upper triangle over the rows, in the order of `cells`
    sums: Mapping[int, np.ndarray]  # by row: bootstrap resamples, where outcomes are there
    methods: Methods | None = None  # where a row has several seeds


def average_column(rows: Mapping[int, Averaged], evidence: Evidence) -> AverageColumn:
    """Values, intervals and pairwise p values; `rows` by position in the table, all over the same suites."""
    if not rows:
        return AverageColumn({}, np.empty(0), {})
    paired = {row: one for row, one in rows.items() if not _unreadable(row, one, evidence)}
    sums: dict[int, np.ndarray] = {}
    pvalues, methods = None, None
    if paired:
        first = next(iter(paired.values()))
        by_row = evidence.average_strata(
            {row: one.results for row, one in paired.items()},
            {suite: mine[0].lower_is_better for suite, mine in first.results.items()},
            {suite: pool_of(mine[0]) for suite, mine in first.results.items()},
        )
        strata = [np.array([one.mean(axis=0) for one in mine]) for mine in zip(*by_row.values(), strict=True)]
        methods = Methods.of(by_row, {row: one.all for row, one in paired.items()})
        # in single precision, since they are held as long as the table: 40 MB of a thousand rows
        sums = dict(zip(paired, resampled_sums(strata).astype(np.float32).T, strict=True))
        pvalues = paired_pvalues(strata) if len(paired) > 1 else None
        pvalues = methods.pvalues(pvalues) if methods and pvalues is not None else pvalues
    cells = {row: _cell(one, _interval(row, one, sums, methods)) for row, one in rows.items()}
    p = column_pvalues(
        [cell.value for cell in cells.values()],
        [(cell.low, cell.high) for cell in cells.values()],
        pvalues,
        [index for index, row in enumerate(rows) if row in paired],
    )
    return AverageColumn(cells, p, sums, methods)


def _unreadable(row: int, one: Averaged, evidence: Evidence) -> bool:
    return any((row, suite) in evidence.reasons for suite in one.results)


def _interval(
    row: int, one: Averaged, sums: Mapping[int, np.ndarray], methods: Methods | None
) -> tuple[float, float] | None:
    """Over images and, with several seeds, over trainings; None where outcomes are missing."""
    if row not in sums:
        return None
    if len(one.seeds) > 1 and methods is not None:
        low, high = methods.trained.interval(methods.rows.index(row))
    else:
        low, high = map(float, percentile_interval(sums[row]))
    return _with_alike(one, low, high)


def _with_alike(one: Averaged, low: float, high: float) -> tuple[float, float]:
    """An interval in which suites without a wrong image, or without a right one, are not certain.

    Resampled images of such a suite are all alike and add nothing, so its own interval is added in quadrature (Zou and
    Donner 2008). Without such a suite the interval stays as it is.
    """
    alike = [mine for mine in one.results.values() if all(map(at_a_bound, mine))]
    if not alike:
        return low, high
    value = mean([_score([r for r in one.all if r.seed == seed]).value for seed in one.seeds])
    scores = [_score([r for mine in alike for r in mine if r.seed == seed]) for seed in one.seeds]
    share = len(alike) / len(one.results)
    below, above = (
        share * mean(each) for each in zip(*((s.value - s.low, s.high - s.value) for s in scores), strict=True)
    )
    return value - math.hypot(value - low, below), min(value + math.hypot(high - value, above), MOST)


def at_a_bound(result: Result) -> bool:
    """Whether all of its images are right, or all wrong, under every condition."""
    made_of = result.score.made_of
    return made_of is not None and any(math.isclose(result.score.value, x, abs_tol=1e-9) for x in made_of.bounds)


def _cell(one: Averaged, interval: tuple[float, float] | None) -> Cell:
    scores = [_score([r for r in one.all if r.seed == seed]) for seed in one.seeds]
    values = [score.value for score in scores]
    value, (low, high) = mean(values), interval or widened(scores)
    return Cell(
        value,
        min(low, value),  # resampled sums are in single precision
        max(high, value),
        scores[0].n,
        one.seeds,
        *spread(values),
        unpaired="" if interval else NO_OUTCOMES,
        trained=is_trained(one.all),
    )


def _score(results: Sequence[Result]) -> Score:
    return average([r.score for r in results], [r.lower_is_better for r in results], [pool_of(r) for r in results])


def spread(values: Sequence[float]) -> tuple[tuple[float, float] | None, float | None]:
    """(least, greatest) and standard deviation over seeds; None for one seed."""
    if len(values) < 2:
        return None, None
    centre = mean(values)
    return (min(values), max(values)), math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def widened(scores: Sequence[Score]) -> tuple[float, float]:
    """An interval where outcomes do not tell images from trainings: the seeds' own, and Student's over the seeds.

    The two add in quadrature as if they were apart. Part of the spread over seeds stands in both: never too narrow.
    """
    low, high = mean([score.low for score in scores]), mean([score.high for score in scores])
    if len(scores) < 2:
        return low, high
    from scipy.special import stdtrit

    _, deviation = spread([score.value for score in scores])
    half = float(stdtrit(len(scores) - 1, 0.975)) * (deviation or 0.0) / math.sqrt(len(scores))
    value = mean([score.value for score in scores])
    return value - math.hypot(value - low, half), value + math.hypot(high - value, half)


def mean(values: Sequence[float]) -> float:
    """The same for the same values in any order, so that rows which tie are not told apart by rounding."""
    return values[0] if len(values) == 1 else round(math.fsum(values) / len(values), 9)
