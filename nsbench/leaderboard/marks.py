"""What a table says of its figures, once they are tested: best, ties, ranks, deltas, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nsbench.leaderboard.averages import AverageColumn
from nsbench.leaderboard.deltas import column_deltas, reference_of
from nsbench.leaderboard.extras import critical_difference, effective_line
from nsbench.leaderboard.matrices import Evidence
from nsbench.leaderboard.pairs import AVERAGE, Pairs
from nsbench.leaderboard.records import Cell, Column, EffectiveLine, Row, Table
from nsbench.statistics import rank_ranges, separable_neighbours


def fair_cells(rows: Sequence[Row], suite: str) -> dict[int, Cell]:
    """By position of the row: the cells that may be compared."""
    return {i: row.cells[suite] for i, row in enumerate(rows) if suite in row.cells and row.cells[suite].comparable}


def mark(
    rows: Sequence[Row],
    columns: Sequence[Column],
    averages: AverageColumn,
    pairs: Mapping[str, Pairs],
    evidence: Evidence,
    reference: str | None,
    partial: bool,
) -> Table:
    """The table with best, ties, rank ranges, deltas and what stands beside the figures."""
    references, labels = reference_of(rows, reference), [row.label for row in rows]
    changed: list[dict[str, Cell]] = [dict(row.cells) for row in rows]
    told = []
    for column in columns:
        cells = fair_cells(rows, column.suite)
        ranked, neighbours = _ranked(cells, pairs[column.suite], column.lower_is_better)
        deltas = column_deltas(
            column.suite, cells, references, labels, column.lower_is_better, pairs[column.suite], evidence
        )
        for i, cell in ranked.items():
            changed[i][column.suite] = replace(cell, delta=deltas.get(i))
        told.append(replace(column, neighbours=neighbours))
    rows = [replace(row, cells=mine) for row, mine in zip(rows, changed, strict=True)]
    rows, neighbours = _with_average(rows, averages, pairs, evidence, references, labels, partial)
    lines, no_lines, rows = _with_lines(told, rows)
    critical = critical_difference(told, rows)
    return Table("", "", "", tuple(told), tuple(rows), neighbours, (), lines, no_lines, critical, pairs, evidence)


def _with_average(
    rows: Sequence[Row],
    averages: AverageColumn,
    pairs: Mapping[str, Pairs],
    evidence: Evidence,
    references: Sequence[int | None],
    labels: Sequence[str],
    partial: bool,
) -> tuple[list[Row], tuple[int, int]]:
    if not averages.cells:
        return list(rows), (0, 0)
    ranked, neighbours = _ranked(averages.cells, pairs[AVERAGE], False)
    deltas = column_deltas(AVERAGE, averages.cells, references, labels, False, pairs[AVERAGE], evidence, averages.sums)
    changed = list(rows)
    for i, cell in ranked.items():
        told = replace(cell, delta=deltas.get(i))
        row = replace(rows[i], rank=told.rank)
        changed[i] = replace(row, partial=told) if partial else replace(row, average=told)
    return changed, neighbours


def _ranked(cells: Mapping[int, Cell], pairs: Pairs, lower_is_better: bool) -> tuple[dict[int, Cell], tuple[int, int]]:
    """Best, ties with it, and rank ranges; nothing for a row that stands alone."""
    if len(cells) < 2:
        return dict(cells), (0, 0)
    value = np.array([cell.value for cell in cells.values()]) * (-1 if lower_is_better else 1)
    separable = pairs.separable()
    best, ranks = int(value.argmax()), rank_ranges(value, separable)
    return {
        i: replace(
            cell,
            best=bool(value[k] == value[best]),
            rank=ranks[k],
            tied=bool(value[k] != value[best] and not separable[k, best]),
        )
        for k, (i, cell) in enumerate(cells.items())
    }, separable_neighbours(value, separable)


def _with_lines(
    columns: Sequence[Column],
    rows: Sequence[Row],
) -> tuple[tuple[EffectiveLine, ...], dict[str, str], list[Row]]:
    """Lines, why columns under shift have none, and the rows with their effective robustness."""
    clean = next((column for column in columns if column.group == "clean"), None)
    by_suite = {
        column.suite: effective_line(clean, column, rows) if clean else "no row has a clean accuracy"
        for column in columns
        if column.group == "ood"
    }
    fitted = [one for one in by_suite.values() if not isinstance(one, str)]
    beyond = [
        {line.suite: distances[row.label] for line, distances in fitted if row.label in distances} for row in rows
    ]
    return (
        tuple(line for line, _ in fitted),
        {suite: one for suite, one in by_suite.items() if isinstance(one, str)},
        [replace(row, effective=mine) for row, mine in zip(rows, beyond, strict=True)],
    )
