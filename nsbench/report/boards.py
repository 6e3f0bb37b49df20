"""The leaderboard of a results folder, with rows that another folder lends where that is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsbench.errors import ResultError
from nsbench.leaderboard import Kept, Leaderboard, Lender, build
from nsbench.report.closing import closing_lines, table_lines
from nsbench.results import Result, read_result, read_results
from nsbench.results.comparability import TableKey, by_table


@dataclass(frozen=True)
class LendingFolder:
    """A results folder that lends its rows: see `leaderboard.lent`."""

    folder: Path
    name: str  # its rows are marked as "from <name>"


def read_board(
    folder: Path, lending: LendingFolder | None = None, *, reference: str | None = None, partial: bool = False
) -> Leaderboard:
    """For the options see `leaderboard.build`. What is no result, in either folder, is among the board's problems."""
    results, problems = read_results(folder)
    lender, wrong = lender_of(lending, results)
    every = [*problems, *wrong]
    return build(results, every, reference=reference, partial=partial, lender=lender, kept=Kept.of_user())


def findings(
    folder: Path, made: Collection[str], limit: int | None = None, lending: LendingFolder | None = None
) -> list[str]:
    """What a run with this `limit` has found that made or found results of these identities in `folder`, and what its
    table says: see `closing`."""
    identities, tables = set(made), by_table(read_results(folder)[0])
    if not made or not tables:
        return []
    key = max(tables, key=lambda key: _share(key, tables[key], limit, identities))
    results = tables[key]
    board = build(results, lender=lender_of(lending, results)[0], kept=Kept.of_user())
    mine = [table for table in board.tables if (table.source, table.image_set, table.preprocessing) == key.place]
    return [line for table in mine for line in (*closing_lines(table, identities), *table_lines(table, identities))]


def _share(
    key: TableKey, results: Sequence[Result], limit: int | None, identities: Collection[str]
) -> tuple[int, bool]:
    """How many of a run's results a table holds, and whether it is the one that the run asked for."""
    return sum(result.identity in identities for result in results), key.images.limit == limit


def lender_of(lending: LendingFolder | None, own: Sequence[Result]) -> tuple[Lender | None, list[str]]:
    """Who lends rows to these results, with its own, and a line for each of its files that is no result.

    Read of the other folder only what may join: the same suites and seeds, which files are named by.
    """
    if lending is None:
        return None, []
    names, found, problems = {f"{one.suite}.seed{one.seed}" for one in own}, [], []
    for path in sorted(lending.folder.rglob("*.json")):
        if ".".join(path.name.split(".")[:2]) in names:
            try:
                found.append(read_result(path))
            except ResultError as error:
                problems.append(str(error))
    return Lender(lending.name, found), problems
