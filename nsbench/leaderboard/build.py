"""Results -> tables with rows, columns, cells, ranks. A pure function, so that every view shows the same thing.

A table holds one source, one image set (all images, or a limit) and one preprocessing (see `comparability`): nothing in
it is compared across these. Within a column only cells of the same suite version, images and preparation are compared;
any other is shown apart with the reason, and so is a figure that its outcomes do not give (see `verify`). Missing cells
are missing, never zero, and an average needs all of the paper's eleven. Two cells are separable when a test on the same
images says so after Holm's correction over the whole table.

Results that differ in their seed alone are one row. Its figure is the mean over seeds; intervals and tests take images
and trainings as drawn, so they speak of the method. A row that was trained once has an interval and tests over images
alone, which speak of these weights: nothing is known of how another training would come out.

Another folder may lend rows to a table (see `lent`): they are marked, and take part in every comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nsbench.files import without_collection
from nsbench.leaderboard.averages import AverageColumn, Averaged, average_column, averaged
from nsbench.leaderboard.cells import columns_of, intervals_over_seeds, rows_of
from nsbench.leaderboard.deltas import find_row
from nsbench.leaderboard.extras import row_flags
from nsbench.leaderboard.history import with_history, with_new
from nsbench.leaderboard.kept import Kept
from nsbench.leaderboard.lent import Lender, lent
from nsbench.leaderboard.marks import fair_cells, mark
from nsbench.leaderboard.matrices import Evidence, SuiteEvidence
from nsbench.leaderboard.outcomes import Reader
from nsbench.leaderboard.pairs import AVERAGE, column_pvalues, corrected, suite_pvalues
from nsbench.leaderboard.records import Cell, Column, Leaderboard, Row, Table
from nsbench.results import Result
from nsbench.results.comparability import Measured, TableKey, by_table

PAPER_COLUMNS = 11  # the average of the paper's table 2 is over these


@without_collection()
def build(
    results: Iterable[Result],
    problems: Iterable[str] = (),
    *,
    reference: str | None = None,
    partial: bool = False,
    lender: Lender | None = None,
    kept: Kept | None = None,
) -> Leaderboard:
    """The leaderboard of these results; the order of `results` does not matter.

    `reference`: label or method of the row that deltas are against, instead of each row's matched control. `partial`:
    where rows lack one of the eleven, average over the suites that all rows have. `lender`: whose rows join the tables
    that they fit. `kept`: what earlier boards found, which changes nothing but the time that this one takes. Raises
    UsageError where a reference was asked for and no table has that row.
    """
    own, others = by_table(results), lender.results if lender else ()
    offered = {key: [one for one in others if key.takes(one)] for key in own}
    known = _measured(result for mine in (*own.values(), *offered.values()) for result in mine)
    joined = {key: lent(own[key], offered[key], known) for key in own}
    reader = Reader()
    kept = Kept() if kept is None else kept
    evidence = {key: Evidence(reader) for key in own}
    tables = tuple(
        _table(key, own[key], joined[key], known, mine, kept, lender.name if lender else "", reference, partial)
        for key, mine in evidence.items()
    )
    if reference is not None and not any(_has(table.rows, reference) for table in tables):
        find_row([row for table in tables for row in table.rows], reference)  # raises, naming the rows
    withheld = dict.fromkeys(line for mine in evidence.values() for line in mine.withheld)
    return Leaderboard(tables, (*problems, *withheld))


def _measured(results: Iterable[Result]) -> dict[int, Measured]:
    """By id(result). Results that measured the same share the object: a column of a thousand rows has one."""
    shared: dict[str, Measured] = {}
    found = {}
    for result in results:
        one = Measured.of(result)
        found[id(result)] = shared.setdefault(f"{one.size_apart} {one.fingerprint}", one)
    return found


def _has(rows: Sequence[Row], reference: str) -> bool:
    return any(reference in (row.label, row.method, row.title) for row in rows)


def _table(
    key: TableKey,
    own: Sequence[Result],
    joined: Sequence[Result],
    known: Mapping[int, Measured],
    evidence: Evidence,
    kept: Kept,
    lender: str,
    reference: str | None,
    partial: bool,
) -> Table:
    results, borrowed = [*own, *joined], {id(result) for result in joined}
    columns, references = columns_of(results, known)
    rows = with_new(with_history(rows_of(results, references, known), results))
    rows = [_read(row, evidence, kept) for row in rows]
    kept.save()
    rows = [_marked(row, lender) if id(row.results[0]) in borrowed else row for row in rows]
    notes: list[list[str]] = [[] for _ in rows]
    own_suites = max((result.paper_suites for result in results), key=len, default=())
    held = [_of_eleven(row, own_suites, mine) for row, mine in zip(rows, notes, strict=True)]
    common = _common(columns, rows) if partial and not all(held) else ()
    chosen = [_over(row, common, mine) for row, mine in zip(rows, notes, strict=True)] if common else held
    order = sorted(range(len(rows)), key=lambda i: _place(rows[i], chosen[i], columns))
    rows = [replace(rows[i], notes=(*rows[i].notes, *notes[i])) for i in order]
    held, chosen = [held[i] for i in order], [chosen[i] for i in order]
    rows = _with_intervals(rows, columns, evidence)
    averages = average_column({i: one for i, one in enumerate(chosen) if one}, evidence)
    evidence.sums, evidence.average = averages.sums, averages.methods
    eleven = averages if not common else average_column({i: one for i, one in enumerate(held) if one}, evidence)
    rows = [
        replace(row, average=eleven.cells.get(i), partial=averages.cells.get(i) if common else None)
        for i, row in enumerate(rows)
    ]
    pairs = corrected(_pvalues(rows, columns, averages, evidence))
    table = mark(
        rows, columns, averages, pairs, evidence, reference if _has(rows, reference or "") else None, bool(common)
    )
    return replace(
        table,
        source=key.source,
        image_set=str(key.images),
        limit=key.images.limit,
        preprocessing=key.preprocessing,
        partial_suites=common,
        own_suites=own_suites,
    )


def _marked(row: Row, lender: str) -> Row:
    """A row of another folder; its mark is part of its label, which every view shows."""
    return replace(row, lender=lender, qualifiers=(*row.qualifiers, f"from {lender}"))


def _read(row: Row, evidence: Evidence, kept: Kept) -> Row:
    """The row with its health flags, cells that are not verified apart. Each of its files is opened once, here."""
    cells, verified = dict(row.cells), True
    for suite, cell in row.cells.items():
        for result in cell.results:
            if why := kept.problem(result, evidence.reader):
                evidence.withheld.append(f"{result.path}: {why}; it is left out of marks, ranks and averages")
                cells[suite] = replace(cells[suite], reason=f"not what its outcomes give: {why}")
                verified = False
    row = replace(row, cells=cells)
    return replace(row, flags=kept.flags(row, evidence.reader) if verified else row_flags(row, evidence.reader))


# --- averages -------------------------------------------------------------------------------------------------------


def _of_eleven(row: Row, own_suites: Sequence[str], notes: list[str]) -> Averaged | None:
    """Of a source that has fewer of the paper's columns: over those."""
    paper = {suite: cell for suite, cell in row.cells.items() if cell.results[0].paper}
    paper = {suite: cell for suite, cell in paper.items() if not own_suites or suite in own_suites}
    if len(paper) != (len(own_suites) or PAPER_COLUMNS) or not all(cell.comparable for cell in paper.values()):
        return None
    return averaged(paper, notes)


