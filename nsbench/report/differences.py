"""All paired differences of a table as numbers for the page's script, and the comparison that it shows at first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from nsbench.leaderboard import RowComparison, Table, compare
from nsbench.leaderboard.deltas import compare_all
from nsbench.results.comparability import CONTROL

ABSENT = -1  # stands for a count that does not exist


@dataclass(frozen=True)
class Differences:
    """Every pair of a table's rows in every column."""

    by_suite: Mapping[str, Sequence[tuple[int, int, RowComparison]]]
    first: int  # position of the row that the page compares at first
    second: int
    initial: Mapping[str, RowComparison]  # by suite: `first` with `second`

    @property
    def numbers(self) -> dict[str, list[list[int]]]:
        """By suite one list for each pair: [first, second, low, high, p, only first right, only second right].

        Differences are first minus second in hundredths of the column's unit; p is after Holm, in hundred-thousandths
        (rounded up, so that no p is called smaller than it is); counts are ABSENT where no single test has them.
        """
        return {
            suite: [
                [
                    one,
                    two,
                    round(100 * c.delta.low),
                    round(100 * c.delta.high),
                    _rounded_up(c.delta.adjusted),
                    _count(c.only_first),
                    _count(c.only_second),
                ]
                for one, two, c in pairs
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
    if any(row.method == CONTROL for row in rows):
        return "matched control"
    return rows[0].label if rows else ""


def initial_pair(table: Table) -> tuple[int, int]:
    """The best trained row that has a reference, with that; without one the two best rows, or the only one twice."""
    pairs = [(row, other) for row, other in enumerate(references(table)) if other is not None]
    trained = [pair for pair in pairs if any(one.provenance.get("recipe") for one in table.rows[pair[0]].results)]
    return (trained or pairs or [(0, min(1, len(table.rows) - 1))])[0]


def _rounded_up(p: float) -> int:
    return min(100_000, ceil(100_000 * p))


def _count(found: int | None) -> int:
    return ABSENT if found is None else found
