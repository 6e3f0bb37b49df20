"""What stands beside the figures: effective robustness, cost, health flags, ranks over suites.

Effective robustness is accuracy under a shift beyond what clean accuracy lets expect: the distance from the line fitted
on logit axes (R. Taori et al. 2020, NeurIPS, arXiv 2007.00644, section 2). The line here is that of the table's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nsbench.health import flags_by_row
from nsbench.leaderboard.outcomes import Reader
from nsbench.leaderboard.pairs import ALPHA
from nsbench.leaderboard.records import Cell, Column, CriticalDifference, EffectiveLine, Row, RowCost, RowFlag
from nsbench.results import Result
from nsbench.statistics import cliques, friedman, nemenyi_difference

FEWEST_ROWS = 3  # a line through two points says nothing
FEWEST_SUITES = 3  # ranks over two suites tell nothing apart


def cost(results: Sequence[Result]) -> RowCost:
    """Of training once (mean over weights) and of all evaluations."""
    newest = max(results, key=lambda r: (str(r.provenance.get("date") or ""), r.identity))
    memory = [own["peak_memory_mib"] for own in (r.provenance for r in results) if own.get("peak_memory_mib")]
    return RowCost(
        _of_one_fit(results, "fit_seconds"),
        _total(results, "seconds"),
        _of_one_fit(results, "forward_equivalents"),
        max(memory, default=None),
        str(newest.provenance.get("device") or ""),
    )


def _of_one_fit(results: Sequence[Result], key: str) -> float | None:
    """Mean over weights; the results on one set of weights share its training."""
    values = {
        r.provenance.get("weights_digest"): r.provenance[key] for r in results if r.provenance.get(key) is not None
    }
    return sum(values.values()) / len(values) if values else None


def _total(results: Sequence[Result], key: str) -> float | None:
    values = [r.provenance[key] for r in results if r.provenance.get(key) is not None]
    return sum(values) if values else None


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
    points = [
        (row.label, one, two)
        for row in rows
        if (one := shifted_accuracy(row.cells.get(clean.suite))) is not None
        and (two := shifted_accuracy(row.cells.get(column.suite))) is not None
    ]
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


def shifted_accuracy(cell: Cell | None) -> float | None:
    """Accuracy in percent; of a column of errors from its plain mean error, where it has one."""
    if cell is None or not cell.comparable:
        return None
    if not cell.results[0].lower_is_better:
        return cell.value
    errors = [r.score.extra["mean error"] for r in cell.results if "mean error" in r.score.extra]
    return 100 - sum(errors) / len(errors) if errors else None


def _logit(percent: np.ndarray) -> np.ndarray:
    share = np.clip(percent / 100, 1e-4, 1 - 1e-4)
    return np.log(share / (1 - share))


def critical_difference(columns: Sequence[Column], rows: Sequence[Row]) -> CriticalDifference | None:
    """Over the paper's columns, of rows that have them all; where these are fewer than three, over common columns.

    None for fewer than three rows or suites. Where Friedman's test at 5 % finds no difference at all, Nemenyi's may
    claim none either, and all rows are one clique.
    """
    columns = [column for column in columns if column.paper]
    complete = [row for row in rows if all(_fair(row, column) for column in columns)]
    if len(complete) < FEWEST_ROWS:
        columns, complete = [column for column in columns if all(_fair(row, column) for row in rows)], list(rows)
    if len(complete) < FEWEST_ROWS or len(columns) < FEWEST_SUITES:
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
