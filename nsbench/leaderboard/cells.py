"""Columns, rows and cells of one table, before anything is compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nsbench.leaderboard.averages import at_a_bound, mean, spread, widened
from nsbench.leaderboard.extras import cost
from nsbench.leaderboard.matrices import SuiteEvidence, is_trained
from nsbench.leaderboard.records import Cell, Column, Row
from nsbench.results import Result
from nsbench.results.comparability import Common, Measured, kin_of, qualifiers, row_key
from nsbench.types import GROUPS


def columns_of(results: Sequence[Result], known: Mapping[int, Measured]) -> tuple[list[Column], dict[str, Measured]]:
    """Columns in order of display, and by suite what its cells are held against; `known`: by id(result)."""
    newest: dict[str, Result] = {}
    for result in sorted(results, key=lambda r: (r.suite_version, _date(r), r.identity)):
        newest[result.suite] = result
    columns = [
        Column(
            r.suite,
            r.title,
            r.group,
            r.order,
            r.lower_is_better,
            r.unit,
            r.paper,
            r.suite_version,
            r.summary,
            r.citation,
        )
        for r in newest.values()
    ]
    position = {group: index for index, group in enumerate(GROUPS)}
    columns.sort(key=lambda c: (position.get(c.group, len(GROUPS)), c.order, c.title, c.suite))
    by_suite = defaultdict(list)
    for result in results:
        by_suite[result.suite].append(result)
    references = {column.suite: _reference(column, by_suite[column.suite], known) for column in columns}
    return [_named(column, references[column.suite]) for column in columns], references


def _named(column: Column, reference: Measured) -> Column:
    """Its title says where its images were resized, or made at another size."""
    apart = reference.size_apart
    return replace(column, title=f"{column.title} ({apart})", size_apart=apart) if apart else column


def _reference(column: Column, results: Sequence[Result], known: Mapping[int, Measured]) -> Measured:
    """What a column's cells are held against: the newest suite version, and there what most results share."""
    mine = [(known[id(r)], r.score.n) for r in results if r.suite_version == column.version]
    counts = Counter(one.fingerprint for one, _ in mine)
    return max(mine, key=lambda each: (counts[each[0].fingerprint], each[1], each[0].fingerprint))[0]


def rows_of(
    results: Sequence[Result],
    references: Mapping[str, Measured],
    known: Mapping[int, Measured],
) -> list[Row]:
    by_row = defaultdict(list)
    for result in results:
        by_row[row_key(result)].append(result)
    by_method = defaultdict(list)
    for mine in by_row.values():
        by_method[mine[0].method, mine[0].model].append(mine[0])
    common = Common.of([mine[0] for mine in by_row.values()])
    several_models = len({result.model for result in results}) > 1
    rows = [
        _row(
            mine,
            references,
            known,
            (
                *((mine[0].model,) if several_models else ()),
                *qualifiers(mine[0], by_method[mine[0].method, mine[0].model], common),
            ),
        )
        for mine in by_row.values()
    ]
    return _told_apart(rows)


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """Rows by labels of their own: views look rows up by them. Titles are what results state, and may be alike."""
    rows = _qualified(rows, lambda row, _: f"method {row.method}")
    rows = _qualified(rows, lambda row, _: "with a recipe" if row.kin.recipe else "no recipe")
    return _qualified(rows, lambda _, place: f"row {place}")


def _qualified(rows: Sequence[Row], word: Callable[[Row, int], str]) -> list[Row]:
    """With a further qualifier where a label is there more than once and it tells rows apart; `place` among its like,
    from 1, whatever the order of results."""
    alike: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: min(result.identity for result in row.results)):
        alike[row.label].append(row)
    words = {id(row): word(row, place) for group in alike.values() for place, row in enumerate(group, 1)}
    telling = {label: len({words[id(row)] for row in group}) > 1 for label, group in alike.items()}
    return [replace(row, qualifiers=(*row.qualifiers, words[id(row)])) if telling[row.label] else row for row in rows]


def _row(
    results: Sequence[Result], references: Mapping[str, Measured], known: Mapping[int, Measured], words: tuple[str, ...]
) -> Row:
    by_suite = defaultdict(list)
    for result in results:
        by_suite[result.suite].append(result)
    notes: list[str] = []
    cells = {suite: _cell(mine, references[suite], known, notes) for suite, mine in by_suite.items()}
    newest = max(results, key=lambda r: (_date(r), r.identity))
    return Row(
        newest.method,
        newest.method_title,
        newest.method_summary,
        words,
        cells,
        None,
        tuple(notes),
        order=newest.method_order,
        model=newest.model,
        cost=cost(results),
        kin=kin_of(newest),
        role=newest.method_role,
    )


def _cell(results: Sequence[Result], reference: Measured, known: Mapping[int, Measured], notes: list[str]) -> Cell:
    """The cell of one row and suite: what is comparable where there is any, and of each seed the newest."""
    measured = [(r, known[id(r)]) for r in results]
    newest_of_all = max(measured, key=lambda each: (_date(each[0]), each[0].identity))[1]
    fitting = [each for each in measured if not each[1].reason_apart(reference)] or [
        each for each in measured if each[1].fingerprint == newest_of_all.fingerprint
    ]
    newest = {r.seed: r for r, _ in sorted(fitting, key=lambda each: (_date(each[0]), each[0].identity))}
    chosen = tuple(newest[seed] for seed in sorted(newest))
    if len(chosen) < len(results):
        notes.append(f"{results[0].title}: {len(results) - len(chosen)} older or incomparable result(s) not shown")
    values = [r.score.value for r in chosen]
    return Cell(
        mean(values),
        *widened([r.score for r in chosen]),
        min(r.score.n for r in chosen),
        tuple(sorted(newest)),
        *spread(values),
        reason=fitting[0][1].reason_apart(reference),
        trained=is_trained(chosen),
        results=chosen,
    )


def intervals_over_seeds(cells: Mapping[int, Cell], evidence: SuiteEvidence) -> dict[int, Cell]:
    """Cells of several seeds of one column, by row, with the intervals over images and trainings."""
    methods = evidence.methods
    assert methods is not None, "a cell has several seeds"
    changed = {}
    for row, cell in cells.items():
        place = methods.rows.index(row)
        if row in evidence.accuracy:
            low, high = methods.trained.accuracy_interval(place)
        elif all(map(at_a_bound, cell.results)):
            continue  # no image differs, in no training: the seeds' own intervals are wider
        else:
            low, high = methods.trained.interval(place)
        changed[row] = replace(cell, low=low, high=high)
    return changed


def _date(result: Result) -> str:
    return result.provenance.date
