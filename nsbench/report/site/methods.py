"""The page of a method: each of its rows on each board, with figures, conditions, card and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from nsbench.leaderboard import Cell, Column, Row
from nsbench.leaderboard.samples import Album
from nsbench.report import numbers
from nsbench.report.page.method_cards import MethodCard, method_card
from nsbench.report.page.page import TableView
from nsbench.report.page.pictures import BUDGET, PictureBook, SuitePictures
from nsbench.report.plots import Look
from nsbench.report.side_columns import CONFIDENCE
from nsbench.report.site.boards import Board
from nsbench.report.words import change
from nsbench.results.record import ConditionResult


@dataclass(frozen=True)
class Line:
    """A row's figure in a column."""

    column: Column
    cell: Cell
    whisker: str  # CSS variables, on the column's common scale; "" where it is not compared

    @property
    def place(self) -> str:
        """Within the column, as the separable pairs allow."""
        if self.cell.rank is None:
            return numbers.MISSING
        first, last = self.cell.rank
        return str(first) if first == last else f"{first}–{last}"

    @property
    def difference(self) -> str:
        return change(self.cell.delta) if self.cell.delta else ""


@dataclass(frozen=True)
class ConditionLine:
    suite: str  # its title
    condition: ConditionResult  # of the first seed
    accuracy: float  # mean over seeds
    seeds: int


@dataclass(frozen=True)
class Pictured:
    """Pictures of a suite, as the templates of the page want them."""

    column: Column
    pictures: SuitePictures


@dataclass(frozen=True)
class Section:
    """A row of a board."""

    board: Board
    view: TableView
    row: Row
    budget: int  # bytes of its pictures

    @property
    def look(self) -> Look:
        return self.view.styles[self.row.label]

    @property
    def card(self) -> MethodCard:
        return method_card(self.row, self.look)

    @property
    def lines(self) -> list[Line]:
        """The average first."""
        cells = [(column, self.row.cell(column.suite)) for column in self.view.columns]
        return [
            Line(column, cell, self.view.whisker(cell, column) if cell.comparable else "")
            for column, cell in cells
            if cell is not None
        ]

    @property
    def beside(self) -> list[tuple[str, str]]:
        """What stands beside the scores, but for what the card has: confidence."""
        label = self.row.label
        return [
            (one.title, one.text(label)) for one in self.view.side if one.group == CONFIDENCE and label in one.values
        ]

    @property
    def reference(self) -> str:
        """Label of the row that the differences are against; "" where there are none."""
        return next((cell.delta.reference for cell in self.row.cells.values() if cell.delta), "")

    @property
    def conditions(self) -> list[ConditionLine]:
        """Of the suites in the order of the columns."""
        found = []
        for column in self.view.table.columns:
            if cell := self.row.cells.get(column.suite):
                found += [_condition(column, cell, one) for one in cell.results[0].conditions]
        return found

    @cached_property
    def pictures(self) -> list[Pictured]:
        """Samples of each suite, as far as there is room."""
        place = self.view.table.rows.index(self.row)
        book = PictureBook(Album(self.view.table), (place, place), self.budget)
        found = [(column, book.suite(column.suite)) for column in self.view.table.columns]
        return [Pictured(column, pictures) for column, pictures in found if pictures]


@dataclass(frozen=True)
class MethodPage:
    method: str
    file: str  # name of its page, without ending
    sections: Sequence[Section]

    @property
    def title(self) -> str:
        return self.sections[0].row.title

    @property
    def summary(self) -> str:
        return next((one.row.summary for one in self.sections if one.row.summary), "")

    @property
    def boards(self) -> list[Board]:
        return list({one.board.file: one.board for one in self.sections}.values())

    @property
    def date(self) -> str:
        """Of the newest result."""
        return max(result.provenance.date for one in self.sections for result in one.row.results)[:10]


def method_pages(boards: Sequence[tuple[Board, TableView]], files: Mapping[str, str]) -> list[MethodPage]:
    """By title. `files`: of each method the name of its page."""
    rows: dict[str, list[tuple[Board, TableView, Row]]] = {}
    for board, view in boards:
        for row in view.table.rows:
            rows.setdefault(row.method, []).append((board, view, row))
    pages = [
        MethodPage(method, files[method], [Section(*one, BUDGET // len(mine)) for one in mine])
        for method, mine in rows.items()
    ]
    return sorted(pages, key=lambda page: (page.title.lower(), page.file))


def _condition(column: Column, cell: Cell, one: ConditionResult) -> ConditionLine:
    seeds = [other.accuracy for result in cell.results for other in result.conditions if other.name == one.name]
    return ConditionLine(column.title, one, sum(seeds) / len(seeds), len(seeds))
