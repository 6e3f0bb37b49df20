"""A figure minus that of a reference row: by default the matched control, which shares model, recipe and steps.

Intervals are paired: over images and trainings where both rows may speak of methods, else over images: Bonett & Price's
for the accuracy of one seed, the percentile bootstrap of the difference for the rest. The verdict is that of the table's
corrected test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nsbench.errors import UsageError
from nsbench.leaderboard.matrices import Evidence, Methods, SuiteEvidence
from nsbench.leaderboard.pairs import ALPHA, AVERAGE, BOOTSTRAP, MCNEMAR, SEEDS, TRAININGS, UNPAIRED, Pairs
from nsbench.leaderboard.records import BETTER, NOT_SEPARABLE, WORSE, Cell, Delta, Row, Table
from nsbench.statistics import difference_interval, discordant, percentile_interval, resampled_sums

CONTROL = "control"  # the role of the rows that others are compared with: see types.ROLES


@dataclass(frozen=True)
class RowComparison:
    """Two rows in one column; `delta` is the first minus the second."""

    suite: str
    cell: Cell
    other: Cell
    delta: Delta
    only_first: float | None  # images that only the first has right, for accuracies: mean over all pairs of seeds
    only_second: float | None


def find_row(rows: Sequence[Row], name: str) -> int:
    """Position of the row with this label, or the only one of this method. Raises UsageError, naming the rows."""
    exact = [index for index, row in enumerate(rows) if row.label == name]
    named = exact or [index for index, row in enumerate(rows) if name in (row.method, row.title)]
    if len(named) == 1:
        return named[0]
    among = [rows[index].label for index in named] or [row.label for row in rows]
    what = f"names {len(named)} rows" if named else "is no row"
    raise UsageError(f"'{name}' {what} of this table; choose one of: {', '.join(among[:20])}")


def reference_of(rows: Sequence[Row], wanted: str | None) -> list[int | None]:
    """For each row the position of its reference; None for the reference itself and where there is none."""
    if wanted is not None:
        chosen = find_row(rows, wanted)
        return [None if index == chosen else chosen for index in range(len(rows))]
    controls = controls_of(rows)
    return [control_of(rows, index, controls) for index in range(len(rows))]


def controls_of(rows: Sequence[Row]) -> list[int]:
    return [index for index, row in enumerate(rows) if row.role == CONTROL]


def control_of(rows: Sequence[Row], index: int, controls: Sequence[int]) -> int | None:
    """The position of a row's matched control among `controls`; None of a control, and where there is none."""
    row = rows[index]
    if row.role == CONTROL:
        return None
    kin = [other for other in controls if rows[other].kin[:2] == row.kin[:2]]  # one model and normalisation
    exact = [other for other in kin if rows[other].kin == row.kin]
    if len(exact) == 1:
        return exact[0]
    return kin[0] if len(kin) == 1 and not row.kin.recipe else None  # an untrained row has no recipe to match


def column_deltas(
    suite: str,
    cells: Mapping[int, Cell],
    references: Sequence[int | None],
    labels: Sequence[str],
    lower_is_better: bool,
    pairs: Pairs,
    evidence: Evidence,
    sums: Mapping[int, np.ndarray] | None = None,
) -> dict[int, Delta]:
    """By row. `sums`: bootstrap resamples of each row, drawn together; made here where they are needed."""
    chosen = [
        (row, other) for row, other in enumerate(references) if other is not None and row in cells and other in cells
    ]
    column = evidence.suites.get(suite)
    sums = _resampled(column, chosen) if sums is None else sums
    return {
        row: _delta(
            cells[row],
            cells[other],
            labels[other],
            lower_is_better,
            pairs.at(row, other),
            _interval(row, other, cells, column, evidence.methods(suite), sums),
        )
        for row, other in chosen
    }


def compare(table: Table, first: str, second: str) -> list[RowComparison]:
    """Two rows of a table in the average and in every column that both may be compared in. Raises UsageError."""
    one, two = find_row(table.rows, first), find_row(table.rows, second)
    evidence, comparisons = table.evidence, []
    assert evidence is not None
    cells = {row: cell for row in (one, two) if (cell := table.rows[row].cell(AVERAGE))}
    if len({one, two}) == len(cells) and AVERAGE in table.pairs:
        comparisons.append(_comparison(table, AVERAGE, one, two, cells, False, evidence.sums))
    for column in table.columns:
        cells = {row: cell for row in (one, two) if (cell := table.rows[row].cells.get(column.suite))}
        if len({one, two}) == len(cells) and all(cell.comparable for cell in cells.values()):
            comparisons.append(_comparison(table, column.suite, one, two, cells, column.lower_is_better, None))
    return comparisons


