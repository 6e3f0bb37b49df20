"""The figures of a whole board: what colour and mark each row has on all of them, and all figures of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from zlib import crc32

from nsbench.leaderboard import AVERAGE, CriticalDifference, Leaderboard, Table
from nsbench.leaderboard.details import Details
from nsbench.report.numbers import average_column
from nsbench.report.page import suite_figures
from nsbench.report.page.charts import SERIES
from nsbench.report.page.rows import Limits, drawn
from nsbench.report.plots import Figure, Look, Ranks
from nsbench.report.tradeoffs import calibration, cost

COLOURS, SHAPES = SERIES, 5  # and each shape is filled or hollow
ALL = [Look(colour, hollow, shape) for shape in range(SHAPES) for hollow in (False, True) for colour in range(COLOURS)]


def looks(board: Leaderboard) -> list[dict[str, Look]]:
    """Of each table, by label: a method has one colour on every board, and one mark.

    What it declares as its order decides them, so that no other row does: methods of one board that declare orders of
    their own below 80 look different everywhere. Who declares none gets a look by its name; where that is taken, the next.
    """
    order = {row.method: row.order for table in board.tables for row in table.rows}
    chosen: dict[str, Look] = {}
    taken: set[Look] = set()
    for method in sorted(order, key=lambda name: (order[name], name)):
        chosen[method] = _free(_declared(order[method]) or _named(method), taken, method)
        taken.add(chosen[method])
    return [_looks(table, chosen) for table in board.tables]


def _declared(order: int) -> Look | None:
    """The sum of the two digits gives the colour, the last digit the mark: neighbours differ in colour, and of two orders
    of one colour the last digits differ."""
    if not 0 <= order < 10 * COLOURS:
        return None
    tens, units = divmod(order, 10)
    return Look((tens + units) % COLOURS, bool(units % 2), units // 2)


def _named(method: str) -> Look:
    return ALL[crc32(method.encode("utf-8", "replace")) % len(ALL)]


def _free(wanted: Look, taken: Collection[Look], method: str) -> Look:
    """It, or where others have it the first free one from a place that the name gives; of very many methods any."""
    if wanted not in taken:
        return wanted
    start = ALL.index(_named(method))
    return next((look for look in (*ALL[start:], *ALL[:start]) if look not in taken), wanted)


def _looks(table: Table, chosen: Mapping[str, Look]) -> dict[str, Look]:
    """Further rows of a method have its colour and other marks, as far as there are any."""
    found: dict[str, Look] = {}
    given: set[Look] = set()
    methods = Counter(chosen[method] for method in {row.method for row in table.rows})  # how many have a look
    for row in sorted(table.rows, key=lambda row: len(row.qualifiers)):
        own = chosen[row.method]
        marks = [own, *(look for look in ALL if look.colour == own.colour)]
        free = (look for look in marks if look not in given and methods[look] <= (look == own))
        found[row.label] = next(free, own)
        given.add(found[row.label])
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
