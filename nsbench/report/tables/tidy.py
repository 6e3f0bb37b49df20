"""The leaderboard as data: a tidy CSV with a line per row and column, and JSON with everything that the page shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pandas as pd

from nsbench.leaderboard import AVERAGE, Cell, Column, Leaderboard, Row, Table
from nsbench.report.numbers import average_column
from nsbench.report.published import beside, published_rows

FORMAT = 1  # of the JSON; raise it when a key changes its meaning or goes
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def to_csv(board: Leaderboard) -> str:
    """One line per table, row and column, the average among them. Intervals and differences are in the column's unit.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    records = [
        _record(table, row, column, cell)
        for table in board.tables
        for row in table.rows
        for column in [*table.columns, average_column(table)]
        if (cell := row.cell(column.suite))
    ]
    frame = pd.DataFrame(records, columns=list(_record_keys()))
    return frame.to_csv(index=False, lineterminator="\n")


def _record(table: Table, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    first = cell.results[0] if cell.results else None
    recipe = (first.provenance.get("recipe") or {}) if first else {}
    delta, rank = cell.delta, cell.rank or (None, None)
    values = {
        "source": table.source,
        "image_set": table.image_set,
        "preprocessing": table.preprocessing,
        "model": row.model,
        "method": row.method,
        "label": row.label,
        "recipe": recipe.get("name"),
        "suite": column.suite,
        "title": column.title,
        "group": column.group,
        "unit": column.unit,
        "lower_is_better": column.lower_is_better,
        "suite_version": column.version,
        "value": cell.value,
        "low": cell.low,
        "high": cell.high,
        "n": cell.n,
        "seeds": " ".join(map(str, cell.seeds)),
        "seed_deviation": cell.deviation,
        "rank_first": rank[0],
        "rank_last": rank[1],
        "best": cell.best,
        "not_separable_from_best": cell.tied,
        "comparable": cell.comparable,
        "reason": cell.reason,
        "unpaired": cell.unpaired,
        "reference": delta.reference if delta else None,
        "difference": delta.value if delta else None,
        "difference_low": delta.low if delta else None,
        "difference_high": delta.high if delta else None,
        "p": delta.p if delta else None,
        "p_holm": delta.adjusted if delta else None,
        "verdict": delta.verdict if delta else None,
        "effective_robustness": row.effective.get(column.suite),
        "fit_seconds": row.cost.fit_seconds if row.cost else None,
        "forward_equivalents": row.cost.forward_equivalents if row.cost else None,
        "evaluation_seconds": sum(r.provenance.get("seconds") or 0 for r in cell.results) or None,
        "peak_memory_mib": row.cost.peak_memory_mib if row.cost else None,
        "device": row.cost.device if row.cost else None,
        "health": " ".join(f"{flag.name}: {flag.sentence}" for flag in row.flags if column.suite in flag.suites),
        "weights_digest": first.provenance.get("weights_digest") if first else None,
        "data_digest": first.provenance.get("data_digest") if first else None,
    }
    return {key: _harmless(value) for key, value in values.items()}


def _record_keys() -> tuple[str, ...]:
    nothing = Cell(0, 0, 0, 0, (), None)
    column = Column("", "", "", 0, False, "", False, 0, "", "")
    return tuple(_record(Table("", "", "", (), ()), Row("", "", "", (), {}, None), column, nothing))


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
        "rows": [_row(row) for row in table.rows],
        "effective_robustness_lines": [asdict(line) | {"fitted_on": line.fitted_on} for line in table.lines],
        "no_effective_robustness": dict(table.no_lines),
        "critical_difference": asdict(table.critical) if table.critical else None,
        "published": [asdict(row) for row in published_rows(table.source, *table.models)],
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
                "weights_digest": r.provenance.get("weights_digest"),
                "data_digest": r.provenance.get("data_digest"),
                "outcomes_sha256": r.outcomes_sha256,
            }
            for r in cell.results
        ],
    }