def compare_all(table: Table) -> dict[str, list[tuple[int, int, RowComparison]]]:
    """By suite, and AVERAGE: all pairs of rows that may be compared, as (first, second, comparison), first < second."""
    evidence, comparisons = table.evidence, {}
    assert evidence is not None
    for suite, pairs in table.pairs.items():
        lower_is_better = any(column.lower_is_better for column in table.columns if column.suite == suite)
        cells = {row: cell for row in sorted(pairs.rows) if (cell := table.rows[row].cell(suite))}
        chosen = list(combinations(cells, 2))
        sums = evidence.sums if suite == AVERAGE else _resampled(evidence.suites.get(suite), chosen)
        comparisons[suite] = [
            (one, two, _comparison(table, suite, one, two, cells, lower_is_better, sums)) for one, two in chosen
        ]
    return comparisons


def _comparison(
    table: Table,
    suite: str,
    one: int,
    two: int,
    cells: Mapping[int, Cell],
    lower_is_better: bool,
    sums: Mapping[int, np.ndarray] | None,
) -> RowComparison:
    assert table.evidence is not None
    column = table.evidence.suites.get(suite)
    sums = _resampled(column, [(one, two)]) if sums is None else sums
    delta = _delta(
        cells[one],
        cells[two],
        table.rows[two].label,
        lower_is_better,
        table.pairs[suite].at(one, two),
        _interval(one, two, cells, column, table.evidence.methods(suite), sums),
    )
    if column is None or not {one, two} <= column.accuracy:
        return RowComparison(suite, cells[one], cells[two], delta, None, None)
    share, other = (column.values[row].astype(float) / 100 for row in (one, two))  # of seeds that have it right
    only_first, only_second = (round(float((a * (1 - b)).sum()), 1) for a, b in ((share, other), (other, share)))
    return RowComparison(suite, cells[one], cells[two], delta, only_first, only_second)


def _resampled(column: SuiteEvidence | None, chosen: Sequence[tuple[int, int]]) -> dict[int, np.ndarray]:
    """Bootstrap resamples of the rows whose differences have no closed interval; none where all intervals are over
    trainings."""
    if column is None or all(_of_trainings(column.methods, *pair) for pair in chosen):
        return {}
    rows = sorted({row for pair in chosen if not set(pair) <= column.single for row in pair if row in column.values})
    if not rows:
        return {}
    return dict(zip(rows, resampled_sums([column.matrix(rows) / len(column.images.ids)]).T, strict=True))


def _of_trainings(methods: Methods | None, row: int, other: int) -> bool:
    """Whether the interval of their difference is over trainings, and so needs no resamples of images."""
    return methods is not None and {row, other} <= set(methods.rows) and methods.speak(row, other)


def _interval(
    row: int,
    other: int,
    cells: Mapping[int, Cell],
    column: SuiteEvidence | None,
    methods: Methods | None,
    sums: Mapping[int, np.ndarray],
) -> tuple[float, float, str]:
    """Low, high and the name of the test."""
    if methods is not None and _of_trainings(methods, row, other):
        return *methods.difference(row, other, column is not None and {row, other} <= column.accuracy), TRAININGS
    if column is not None and {row, other} <= column.single:
        only, only_other, n = discordant(column.values[row] > 50, column.values[other] > 50)
        low, high = difference_interval(only, only_other, n)
        return 100 * float(low), 100 * float(high), MCNEMAR
    if row in sums and other in sums:
        low, high = percentile_interval(sums[row] - sums[other])
        accuracy = column is not None and {row, other} <= column.accuracy
        return float(low), float(high), SEEDS if accuracy else BOOTSTRAP
    one, two = cells[row], cells[other]
    value = one.value - two.value
    return (
        value - float(np.hypot(one.value - one.low, two.high - two.value)),
        value + float(np.hypot(one.high - one.value, two.value - two.low)),
        f"{UNPAIRED}: {one.unpaired or two.unpaired}",
    )


def _delta(
    cell: Cell,
    other: Cell,
    label: str,
    lower_is_better: bool,
    pvalues: tuple[float, float],
    interval: tuple[float, float, str],
) -> Delta:
    value, (p, adjusted), (low, high, test) = cell.value - other.value, pvalues, interval
    ahead = value < 0 if lower_is_better else value > 0
    verdict = NOT_SEPARABLE if adjusted > ALPHA else BETTER if ahead else WORSE
    return Delta(label, value, low, high, p, adjusted, verdict, test, cell.of_weights or other.of_weights)
