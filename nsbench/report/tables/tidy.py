"""The leaderboard as data: a tidy frame or CSV with a line per row and column, and JSON with all that the page shows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from nsbench.leaderboard import AVERAGE, Cell, Column, Leaderboard, Row, Table
from nsbench.report.numbers import THESE_WEIGHTS, average_column
from nsbench.report.published import beside, published_of
from nsbench.report.side_columns import confidence
from nsbench.statistics.calibration import CALIBRATION, SELECTIVE, TOP5

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of the JSON; raise it when a key changes its meaning or goes
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run
_CONFIDENCE = ["top5_accuracy", "calibration_error", "selective_accuracy"]  # not in the CSV where nothing has them


@dataclass(frozen=True)
class Figure:
    """A line of the tidy frame: one cell with its table, row and column. None: there is none, or it is not known."""

    source: str
    image_set: str
    preprocessing: str
    model: str
    method: str
    label: str
    recipe: str | None
    suite: str  # or AVERAGE
    title: str
    group: str
    unit: str
    lower_is_better: bool
    suite_version: int
    value: float  # here and below: intervals and differences are in the column's unit
    low: float
    high: float
    n: int
    seeds: str  # "0 1 2"
    seed_deviation: float | None
    rank_first: int | None
    rank_last: int | None
    best: bool
    not_separable_from_best: bool
    comparable: bool
    reason: str  # why it is not; "" where it is
    unpaired: str
    reference: str | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    p_holm: float | None
    verdict: str | None
    verdict_of: str | None  # "methods", or "these weights" where one of the two was trained once
    effective_robustness: float | None  # percentage points
    top5_accuracy: float | None  # percent, as all three; see nsbench.statistics.calibration
    calibration_error: float | None
    selective_accuracy: float | None
    fit_seconds: float | None
    forward_equivalents: float | None
    evaluation_seconds: float | None
    peak_memory_mib: int | None
    device: str | None
    health: str
    weights_digest: str | None
    data_digest: str | None


def to_frame(board: Leaderboard) -> pd.DataFrame:
    """One line per table, row and column, the average among them; its columns are the fields of `Figure`."""
    import pandas as pd  # a page needs none

    found = [
        _figure(table, row, column, cell)
        for table in board.tables
        for row in table.rows
        for column in [*table.columns, average_column(table)]
        if (cell := row.cell(column.suite))
    ]
    return pd.DataFrame([vars(one) for one in found], columns=[field.name for field in fields(Figure)])


def to_csv(board: Leaderboard) -> str:
    """`to_frame`, without columns of confidence where nothing has any.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    frame = to_frame(board)
    frame = frame.drop(columns=[name for name in _CONFIDENCE if frame[name].isna().all()])
    return frame.map(_harmless).to_csv(index=False, lineterminator="\n")


