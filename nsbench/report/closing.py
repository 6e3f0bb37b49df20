"""What `nsbench run` says at its end: what it found, against what, on how many images.

Figures and verdicts are those of the leaderboard, with the tests and the correction of the page: nothing is claimed here
that the page does not show. Differences are within one table, whose rows saw the same images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import AVERAGE, BETTER, NOT_SEPARABLE, WORSE, Cell, Delta, Row, Table, compare
from nsbench.leaderboard.deltas import reference_of
from nsbench.leaderboard.pairs import ALPHA, UNPAIRED
from nsbench.report.numbers import THESE_WEIGHTS, all_of, figure, pvalue, seeds, signed

UNTOUCHED, CONTROL = "untouched", "control"  # roles of methods that others are compared with: see types.ROLES


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
    references = _references(table, ran)
    told = {other.label: words for other in references if (words := _against(table, ran, other))}
    if told:
        lines.append(" ".join([*told.values(), _validity([ran.row, *references])]))
    elif references:
        lines.append(f"Nothing to compare with {_listed([other.label for other in references])}: see the page's notes.")
    else:
        lines.append("Nothing in its table to compare it with: run the matched control too (nsbench list methods).")
    return lines


def _measured(table: Table, ran: Ran) -> str:
    """The headline with its interval, or why there is none; the images and the seeds behind it."""
    cells = [ran.row.cells[suite] for suite in ran.suites]
    cell = ran.row.cell(ran.headline) if ran.headline else None
    drawn = cell.seeds if cell else sorted({seed for one in cells for seed in one.seeds})
    where = f"{_images(table, cells)}, {seeds(drawn)}"
    if cell is None:
        return f"{len(ran.suites)} suites, {where}; the average needs {all_of(table)}"
    apart = f"; not compared: {cell.reason}" if cell.reason else ""
    interval = f"{figure(cell.value)} ({figure(cell.low)} to {figure(cell.high)})"
    return f"{_title(table, ran.headline)} {interval}, {where}{apart}"


def _references(table: Table, ran: Ran) -> list[Row]:
    """The matched control and the untouched checkpoint, as far as the table has them."""
    control = reference_of(table.rows, None)[ran.index]
    untouched = [
        row
        for row in table.rows
        if row.role == UNTOUCHED and row is not ran.row and row.kin.checkpoint == ran.row.kin.checkpoint
    ]
    return [*([table.rows[control]] if control is not None else []), *untouched[:1]]


def _against(table: Table, ran: Ran, other: Row) -> str:
    """The differences from another row in words; "" where the two share nothing that may be compared."""
    found = {one.suite: one.delta for one in compare(table, ran.row.label, other.label)}
    first = found.get(ran.headline)
    told = [f"{signed(first.value)} ({signed(first.low)} to {signed(first.high)}), {_verdict(first)}"] if first else []
    shared = {suite: found[suite] for suite in ran.suites if suite in found}
    if len(ran.suites) > 1 and shared:
        told.append(_by_suite(table, shared))
    return f"Against {other.label}: {'; '.join(told)}." if told else ""


def _verdict(delta: Delta) -> str:
    verdict = "cannot be told apart" if delta.verdict == NOT_SEPARABLE else delta.verdict
    how = ", by their intervals alone" if delta.test.startswith(UNPAIRED) else ""
    of_what = f", {THESE_WEIGHTS}" if delta.of_weights else ""
    return f"{verdict} ({pvalue(delta.adjusted)} after Holm{how}{of_what})"


def _by_suite(table: Table, deltas: dict[str, Delta]) -> str:
    """ "better on C and Sketch of 11 suites, worse on none"."""
    titles = {column.suite: column.title for column in table.columns}
    better, worse = (
        [titles[suite] for suite, delta in deltas.items() if delta.verdict == verdict] for verdict in (BETTER, WORSE)
    )
    if not better and not worse:
        return f"cannot be told apart on any of {len(deltas)} suites"
    return f"better on {_listed(better)} of {len(deltas)} suites, worse on {_listed(worse)}"


# --- several methods ------------------------------------------------------------------------------------------------


def _of_several(table: Table, ran: Sequence[Ran]) -> list[str]:
    headlines = {one.headline for one in ran}
    headline = AVERAGE if AVERAGE in headlines else headlines.pop() if len(headlines) == 1 else ""
    cells = {one: cell for one in ran if headline and (cell := one.row.cell(headline)) and cell.comparable}
    if len(cells) < 2:
        return _suite_by_suite(table, ran)
    sign = -1 if any(c.suite == headline and c.lower_is_better for c in table.columns) else 1
    best = max(cells, key=lambda one: sign * cells[one].value)
    tied = [one for one in cells if one is not best and not _apart(table, headline, best, one)]
    behind = [one for one in cells if one is not best and one not in tied]
    absent = [one.row.label for one in ran if one not in cells]
    return [
        f"Best of {len(cells)} rows: {best.row.label}, {_measured(table, best)}.",
        " ".join(
            [
                f"Cannot be told from it: {_listed([one.row.label for one in tied])}.",
                f"Behind it: {_listed([one.row.label for one in behind])}.",
                *([f"Without that figure: {_listed(absent)}."] if absent else []),
                _validity([one.row for one in cells]),
            ]
        ),
    ]


def _suite_by_suite(table: Table, ran: Sequence[Ran]) -> list[str]:
    """Where there is no common figure: the suites in which one row is ahead of all others of the run."""
    suites = [column.suite for column in table.columns if any(column.suite in one.suites for one in ran)]
    cells = [one.row.cells[suite] for one in ran for suite in one.suites]
    alone = [told for suite in suites if (told := _ahead(table, suite, ran))]
    return [
        f"{len(ran)} rows in {len(suites)} suite{'s' if len(suites) > 1 else ''}, {_images(table, cells)}; "
        f"the average needs {all_of(table)}.",
        f"Ahead of all others of the run: {_listed(alone)}. {_validity([one.row for one in ran])}",
    ]


def _ahead(table: Table, suite: str, ran: Sequence[Ran]) -> str:
    """ "NS on C"; "" where no row can be told from all others."""
    mine = [one for one in ran if suite in one.suites and one.row.cells[suite].comparable]
    if len(mine) < 2:
        return ""
    column = next(column for column in table.columns if column.suite == suite)
    sign = -1 if column.lower_is_better else 1
    best = max(mine, key=lambda one: sign * one.row.cells[suite].value)
    if all(_apart(table, suite, best, one) for one in mine if one is not best):
        return f"{best.row.label} on {column.title}"
    return ""


def _apart(table: Table, suite: str, one: Ran, other: Ran) -> bool:
    return table.pairs[suite].at(one.index, other.index)[1] <= ALPHA


# --- words ----------------------------------------------------------------------------------------------------------


def _title(table: Table, suite: str) -> str:
    if suite == AVERAGE:
        return "average of the eleven suites" if not table.own_suites else f"average of {all_of(table)}"
    column = next(column for column in table.columns if column.suite == suite)
    return f"{column.title}{' (lower is better)' if column.lower_is_better else ''}"


def _images(table: Table, cells: Sequence[Cell]) -> str:
    least, most = min(cell.n for cell in cells), max(cell.n for cell in cells)
    many = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    few = "" if table.limit is None else " (a part of them: good for a look, not for a claim)"
    return f"on {many} images of {table.source}{' each' if len(cells) > 1 else ''}{few}"


def _validity(rows: Sequence[Row]) -> str:
    """What the tests speak of."""
    if not any(row.kin.recipe for row in rows):
        return "Tests are over images."
    if any(row.of_weights for row in rows):
        return "Tests with a row of one training are over images: they speak of these weights, not of the method."
    return "Tests are over images and trainings."


def _listed(words: Sequence[str]) -> str:
    """ "a, b and c"; "none"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"
