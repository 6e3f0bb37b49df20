"""What the page shows of a leaderboard, worked out before the template: the template only places it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nsbench.leaderboard import Cell, Column, Leaderboard, Row, Table
from nsbench.report import charts
from nsbench.report.cards import MethodCard, SuiteCard, method_card, suite_card
from nsbench.report.numbers import AVERAGE, GROUP_TITLES, average_column, flagged
from nsbench.report.published import Published, published_rows


@dataclass(frozen=True)
class TableView:
    """A table with everything around it."""

    table: Table
    anchor: str
    columns: Sequence[Column]  # with the average
    published: Sequence[Published]
    styles: Mapping[str, str]  # CSS class by label: the method's colour on every chart, hollow for its further rows
    scales: Mapping[str, tuple[float, float]]  # by suite: the common scale of a column's whiskers
    spans: Mapping[str, tuple[float, float]]  # by suite: least and greatest of the values that may be compared
    suites: Sequence[SuiteCard]
    methods: Sequence[MethodCard]
    health: Sequence[str] = ()  # signs that a row's adversarial figures flatter it

    @property
    def groups(self) -> list[tuple[str, int]]:
        return [(GROUP_TITLES.get(group, group), len(columns)) for group, columns in self.table.groups] + [
            (GROUP_TITLES["average"], 1)]

    @property
    def notes(self) -> list[str]:
        """What a reader must know about single cells and rows."""
        found = [f"≠ {row.label}, {column.title}: not compared, {cell.reason}."
                 for row in self.table.rows for column in self.table.columns
                 if (cell := row.cells.get(column.suite)) and not cell.comparable]
        return [*found, *(f"{row.label}: {note}." for row in self.table.rows for note in row.notes), *self.health]

    def cell(self, row: Row, column: Column) -> Cell | None:
        return row.cell(column.suite)

    def absent(self, row: Row, column: Column) -> str:
        """Why there is no figure."""
        if column.suite != AVERAGE.suite:
            return f"{column.title} of {row.title}: not evaluated"
        held = sum(cell.results[0].paper and cell.comparable for cell in row.cells.values())
        return f"The average needs all eleven columns, comparable and from one set of weights; {held} of 11 are here"

    def tint(self, row: Row, column: Column) -> float:
        """How good within its column, from 0 to 1; 0 where there is nothing to compare."""
        cell, (least, most) = self.cell(row, column), self.spans.get(column.suite, (0.0, 0.0))
        if cell is None or not cell.comparable or least == most:
            return 0.0
        share = (cell.value - least) / (most - least)
        return 1 - share if column.lower_is_better else share

    def whisker(self, cell: Cell, column: Column) -> Markup:
        return charts.whisker(cell.value, cell.low, cell.high, *self.scales[column.suite])


def views(board: Leaderboard) -> list[TableView]:
    order = {row.method: row.order for table in board.tables for row in table.rows}
    colours = {method: f"k{index % charts.SERIES}"
               for index, method in enumerate(sorted(order, key=lambda name: (order[name], name)))}
    return [_view(table, f"t{index}", _styles(table, colours)) for index, table in enumerate(board.tables)]


def _styles(table: Table, colours: Mapping[str, str]) -> dict[str, str]:
    """By label. Further rows of the same method keep its colour and are drawn hollow."""
    styles: dict[str, str] = {}
    for row in sorted(table.rows, key=lambda row: len(row.qualifiers)):
        seen = any(style.startswith(colours[row.method]) for style in styles.values())
        styles[row.label] = colours[row.method] + (" hollow" if seen else "")
    return styles


def _view(table: Table, anchor: str, styles: Mapping[str, str]) -> TableView:
    columns = [*table.columns, average_column(table)]
    cells = {c.suite: [cell for row in table.rows if (cell := row.cell(c.suite))] for c in columns}
    scales = {suite: (min(c.low for c in mine), max(c.high for c in mine)) for suite, mine in cells.items() if mine}
    fair = {suite: [c.value for c in mine if c.comparable] for suite, mine in cells.items()}
    spans = {suite: (min(values), max(values)) for suite, values in fair.items() if values}
    return TableView(table, anchor, columns, published_rows(table.source, *table.models), styles, scales, spans,
                     [suite_card(table, column, styles) for column in table.columns],
                     [method_card(row, styles) for row in table.rows], _health(table))


def _health(table: Table) -> list[str]:
    """A line for each flag of each row."""
    return [flagged(row, flag) for row in table.rows for flag in row.flags]