def _figure(table: Table, row: Row, column: Column, cell: Cell) -> Figure:
    first = cell.results[0].provenance if cell.results else None
    delta, cost, rank = cell.delta, row.cost, cell.rank or (None, None)
    return Figure(
        source=table.source,
        image_set=table.image_set,
        preprocessing=table.preprocessing,
        model=row.model,
        method=row.method,
        label=row.label,
        recipe=first.recipe.name if first and first.recipe else None,
        suite=column.suite,
        title=column.title,
        group=column.group,
        unit=column.unit,
        lower_is_better=column.lower_is_better,
        suite_version=column.version,
        value=cell.value,
        low=cell.low,
        high=cell.high,
        n=cell.n,
        seeds=" ".join(map(str, cell.seeds)),
        seed_deviation=cell.deviation,
        rank_first=rank[0],
        rank_last=rank[1],
        best=cell.best,
        not_separable_from_best=cell.tied,
        comparable=cell.comparable,
        reason=cell.reason,
        unpaired=cell.unpaired,
        reference=delta.reference if delta else None,
        difference=delta.value if delta else None,
        difference_low=delta.low if delta else None,
        difference_high=delta.high if delta else None,
        p=delta.p if delta else None,
        p_holm=delta.adjusted if delta else None,
        verdict=delta.verdict if delta else None,
        verdict_of=(THESE_WEIGHTS if delta.of_weights else "methods") if delta else None,
        effective_robustness=row.effective.get(column.suite),
        top5_accuracy=cell.extra(TOP5),
        calibration_error=cell.extra(CALIBRATION),
        selective_accuracy=cell.extra(SELECTIVE),
        fit_seconds=cost.fit_seconds if cost else None,
        forward_equivalents=cost.forward_equivalents if cost else None,
        evaluation_seconds=sum(r.provenance.seconds or 0 for r in cell.results) or None,
        peak_memory_mib=cost.peak_memory_mib if cost else None,
        device=cost.device if cost else None,
        health=" ".join(f"{flag.name}: {flag.sentence}" for flag in row.flags if column.suite in flag.suites),
        weights_digest=first.weights_digest if first else None,
        data_digest=first.data_digest if first else None,
    )


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def to_json(board: Leaderboard) -> str:
    """Everything that the page shows, without the per-image outcomes."""
    record = {"format": FORMAT, "problems": list(board.problems), "tables": [_table(table) for table in board.tables]}
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    return {
        "source": table.source,
        "image_set": table.image_set,
        "preprocessing": table.preprocessing,
        "models": table.models,
        "partial_suites": list(table.partial_suites),
        "average_neighbours": list(table.average_neighbours),
        "columns": [asdict(column) for column in table.columns],
        "rows": [_row(row) | one for row, one in zip(table.rows, _confidences(table), strict=True)],
        "effective_robustness_lines": [asdict(line) | {"fitted_on": line.fitted_on} for line in table.lines],
        "no_effective_robustness": dict(table.no_lines),
        "critical_difference": asdict(table.critical) if table.critical else None,
        "published": [asdict(row) for row in published_of(table)],
        "beside_published": [
            {
                "label": one.label,
                "suite": one.suite,
                "value": one.ours.value,
                "published": one.published.figures[one.suite],
                "difference": one.difference,
                "reference": one.published.reference,
                "differs": list(one.differs),
            }
            for one in beside(table)
        ],
    }


def _confidences(table: Table) -> list[dict[str, Any]]:
    """Of each row its "confidence", by the figure's name; nothing where no row has any."""
    found = [confidence(table, row) for row in table.rows]
    return [{"confidence": one or None} if any(found) else {} for one in found]


def _row(row: Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "method": row.method,
        "title": row.title,
        "label": row.label,
        "qualifiers": list(row.qualifiers),
        "rank": list(row.rank) if row.rank else None,
        "notes": list(row.notes),
        "health_flags": [asdict(flag) for flag in row.flags],
        "cells": {suite: _cell(cell) for suite, cell in row.cells.items()},
        AVERAGE: _cell(row.average) if row.average else None,
        "partial": _cell(row.partial) if row.partial else None,
        "effective_robustness": dict(row.effective),
        "cost": asdict(row.cost) if row.cost else None,
        "new": row.new,
        "history": {suite: [asdict(one) for one in mine] for suite, mine in row.history.items()},
    }


def _cell(cell: Cell) -> dict[str, Any]:
    """A cell without its results, of which the identities and digests remain."""
    kept = ("value", "low", "high", "n", "seeds", "spread", "deviation", "reason", "unpaired", "best", "tied", "rank")
    return {key: getattr(cell, key) for key in kept} | {
        "delta": asdict(cell.delta) if cell.delta else None,
        "results": [
            {
                "seed": r.seed,
                "identity": r.identity,
                "weights_digest": r.provenance.weights_digest,
                "data_digest": r.provenance.data_digest,
                "outcomes_sha256": r.outcomes_sha256,
            }
            for r in cell.results
        ],
    }
