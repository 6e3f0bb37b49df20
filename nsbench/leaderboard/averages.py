"""The average over suites: which results it is of, its value over seeds, its interval over images.

The interval is the percentile bootstrap over images, drawn once for all suites that share them and for all rows. Where
per-image outcomes are missing it is Zou & Donner's combination of the suites' own intervals, which is never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nsbench.leaderboard.matrices import Evidence, pool_of
from nsbench.leaderboard.pairs import column_pvalues
from nsbench.leaderboard.records import Cell
from nsbench.results import Result
from nsbench.statistics import average, paired_pvalues, percentile_interval, resampled_sums
from nsbench.types import Score

NO_OUTCOMES = "per-image outcomes of some suites are missing"


@dataclass(frozen=True)
class Averaged:
    """What one row's average is of."""

    seeds: tuple[int, ...]
    results: Mapping[str, Sequence[Result]]  # by suite: one for each of the seeds


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


def average_column(rows: Mapping[int, Averaged], evidence: Evidence) -> AverageColumn:
    """Values, intervals and pairwise p values; `rows` by position in the table, all over the same suites."""
    if not rows:
        return AverageColumn({}, np.empty(0), {})
    paired = {row: one for row, one in rows.items() if not _unreadable(row, one, evidence)}
    sums: dict[int, np.ndarray] = {}
    pvalues = None
    if paired:
        first = next(iter(paired.values()))
        strata = evidence.average_strata(
            {row: one.results for row, one in paired.items()},
            {suite: mine[0].lower_is_better for suite, mine in first.results.items()},
            {suite: pool_of(mine[0]) for suite, mine in first.results.items()},
        )
        sums = dict(zip(paired, resampled_sums(strata).T, strict=True))
        pvalues = paired_pvalues(strata) if len(paired) > 1 else None
    cells = {row: _cell(one, sums.get(row)) for row, one in rows.items()}
    p = column_pvalues(
        [cell.value for cell in cells.values()],
        [(cell.low, cell.high) for cell in cells.values()],
        pvalues,
        [index for index, row in enumerate(rows) if row in paired],
    )
    return AverageColumn(cells, p, sums)


def _unreadable(row: int, one: Averaged, evidence: Evidence) -> bool:
    return any((row, suite) in evidence.reasons for suite in one.results)


def _cell(one: Averaged, sums: np.ndarray | None) -> Cell:
    scores = [_score([r for mine in one.results.values() for r in mine if r.seed == seed]) for seed in one.seeds]
    values = [score.value for score in scores]
    low, high = (
        (_mean([s.low for s in scores]), _mean([s.high for s in scores]))
        if sums is None
        else map(float, percentile_interval(sums))
    )
    return Cell(
        _mean(values), low, high, scores[0].n, one.seeds, *spread(values), unpaired=NO_OUTCOMES if sums is None else ""
    )


def _score(results: Sequence[Result]) -> Score:
    return average([r.score for r in results], [r.lower_is_better for r in results], [pool_of(r) for r in results])


def spread(values: Sequence[float]) -> tuple[tuple[float, float] | None, float | None]:
    """(least, greatest) and standard deviation over seeds; None for one seed."""
    if len(values) < 2:
        return None, None
    mean = _mean(values)
    return (min(values), max(values)), math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
