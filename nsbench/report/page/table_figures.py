"""The figures of a whole board: what colour each row has on all of them, and all figures of a table."""

from __future__ import annotations

from collections.abc import Mapping

from nsbench.leaderboard import AVERAGE, CriticalDifference, Leaderboard, Table
from nsbench.leaderboard.details import Details
from nsbench.report.numbers import average_column
from nsbench.report.page import suite_figures
from nsbench.report.page.charts import SERIES
from nsbench.report.page.rows import Limits, drawn
from nsbench.report.plots import Figure, Look, Ranks
from nsbench.report.tradeoffs import calibration, cost


def looks(board: Leaderboard) -> list[dict[str, Look]]:
    """Of each table, by label: a method has one colour on the whole board.

    Further rows of one colour (a method's other recipes, a ninth method) are drawn hollow.
    """
    order = {row.method: row.order for table in board.tables for row in table.rows}
    colours = {
        method: index % SERIES for index, method in enumerate(sorted(order, key=lambda name: (order[name], name)))
    }
    return [_looks(table, colours) for table in board.tables]


def _looks(table: Table, colours: Mapping[str, int]) -> dict[str, Look]:
    found: dict[str, Look] = {}
    seen: set[int] = set()
    for row in sorted(table.rows, key=lambda row: len(row.qualifiers)):
        found[row.label] = Look(colours[row.method], hollow=colours[row.method] in seen)
        seen.add(colours[row.method])
    return found


def ranks(table: Table, found: CriticalDifference, looks: Mapping[str, Look]) -> Figure:
    return Figure("ranks", "Ranks over suites", Ranks(found, [looks[label] for label in found.labels]))


def table_figures(table: Table, looks: Mapping[str, Look], limits: Limits) -> list[Figure]:
    """All figures of a table that compare its rows, those of the page and the averages."""
    details, few = Details(table), drawn(table.rows, limits.lines)
    named = [row.label for row in few]
    column = average_column(table)
    averages = [(row, cell) for row in drawn(table.rows, limits.places) if (cell := row.cell(AVERAGE))]
    price = cost(table, looks, named)
    found = []
    if averages:
        found.append(Figure("scores-average", column.title, suite_figures.places(averages, column.unit, looks)))
    if table.critical:
        found.append(ranks(table, table.critical, looks))
    if price:
        found.append(price.figure)
    found += calibration(details, few, looks)
    for each in table.columns:
        if suite_figures.rows_of(table, each.suite):
            mine = suite_figures.figures_of(details, each, looks, limits)
            maps = [Figure(f"errors-{each.suite}-{one.row.label}", one.row.label, one.plot) for one in mine.heats]
            found += [*mine.all, *maps]
    return found
