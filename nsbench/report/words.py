"""Words for what a table's tests say: one definition each, for the sentences above a table and at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nsbench.leaderboard import AVERAGE, BETTER, NOT_SEPARABLE, WORSE, Cell, Delta, Row, Table
from nsbench.leaderboard.deltas import control_of, controls_of
from nsbench.leaderboard.pairs import ALPHA, UNPAIRED
from nsbench.report.numbers import THESE_WEIGHTS, all_of, pvalue, signed

SUBJECT, CONTROL, UNTOUCHED = "subject", "control", "untouched"  # roles of methods: see types.ROLES


def references_of(table: Table, index: int) -> list[Row]:
    """The matched control of a row and the untouched checkpoint, as far as the table has them."""
    row, control = table.rows[index], control_of(table.rows, index, controls_of(table.rows))
    untouched = [
        other
        for other in table.rows
        if other.role == UNTOUCHED and other is not row and other.kin.checkpoint == row.kin.checkpoint
    ]
    return [*([table.rows[control]] if control is not None else []), *untouched[:1]]


def apart(table: Table, suite: str, one: int, other: int) -> bool:
    """Whether two rows, by position, can be told apart in a column, or by average, after Holm's correction."""
    return table.pairs[suite].at(one, other)[1] <= ALPHA


def ahead_of_all(table: Table, suite: str, rows: Sequence[int]) -> int | None:
    """The row of these that can be told from all others, and is better; None where there is none."""
    lower = any(column.suite == suite and column.lower_is_better for column in table.columns)
    values = {index: cell.value for index in rows if (cell := table.rows[index].cell(suite))}
    best = max(values, key=lambda index: -values[index] if lower else values[index])
    return best if all(apart(table, suite, best, index) for index in values if index != best) else None


def title_of(table: Table, suite: str) -> str:
    if suite == AVERAGE and table.partial_suites:
        return f"partial average of {len(table.partial_suites)} suites"
    if suite == AVERAGE:
        return "average of the eleven suites" if not table.own_suites else f"average of {all_of(table)}"
    column = next(column for column in table.columns if column.suite == suite)
    return f"{column.title}{' (lower is better)' if column.lower_is_better else ''}"


def change(delta: Delta) -> str:
    """ "+0.2 (−0.1 to +0.5)"."""
    return f"{signed(delta.value)} ({signed(delta.low)} to {signed(delta.high)})"


def certainty(delta: Delta) -> str:
    """ "p = 0.012 after Holm", with what it rests on and speaks of where that is less than all."""
    how = ", by their intervals alone" if delta.test.startswith(UNPAIRED) else ""
    of_what = f", {THESE_WEIGHTS}" if delta.of_weights else ""
    return f"{pvalue(delta.adjusted)} after Holm{how}{of_what}"


def verdict_words(delta: Delta) -> str:
    verdict = "cannot be told apart" if delta.verdict == NOT_SEPARABLE else delta.verdict
    return f"{verdict} ({certainty(delta)})"


def by_suite(table: Table, deltas: Mapping[str, Delta]) -> str:
    """ "better on C and Sketch of 11 suites, worse on none"."""
    titles = {column.suite: column.title for column in table.columns}
    better, worse = (
        [titles[suite] for suite, delta in deltas.items() if delta.verdict == verdict] for verdict in (BETTER, WORSE)
    )
    if not better and not worse:
        return f"cannot be told apart on any of {len(deltas)} suites"
    return f"better on {listed(better)} of {len(deltas)} suites, worse on {listed(worse)}"


def images_of(table: Table, cells: Sequence[Cell]) -> str:
    least, most = min(cell.n for cell in cells), max(cell.n for cell in cells)
    many = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    few = "" if table.limit is None else " (a part of them: good for a look, not for a claim)"
    return f"on {many} images of {table.source}{' each' if len(cells) > 1 else ''}{few}"


def validity(rows: Sequence[Row]) -> str:
    """What the tests speak of."""
    if not any(row.kin.recipe for row in rows):
        return "Tests are over images."
    if any(row.of_weights for row in rows):
        return "Tests with a row of one training are over images: they speak of these weights, not of the method."
    return "Tests are over images and trainings."


def listed(words: Sequence[str], most: int | None = None) -> str:
    """ "a, b and c"; "a, b and 7 more" beyond so many; "none"."""
    if most is not None and len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1:,} more"]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"
