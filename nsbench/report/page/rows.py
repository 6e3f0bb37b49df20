"""Which rows the page draws in detail, which it compares, and all paired differences as numbers for its script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from nsbench.leaderboard import Row, RowComparison, Table, compare
from nsbench.leaderboard.deltas import compare_all
from nsbench.report.numbers import figure, pvalue

SUBJECT = "subject"  # the role of the method that the benchmark asks about
LANDMARKS = ("control", "untouched")  # roles of methods that a chart of a few rows shows in any case


@dataclass(frozen=True)
class Limits:
    """Larger tables keep every row in the table and show these many elsewhere, so that a thousand rows open at once."""

    places: int = 16  # rows of a suite's dot-and-whisker chart
    lines: int = 8  # rows of curves, norms and heat maps: as many as there are colours
    cards: int = 60  # methods with a card of their own; 0: none, not even of the landmarks
    pairs: int = 50  # the largest table whose pairs of rows are all on the page
    at_first: int = 200  # rows of a table that the screen shows before it is asked for all
    sentences: int = 100  # the largest table each of whose figures brings all about it in words, and its provenance

    numbers: int = 100  # lines of a figure whose numbers are on the page of a large board of a site
    pictures: bool = True

    @classmethod
    def of(cls, detail: int | None) -> Limits:
        """The usual ones, or `detail` rows in every chart and as many cards."""
        return cls() if detail is None else cls(detail, detail, detail)


def drawn(rows: Sequence[Row], most: int) -> list[Row]:
    """The rows of a chart, in their order: all, or the first ones and the landmarks."""
    if len(rows) <= most:
        return list(rows)
    kept = {id(row) for row in landmarks(rows)}
    for row in rows:
        if len(kept) >= most:
            break
        kept.add(id(row))
    return [row for row in rows if id(row) in kept]


def landmarks(rows: Sequence[Row]) -> list[Row]:
    """Of each role of LANDMARKS the first row that has it, if there is one."""
    found = (next((row for row in rows if row.role == role), None) for role in LANDMARKS)
    return [row for row in found if row is not None]


def left_out(shown: int, rows: int, what: str) -> str:
    """What a reader is told about rows that are not drawn; "" where all are."""
    if shown >= rows:
        return ""
    return (
        f"{what}: {shown} of {rows:,} rows, the first ones and the control; all are in the table. "
        f"For more: nsbench report --detail {min(rows, 4 * shown)}"
    )


# --- comparisons ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Differences:
    """Every pair of a table's rows in every column, and the comparison that the page shows at first."""

    by_suite: Mapping[
        str, Sequence[tuple[int, int, RowComparison]]
    ]  # in the order of the first row, then of the second
    first: int  # position of the row that the page compares at first
    second: int
    initial: Mapping[str, RowComparison]  # by suite: `first` with `second`

    @property
    def numbers(self) -> dict[str, list[list[float]]]:
        """By suite the rows that may be compared, then of each two of them, in order, one list: [value, low, high, p, only
        first right, only second right].

        Differences are first minus second in hundredths of the column's unit, that print as the differences do; p is after
        Holm, in hundred-thousandths; the two counts are left out where there are none.
        """
        return {
            suite: [
                sorted({row for first, second, _ in pairs for row in (first, second)}),
                *(_numbers(one) for *_, one in pairs),
            ]
            for suite, pairs in self.by_suite.items()
        }

    @property
    def packed(self) -> str:
        """`numbers` without a needless byte."""
        return json.dumps(self.numbers, separators=(",", ":"))


def differences(table: Table, most: int) -> Differences | None:
    """None for a table with nothing to compare, or with more than `most` rows."""
    if not 2 <= len(table.rows) <= most or table.evidence is None:
        return None
    first, second = initial_pair(table)
    initial = compare(table, table.rows[first].label, table.rows[second].label)
    return Differences(compare_all(table), first, second, {one.suite: one for one in initial})


def references(table: Table) -> list[int | None]:
    """For each row the position of the row that its differences are against."""
    position = {row.label: index for index, row in enumerate(table.rows)}
    return [
        next((position.get(cell.delta.reference) for cell in row.cells.values() if cell.delta), None)
        for row in table.rows
    ]


def reference_name(table: Table) -> str:
    """What differences are against in this table, in words; "" where no row has a reference."""
    rows = [table.rows[other] for other in references(table) if other is not None]
    if any(row.role == "control" for row in rows):
        return "matched control"
    return rows[0].label if rows else ""


def initial_pair(table: Table) -> tuple[int, int]:
    """The subject of the benchmark with its reference, or the best trained row that has one; else the two best rows, or
    the only one twice.

    Rows of the folder that the table is made of go before those that another folder lends.
    """
    pairs = [(row, other) for row, other in enumerate(references(table)) if other is not None]
    trained = [pair for pair in pairs if any(one.provenance.recipe for one in table.rows[pair[0]].results)]
    asked = [pair for pair in pairs if table.rows[pair[0]].role == SUBJECT]
    chosen = asked or trained or pairs or [(0, min(1, len(table.rows) - 1))]
    return next((pair for pair in chosen if not table.rows[pair[0]].lender), chosen[0])


def hundredths(value: float) -> int:
    """Rounded, but to the side that prints as the value does: 4 of 0.0451, because 0.05 would print as 0.1."""
    near = round(100 * value)
    return near if figure(near / 100) == figure(value) else near + (1 if 100 * value > near else -1)


def hundred_thousandths(p: float) -> int:
    """Rounded up, so that no p is called smaller than it is, unless that would print otherwise."""
    least = min(100_000, ceil(100_000 * p))
    return least if pvalue(least / 100_000) == pvalue(p) else least - 1


def _numbers(one: RowComparison) -> list[float]:
    found = [hundredths(end) for end in (one.delta.value, one.delta.low, one.delta.high)]
    p = hundred_thousandths(one.delta.adjusted)
    return [*found, p, *(count for count in (one.only_first, one.only_second) if count is not None)]
