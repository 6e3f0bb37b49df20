"""What stands beside the figures: effective robustness, cost, health flags, ranks over suites.

Effective robustness is accuracy under a shift beyond what clean accuracy lets expect: the distance from the line fitted
on logit axes (R. Taori et al. 2020, NeurIPS, arXiv 2007.00644, section 2). The line here is that of the table's rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nsbench.health import flags_by_row
from nsbench.leaderboard.averages import averaged, mean
from nsbench.leaderboard.outcomes import Reader
from nsbench.leaderboard.pairs import ALPHA
from nsbench.leaderboard.records import Column, CriticalDifference, EffectiveLine, Row, RowCost, RowFlag
from nsbench.results import Result
from nsbench.statistics import cliques, friedman, nemenyi_difference

FEWEST_ROWS = 3  # a line through two points says nothing
FEWEST_SUITES = 3  # ranks over two suites tell nothing apart


def cost(results: Sequence[Result]) -> RowCost:
    """Of training once (mean over weights) and of all evaluations."""
    own = [result.provenance for result in results]
    newest = max(results, key=lambda r: (r.provenance.date, r.identity))
    seconds = [one.seconds for one in own if one.seconds is not None]
    return RowCost(
        _of_one_fit((one.weights_digest, one.fit_seconds) for one in own),
        sum(seconds) if seconds else None,
        _of_one_fit((one.weights_digest, one.forward_equivalents) for one in own),
        max((one.peak_memory_mib for one in own if one.peak_memory_mib), default=None),
        newest.provenance.device,
    )


def _of_one_fit(values: Iterable[tuple[str, float | None]]) -> float | None:
    """Mean over weights, by their digests: the results on one set of weights share its training."""
    known = {digest: value for digest, value in values if value is not None}
    return sum(known.values()) / len(known) if known else None


def row_flags(row: Row, reader: Reader) -> tuple[RowFlag, ...]:
    """Health flags of each seed; where files cannot be read there are none."""
    several = len({result.seed for result in row.results}) > 1
    return tuple(
        RowFlag(flag.name, flag.sentence, flag.suites, seed if several else None)
        for (*_, seed, _), flags in flags_by_row(row.results, reader).items()
        for flag in flags
    )


def effective_line(clean: Column, column: Column, rows: Sequence[Row]) -> tuple[EffectiveLine, dict[str, float]] | str:
    """The fitted line and each row's distance from it in percentage points, or why there is none."""
    points = [(row.label, *both) for row in rows if (both := _of_the_same_weights(row, clean, column))]
    different = len({one for _, one, _ in points})
    if different < FEWEST_ROWS:
        return (
            f"a line needs at least {FEWEST_ROWS} rows of different clean accuracy with both figures; this table "
            f"has {different}"
        )
    x, y = (_logit(np.array([point[axis] for point in points])) for axis in (1, 2))
    slope, intercept = map(float, np.polyfit(x, y, 1))
    expected = 100 / (1 + np.exp(-(intercept + slope * x)))
    beyond = {label: float(two - level) for (label, _, two), level in zip(points, expected, strict=True)}
    return EffectiveLine(column.suite, slope, intercept, tuple(points)), beyond


def _of_the_same_weights(row: Row, clean: Column, column: Column) -> tuple[float, float] | None:
    """Clean and shifted accuracy in percent, over the seeds that have both; None where a seed's are of other weights."""
    cells = [row.cells.get(one.suite) for one in (clean, column)]
    plain, shifted = ({one.seed: one for one in cell.results} if cell and cell.comparable else {} for cell in cells)
    both = [(plain[seed], shifted[seed]) for seed in sorted(plain.keys() & shifted.keys())]
    if not both or any(one.provenance.weights_digest != other.provenance.weights_digest for one, other in both):
        return None
    before, after = ([_accuracy(one) for one in mine] for mine in zip(*both, strict=True))
    known = [one for one in (*before, *after) if one is not None]
    return (mean(known[: len(both)]), mean(known[len(both) :])) if len(known) == 2 * len(both) else None


def _accuracy(result: Result) -> float | None:
    """In percent; of a score of errors the plain mean over the conditions that it counts."""
    return _mean_accuracy(result) if result.lower_is_better else result.score.value


def _mean_accuracy(result: Result) -> float | None:
    """In percent, over the conditions that count; None where the score does not say which do."""
    if result.score.made_of is None:
        return None
    counted = [name for name, weight in result.score.made_of.weights.items() if weight]
    accuracies = [one.accuracy for one in result.conditions if one.name in counted]
    return sum(accuracies) / len(accuracies) if accuracies else None


def _logit(percent: np.ndarray) -> np.ndarray:
    share = np.clip(percent / 100, 1e-4, 1 - 1e-4)
    return np.log(share / (1 - share))


def critical_difference(columns: Sequence[Column], rows: Sequence[Row]) -> CriticalDifference | None:
    """Over the paper's columns, of rows that have them all, each of one set of weights a seed; where these are fewer
    than three, over common columns.

    None for fewer than three rows or suites. Where Friedman's test at 5 % finds no difference at all, Nemenyi's may
    claim none either, and all rows are one clique.
    """
    columns = [column for column in columns if column.paper]
    complete = [row for row in rows if all(_fair(row, column) for column in columns)]
    if len(complete) < FEWEST_ROWS:
        columns, complete = [column for column in columns if all(_fair(row, column) for row in rows)], list(rows)
    if len(columns) < FEWEST_SUITES:
        return None
    complete = [row for row in complete if averaged({one.suite: row.cells[one.suite] for one in columns}, [])]
    if len(complete) < FEWEST_ROWS:
        return None
    sign: Mapping[bool, int] = {True: -1, False: 1}
    ranks, p = friedman(
        np.array([[sign[c.lower_is_better] * row.cells[c.suite].value for c in columns] for row in complete])
    )
    order = np.argsort(ranks, kind="stable")
    difference = nemenyi_difference(len(complete), len(columns))
    joined = cliques(ranks[order], difference) if p <= ALPHA else [tuple(range(len(order)))]
    return CriticalDifference(
        tuple(c.suite for c in columns),
        tuple(complete[i].label for i in order),
        tuple(ranks[order].tolist()),
        difference,
        p,
        tuple(joined),
    )


def _fair(row: Row, column: Column) -> bool:
    return column.suite in row.cells and row.cells[column.suite].comparable
