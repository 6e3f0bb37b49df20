"""What `nsbench run` says at its end: what it found, against what, on how many images.

Figures and verdicts are those of the leaderboard, with the tests and the correction of the page: nothing is claimed here
that the page does not show. Differences are within one table, whose rows saw the same images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import AVERAGE, Row, Table, compare
from nsbench.report.answer import answer, headline
from nsbench.report.numbers import all_of, figure, seeds
from nsbench.report.words import (
    CONTROL,
    UNTOUCHED,
    ahead_of_all,
    apart,
    by_suite,
    change,
    images_of,
    listed,
    references_of,
    title_of,
    validity,
    verdict_words,
)


@dataclass(frozen=True, eq=False)
class Ran:
    """A row that a run made or found stored, and the suites that the run was about."""

    index: int  # in Table.rows
    row: Row
    suites: tuple[str, ...]  # in order of the columns

    @property
    def headline(self) -> str:
        """What is told first: the average where the run was about all of its suites, else the only suite, else ""."""
        paper = {suite for suite, cell in self.row.cells.items() if cell.results[0].paper}
        if self.row.average is not None and paper <= set(self.suites):
            return AVERAGE
        return self.suites[0] if len(self.suites) == 1 else ""


def closing_lines(table: Table, identities: Collection[str]) -> list[str]:
    """At most two lines about the rows that hold results of these identities; none where there is no such row."""
    ran = rows_of_run(table, identities)
    subjects = [one for one in ran if one.row.role not in (UNTOUCHED, CONTROL)] or ran
    if not subjects:
        return []
    return _of_one(table, subjects[0]) if len(subjects) == 1 else _of_several(table, ran)


def table_lines(table: Table, identities: Collection[str]) -> list[str]:
    """What the table says at its head on every page, without what the run's own lines say already."""
    ran = rows_of_run(table, identities)
    subjects = [one for one in ran if one.row.role not in (UNTOUCHED, CONTROL)] or ran
    alone = subjects[0] if len(subjects) == 1 else None
    told = {"confound"} if table.limit is not None else set()  # the first line says it
    if alone is None and len(ran) == len(table.rows):
        told.add("order")
    same = alone is not None and alone.headline == headline(table)
    return [
        one.sentence
        for one in answer(table)
        if one.about not in told
        and not (same and alone and one.about == "subject" and one.where.rows[0] == alone.row.label)
    ]


def rows_of_run(table: Table, identities: Collection[str]) -> list[Ran]:
    found = []
    for index, row in enumerate(table.rows):
        suites = tuple(
            column.suite
            for column in table.columns
            if (cell := row.cells.get(column.suite)) and any(result.identity in identities for result in cell.results)
        )
        if suites:
            found.append(Ran(index, row, suites))
    return found


# --- one method -----------------------------------------------------------------------------------------------------


def _of_one(table: Table, ran: Ran) -> list[str]:
    flags = dict.fromkeys(flag.name for flag in ran.row.flags)
    flagged = f" ⚑ {', '.join(flags)}: see what the flag says before you trust its figures." if flags else ""
    lines = [f"{ran.row.label}: {_measured(table, ran)}.{flagged}"]
    references = references_of(table, ran.index)
    told = {other.label: words for other in references if (words := _against(table, ran, other))}
    if told:
        lines.append(" ".join([*told.values(), validity([ran.row, *references])]))
    elif references:
        lines.append(f"Nothing to compare with {listed([other.label for other in references])}: see the page's notes.")
    else:
        lines.append("Nothing in its table to compare it with: run the matched control too (nsbench list methods).")
    return lines


def _measured(table: Table, ran: Ran) -> str:
    """The headline with its interval, or why there is none; the images and the seeds behind it."""
    cells = [ran.row.cells[suite] for suite in ran.suites]
    cell = ran.row.cell(ran.headline) if ran.headline else None
    drawn = cell.seeds if cell else sorted({seed for one in cells for seed in one.seeds})
    where = f"{images_of(table, cells)}, {seeds(drawn)}"
    if cell is None:
        return f"{len(ran.suites)} suites, {where}; the average needs {all_of(table)}"
    uncompared = f"; not compared: {cell.reason}" if cell.reason else ""
    interval = f"{figure(cell.value)} ({figure(cell.low)} to {figure(cell.high)})"
    return f"{title_of(table, ran.headline)} {interval}, {where}{uncompared}"


def _against(table: Table, ran: Ran, other: Row) -> str:
    """The differences from another row in words; "" where the two share nothing that may be compared."""
    found = {one.suite: one.delta for one in compare(table, ran.row.label, other.label)}
    first = found.get(ran.headline)
    told = [f"{change(first)}, {verdict_words(first)}"] if first else []
    shared = {suite: found[suite] for suite in ran.suites if suite in found}
    if len(ran.suites) > 1 and shared:
        told.append(by_suite(table, shared))
    return f"Against {other.label}: {'; '.join(told)}." if told else ""


# --- several methods ------------------------------------------------------------------------------------------------


def _of_several(table: Table, ran: Sequence[Ran]) -> list[str]:
    headlines = {one.headline for one in ran}
    headline = AVERAGE if AVERAGE in headlines else headlines.pop() if len(headlines) == 1 else ""
    cells = {one: cell for one in ran if headline and (cell := one.row.cell(headline)) and cell.comparable}
    if len(cells) < 2:
        return _suiteby_suite(table, ran)
    sign = -1 if any(c.suite == headline and c.lower_is_better for c in table.columns) else 1
    best = max(cells, key=lambda one: sign * cells[one].value)
    tied = [one for one in cells if one is not best and not apart(table, headline, best.index, one.index)]
    behind = [one for one in cells if one is not best and one not in tied]
    absent = [one.row.label for one in ran if one not in cells]
    return [
        f"Best of {len(cells)} rows: {best.row.label}, {_measured(table, best)}.",
        " ".join(
            [
                f"Cannot be told from it: {listed([one.row.label for one in tied])}.",
                f"Behind it: {listed([one.row.label for one in behind])}.",
                *([f"Without that figure: {listed(absent)}."] if absent else []),
                validity([one.row for one in cells]),
            ]
        ),
    ]


def _suiteby_suite(table: Table, ran: Sequence[Ran]) -> list[str]:
    """Where there is no common figure: the suites in which one row is ahead of all others of the run."""
    suites = [column.suite for column in table.columns if any(column.suite in one.suites for one in ran)]
    cells = [one.row.cells[suite] for one in ran for suite in one.suites]
    alone = [told for suite in suites if (told := _ahead(table, suite, ran))]
    return [
        f"{len(ran)} rows in {len(suites)} suite{'s' if len(suites) > 1 else ''}, {images_of(table, cells)}; "
        f"the average needs {all_of(table)}.",
        f"Ahead of all others of the run: {listed(alone)}. {validity([one.row for one in ran])}",
    ]


def _ahead(table: Table, suite: str, ran: Sequence[Ran]) -> str:
    """ "NS on C"; "" where no row can be told from all others."""
    mine = [one for one in ran if suite in one.suites and one.row.cells[suite].comparable]
    if len(mine) < 2:
        return ""
    best = ahead_of_all(table, suite, [one.index for one in mine])
    column = next(column for column in table.columns if column.suite == suite)
    return "" if best is None else f"{table.rows[best].label} on {column.title}"