def _common(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[str, ...]:
    """The paper's suites that every row has; at least two make an average."""
    suites = tuple(
        c.suite
        for c in columns
        if c.paper and all(c.suite in row.cells and row.cells[c.suite].comparable for row in rows)
    )
    return suites if len(suites) > 1 else ()


def _over(row: Row, suites: Sequence[str], notes: list[str]) -> Averaged | None:
    return averaged({suite: row.cells[suite] for suite in suites}, notes)


def _place(row: Row, average: Averaged | None, columns: Sequence[Column]) -> tuple[int, float, str]:
    """Best first: by average, then rows without one by the first figure of theirs that is compared; equal ones by name."""
    name = f"{row.label.casefold()} {row.label}"
    if average is not None:
        return -1, -_value(average), name
    column = row.first(columns)
    if column is None:
        return len(columns), 0.0, name
    value = row.cells[column.suite].value
    return columns.index(column), value if column.lower_is_better else -value, name


def _value(one: Averaged) -> float:
    """The average's value, for sorting."""
    values = [
        sum(100 - r.score.value if r.lower_is_better else r.score.value for r in mine) / len(mine)
        for mine in one.results.values()
    ]
    return sum(values) / len(values)


# --- intervals and tests --------------------------------------------------------------------------------------------


def _with_intervals(rows: Sequence[Row], columns: Sequence[Column], evidence: Evidence) -> list[Row]:
    """Read the outcomes; cells of several seeds get the interval over images and trainings."""
    changed: list[dict[str, Cell]] = [dict(row.cells) for row in rows]
    for column in columns:
        cells = fair_cells(rows, column.suite)
        evidence.add(column.suite, {i: cell.results for i, cell in cells.items()})
        several = {}
        for i, cell in cells.items():
            if why := evidence.reasons.get((i, column.suite), ""):
                changed[i][column.suite] = replace(cell, unpaired=why)
            elif len(cell.seeds) > 1:
                several[i] = cell
        if several:
            for i, cell in intervals_over_seeds(several, evidence.suites[column.suite]).items():
                changed[i][column.suite] = cell
    return [replace(row, cells=mine) for row, mine in zip(rows, changed, strict=True)]


def _pvalues(
    rows: Sequence[Row],
    columns: Sequence[Column],
    averages: AverageColumn,
    evidence: Evidence,
) -> dict[str, tuple[tuple[int, ...], np.ndarray]]:
    """By suite: the rows that may be compared, and the p value of each pair of them."""
    columns_p = {}
    for column in columns:
        cells = fair_cells(rows, column.suite)
        columns_p[column.suite] = tuple(cells), _column_pvalues(cells, evidence.suites.get(column.suite))
    if averages.cells:
        columns_p[AVERAGE] = tuple(averages.cells), averages.p
    return columns_p


def _column_pvalues(cells: Mapping[int, Cell], column: SuiteEvidence | None) -> np.ndarray:
    paired = [i for i in cells if column and i in column.values]
    p, where = None, []
    if column is not None and len(paired) > 1:
        single, accuracy = (np.array([i in mine for i in paired]) for mine in (column.single, column.accuracy))
        p = suite_pvalues(column.matrix(paired), single, accuracy)
        p = column.methods.pvalues(p) if column.methods else p
        where = [place for place, i in enumerate(cells) if i in column.values]
    values = [cell.value for cell in cells.values()]
    return column_pvalues(values, [(cell.low, cell.high) for cell in cells.values()], p, where)
