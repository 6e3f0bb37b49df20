"""What a table says, in at most three sentences made of its tests, for every view.

First the method that the benchmark asks about against its control and the checkpoint; then what is ahead of what; then
the largest confound. Figures, verdicts and p values are the table's own, after Holm's correction over all of its pairs:
a sentence claims nothing that the page does not show, and each says where the page shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nsbench.leaderboard import AVERAGE, BETTER, NOT_SEPARABLE, WORSE, Delta, Row, Table, compare
from nsbench.report.notes import cells_apart
from nsbench.report.numbers import THESE_WEIGHTS, figure, signed
from nsbench.report.words import (
    CONTROL,
    SUBJECT,
    UNTOUCHED,
    ahead_of_all,
    by_suite,
    certainty,
    listed,
    references_of,
    title_of,
)

NAMED = 5  # rows of a list; more are counted
UNEQUAL = 1.25  # times the work of its control, from which on equal steps are no equal compute


@dataclass(frozen=True)
class Where:
    """What of a page holds the evidence of a sentence."""

    kind: Literal["compare", "column", "method", "health", "notes", "table"]
    rows: tuple[str, ...] = ()  # labels: of the two that are compared, or of one method
    suite: str = ""  # of a column, or AVERAGE


@dataclass(frozen=True)
class Finding:
    sentence: str
    where: Where
    about: Literal["subject", "order", "confound"] = "confound"


def answer(table: Table) -> tuple[Finding, ...]:
    """At most three sentences; none for a table with nothing to compare."""
    if len(table.rows) < 2 or table.evidence is None:
        return ()
    subject = _of_subject(table)
    order = _of_order(table, subject is not None)
    found = (subject and replace(subject, about="subject"), order and replace(order, about="order"), _confound(table))
    return tuple(one for one in found if one is not None)


def headline(table: Table) -> str:
    """What rows are compared by first: the average where two have it, else the only column, else ""."""
    if len(_fair(table, AVERAGE)) > 1:
        return AVERAGE
    suites = [column.suite for column in table.columns if len(_fair(table, column.suite)) > 1]
    return suites[0] if len(suites) == 1 else ""


def _fair(table: Table, suite: str) -> dict[int, float]:
    """By position of the row: the values that are compared in a column, or in the average."""
    pairs = table.pairs.get(suite)
    cells = {index: table.rows[index].cell(suite) for index in (pairs.rows if pairs else ())}
    return {index: cell.value for index, cell in cells.items() if cell is not None}


def _by(table: Table, suite: str) -> str:
    """Opens a sentence."""
    if suite != AVERAGE:
        return f"On {title_of(table, suite)}"
    return "By average" if not table.partial_suites else f"By {title_of(table, suite)}"


# --- the method that the benchmark asks about -----------------------------------------------------------------------


def _of_subject(table: Table) -> Finding | None:
    """The subject, or the first row that has a control, against that and the checkpoint; None without any of them."""
    subject = _subject(table)
    if subject is None:
        return None
    row, suite = table.rows[subject], headline(table)
    found = [(other, _deltas(table, row, other)) for other in references_of(table, subject)]
    told = [(other, deltas) for other, deltas in found if deltas and (suite in deltas or not suite)]
    if not told:
        return None
    where = Where("compare", (row.label, told[0][0].label))
    if not suite:
        parts = [f"against {_named(other)}: {by_suite(table, deltas)}" for other, deltas in told]
        once = any(delta.of_weights for _, deltas in told for delta in deltas.values())
        return Finding(f"{row.label} {'; '.join(parts)}{f' ({THESE_WEIGHTS})' if once else ''}.", where)
    parts = [_against(_named(other), deltas[suite]) for other, deltas in told]
    return Finding(f"{_by(table, suite)}, {row.label} {listed(parts)}{_differing(table, suite, *told[0])}.", where)


def _subject(table: Table) -> int | None:
    """Rows of the folder itself go before those that another one lends."""
    places = sorted(range(len(table.rows)), key=lambda index: bool(table.rows[index].lender))
    asked = [i for i in places if table.rows[i].role == SUBJECT and references_of(table, i)]
    others = [i for i in places if table.rows[i].role == "" and references_of(table, i)]
    return next(iter(asked or others), None)


def _deltas(table: Table, row: Row, other: Row) -> dict[str, Delta]:
    return {one.suite: one.delta for one in compare(table, row.label, other.label)}


def _named(row: Row) -> str:
    what = {CONTROL: "its matched control", UNTOUCHED: "the untouched checkpoint"}[row.role]
    return f"{row.label}, {what}"


def _against(other: str, delta: Delta) -> str:
    """ "is better than finetune, its matched control (+0.9, +0.2 to +1.6; p = 0.012 after Holm)"."""
    verdict = {BETTER: "is better than", WORSE: "is worse than", NOT_SEPARABLE: "cannot be told from"}[delta.verdict]
    figures = f"{signed(delta.value)}, {signed(delta.low)} to {signed(delta.high)}"
    return f"{verdict} {other} ({figures}; {certainty(delta)})"


def _differing(table: Table, suite: str, other: Row, deltas: Mapping[str, Delta]) -> str:
    """Where the average hides differences by suite from the first reference: these."""
    rest = {name: delta for name, delta in deltas.items() if name != AVERAGE}
    if suite != AVERAGE or all(delta.verdict == NOT_SEPARABLE for delta in rest.values()):
        return ""
    return f"; against {other.label} it is {by_suite(table, rest)}"


# --- all rows -------------------------------------------------------------------------------------------------------


def _of_order(table: Table, is_second: bool) -> Finding | None:
    """What the best row is ahead of, and what cannot be told from it; None where the first sentence said it all."""
    suite = headline(table)
    if not suite:
        return _suite_by_suite(table)
    values = _fair(table, suite)
    if len(values) < 3 and is_second:
        return None
    lower = any(column.suite == suite and column.lower_is_better for column in table.columns)
    order = sorted(values, key=lambda index: values[index] if lower else -values[index])
    return Finding(_order(table, suite, order, _ahead_of(table, suite, order)), Where("column", suite=suite))


def _ahead_of(table: Table, suite: str, order: Sequence[int]) -> dict[int, list[int]]:
    """By row, best first: the rows before it that it can be told from."""
    pairs = table.pairs[suite]
    separable, place = pairs.separable(), {row: k for k, row in enumerate(pairs.rows)}
    return {
        row: [other for other in order[:k] if separable[place[other], place[row]]] for k, row in enumerate(order) if k
    }


def _order(table: Table, suite: str, order: Sequence[int], behind: Mapping[int, Sequence[int]]) -> str:
    """`order`: best first; `behind`: for each other row those that are ahead of it."""
    best, *others = order
    cell, names = table.rows[best].cell(suite), {index: table.rows[index].label for index in order}
    assert cell is not None
    first = f"{names[best]} ({figure(cell.value)}, {figure(cell.low)} to {figure(cell.high)})"
    apart_from = [index for index in others if best in behind[index]]
    tied = [names[index] for index in others if index not in apart_from]
    weights = f" ({THESE_WEIGHTS})" if any(_once(table, suite, index) for index in order) else ""
    if not tied:
        return f"{_by(table, suite)}, {first} is ahead of {_all(list(names.values())[1:])}{weights}."
    told = f"{_by(table, suite)}, {first} comes first and cannot be told from {listed(tied, NAMED)}"
    if apart_from:
        return f"{told}; it is ahead of {listed([names[index] for index in apart_from], NAMED)}{weights}."
    last = max(others, key=lambda index: len(behind[index]))
    ahead = listed([names[index] for index in behind[last]], NAMED)
    return f"{told}; {names[last]} is behind {ahead}{weights}." if behind[last] else f"{told}."


def _all(names: Sequence[str]) -> str:
    """ "finetune"; "all 5 others"."""
    return names[0] if len(names) == 1 else f"{'both' if len(names) == 2 else f'all {len(names):,}'} others"


def _once(table: Table, suite: str, index: int) -> bool:
    cell = table.rows[index].cell(suite)
    return cell is not None and cell.of_weights


def _suite_by_suite(table: Table) -> Finding | None:
    """Without a common figure: the columns in which one row is ahead of all others."""
    fair = {column.suite: list(_fair(table, column.suite)) for column in table.columns}
    suites = [suite for suite, rows in fair.items() if len(rows) > 1]
    ahead = {suite: best for suite in suites if (best := ahead_of_all(table, suite, fair[suite])) is not None}
    if not suites:
        return None
    told = [f"{table.rows[best].label} on {title_of(table, suite)}" for suite, best in ahead.items()]
    once = any(_once(table, suite, index) for suite in ahead for index in fair[suite])
    weights = f" ({THESE_WEIGHTS})" if once else ""
    if not told:
        return Finding(f"On none of {len(suites)} suites is one row ahead of all others.", Where("table"))
    rest = len(suites) - len(told)
    others = f"; on {'the other suite' if rest == 1 else f'{rest} other suites'} no row is" if rest else ""
    where = Where("column", suite=next(iter(ahead)))
    return Finding(f"Ahead of all others{weights}: {listed(told, NAMED)}{others}.", where)


# --- the largest confound -------------------------------------------------------------------------------------------


def _confound(table: Table) -> Finding | None:
    """What most limits the sentences before: the first of these that there is."""
    kinds = (_flagged, _limited, _uncompared, _trained_once, _of_other_kin, _unequal)
    return next((found for kind in kinds if (found := kind(table)) is not None), None)


def _flagged(table: Table) -> Finding | None:
    flags = [(row, flag) for row in table.rows for flag in row.flags]
    if not flags:
        return None
    (row, flag), rows = flags[0], len({row.label for row, _ in flags})
    more = f", and flags of {rows - 1} other row{'s' if rows > 2 else ''}" if rows > 1 else ""
    return Finding(
        f"First look at the health flag “{flag.name}” of {row.label}{more}: figures of it may flatter.", Where("health")
    )


def _limited(table: Table) -> Finding | None:
    if table.limit is None:
        return None
    return Finding(f"At most {table.limit:,} images per condition: good for a look, not for a claim.", Where("table"))


def _uncompared(table: Table) -> Finding | None:
    found = cells_apart(table)
    if not found:
        return None
    first, many = found[0], f"{len(found)} figures are" if len(found) > 1 else "One figure is"
    such = ", such as" if len(found) > 1 else ":"
    return Finding(
        f"{many} left out of every comparison{such} {first.label}, {first.title} ({first.reason}).", Where("notes")
    )


def _trained_once(table: Table) -> Finding | None:
    trained = [row for row in table.rows if row.kin.recipe]
    once = [row for row in trained if row.of_weights]
    if not once:
        return None
    which = "Every trained row is" if len(once) == len(trained) else f"{len(once)} of {len(trained)} trained rows are"
    return Finding(
        f"{which} of one training, so that what is said of {'them' if len(once) > 1 else 'it'} is said of "
        f"{THESE_WEIGHTS} and not of {'methods' if len(once) > 1 else 'the method'}.",
        Where("notes"),
    )


def _of_other_kin(table: Table) -> Finding | None:
    """Rows that differ in more than method."""
    trained = [row for row in table.rows if row.kin.recipe]
    kinds: dict[str, set[object]] = {
        "model": {row.kin.model for row in table.rows},
        "starting weights": {row.kin.parent_digest for row in table.rows},
        "normalisation": {row.kin.normalisation for row in table.rows},
        "recipe": {row.kin.recipe for row in trained},
    }
    differ = [f"{name} ({len(values)})" for name, values in kinds.items() if len(values) > 1]
    if not differ:
        return None
    return Finding(f"Rows differ in more than their method: {listed(differ)}.", Where("table"))


def _unequal(table: Table) -> Finding | None:
    """Under equal steps methods do unequal work: the subject, or whoever did the most, against the control."""
    control = next((row for row in table.rows if row.role == CONTROL and _work(row)), None)
    if control is None:
        return None
    others = [row for row in table.rows if _work(row) and row is not control]
    subjects = [row for row in others if row.role == SUBJECT]
    chosen = max(subjects or others, key=_work, default=None)
    if chosen is None or _work(chosen) < UNEQUAL * _work(control):
        return None
    times = _work(chosen) / _work(control)
    return Finding(
        f"Equal steps are not equal compute: {chosen.label} took {times:.1f} times the forward passes of {control.label}.",
        Where("method", (chosen.label,)),
    )


def _work(row: Row) -> float:
    """Forward passes of its training; 0 where they are not known."""
    return (row.cost.forward_equivalents if row.cost else None) or 0.0
