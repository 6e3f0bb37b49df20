"""The page: what it shows of a leaderboard, worked out before the template, which only places it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nsbench.files import without_collection
from nsbench.leaderboard import AVERAGE, PAPER_COLUMNS, Cell, Column, Leaderboard, Row, RowComparison, Table
from nsbench.leaderboard.details import Details
from nsbench.leaderboard.history import NEW_DAYS
from nsbench.report import numbers, published
from nsbench.report.answer import Finding, Where, answer
from nsbench.report.notes import health_notes, notes, order_note, shared_note
from nsbench.report.numbers import GROUP_TITLES, all_of, average_column, group_title
from nsbench.report.page import charts
from nsbench.report.page.diagrams import caption
from nsbench.report.page.drawing import draw
from nsbench.report.page.frame import Frame
from nsbench.report.page.method_cards import MethodCard, method_card
from nsbench.report.page.pictures import picture_book
from nsbench.report.page.rows import (
    Differences,
    Limits,
    differences,
    drawn,
    initial_pair,
    left_out,
    reference_name,
    references,
)
from nsbench.report.page.suite_cards import SuiteCard, suite_card
from nsbench.report.page.suite_figures import rows_of
from nsbench.report.page.table_figures import looks, ranks
from nsbench.report.plots import Figure, Look
from nsbench.report.published import Beside, Published, beside, published_of
from nsbench.report.side_columns import SideColumn, side_columns
from nsbench.report.studies import StudyView, study_views, what_holds
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.text import to_markdown
from nsbench.report.tradeoffs import Cost, calibration, cost
from nsbench.report.words import listed
from nsbench.run.study import Study


@without_collection()
def to_html(board: Leaderboard, detail: int | None = None, studies: Sequence[Study] = ()) -> str:
    """The page as text; `detail` rows are drawn in each chart and have a card, instead of the usual `Limits`. `studies`:
    of one's own, which get a section in each table that holds them.

    Every value is escaped; a name that the template misspells raises.
    """
    return page_of(board, [replace(view, own_studies=studies) for view in views(board, Limits.of(detail))])


def page_of(
    board: Leaderboard, shown: Sequence[TableView], frame: Frame | None = None, methods: Mapping[str, str] | None = None
) -> str:
    """The page of these views; as part of a site with its frame and, by label, the addresses of methods' pages."""
    template = environment().get_template("page.html.j2")
    return template.render(board=board, views=shown, frame=frame, methods=methods or {})


def environment(*folders: Path) -> Environment:
    """What templates are rendered with: those of this page, and of these folders."""
    found = Environment(
        loader=FileSystemLoader([Path(__file__).parent / "templates", *folders]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {
        "numbers": numbers,
        "AVERAGE": numbers.AVERAGE,
        "REPORTED_IN": published.SOURCE,
        "OTHER": published.OTHER,
        "what_holds": what_holds,
        "printed_otherwise": published.printed_otherwise,
        "draw": draw,
        "NEW": NEW,
    }
    return found


NEW = (
    f"The newest result of this row is at most {NEW_DAYS} days older than the newest of this table, whatever today is. "
    "Where that holds for all rows, none is marked."
)
EVIDENCE = {  # what a link to the evidence of a sentence says
    "compare": "Compare the two",
    "column": "See the column",
    "method": "See the method",
    "health": "See the flags",
    "notes": "See the notes",
    "table": "See the table",
}


@dataclass(frozen=True)
class TableView:
    """A table with everything around it."""

    table: Table
    anchor: str
    columns: Sequence[Column]  # the average first
    published: Sequence[Published]
    styles: Mapping[str, Look]  # by label
    scales: Mapping[str, tuple[float, float]]  # by suite: the common scale of a column's whiskers
    spans: Mapping[str, tuple[float, float]]  # by suite: least and greatest of the values that may be compared
    suites: Sequence[SuiteCard]
    methods: Mapping[str, MethodCard]  # by label
    references: Sequence[int | None]  # of each row: the position of the row that its differences are against
    differences: Differences | None  # None where the table has too many rows, or one
    limits: Limits
    problems: Sequence[str]  # files of pictures that cannot be read
    side: Sequence[SideColumn]  # effective robustness, confidence and cost, to the right of the scores
    cost: Cost | None  # the average against the cost of the training
    calibration: Sequence[Figure]  # of single rows
    own_studies: Sequence[Study] = ()  # which the reader named; those that nsbench brings are known

    @cached_property
    def answer(self) -> list[tuple[Finding, str, str]]:
        """What the table says, each sentence with the address of its evidence on this page and what a link to it says."""
        places = [(one, self._place(one.where)) for one in answer(self.table)]
        return [
            (one, f"#{self.anchor}-{place}", EVIDENCE["table" if place == "scores" else one.where.kind])
            for one, place in places
        ]

    def _place(self, where: Where) -> str:
        labels = [row.label for row in self.table.rows]
        if where.kind == "compare" and self.differences is not None:
            return "compare"
        if where.kind == "column":
            return f"c{[column.suite for column in self.columns].index(where.suite)}"
        if where.kind == "method" and where.rows[0] in self.methods:
            return f"m{labels.index(where.rows[0])}"
        return where.kind if where.kind in ("health", "notes") else "scores"

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Ids and titles of what the section holds, in its order."""
        parts = (
            ("scores", "Table", True),
            ("compare", "Compare", self.differences is not None),
            ("ranks", "Ranks", self.table.critical is not None),
            ("cost", "Cost", self.cost is not None),
            ("calibration", "Calibration", bool(self.calibration)),
            ("suites", "Suites", bool(self.suites)),
            ("methods", "Methods", bool(self.methods)),
            ("export", "Take it with you", True),
        )
        return [(f"{self.anchor}-{name}", title) for name, title, there in parts if there] + [
            ("reading", "How to read")
        ]

    def places(self, where: Where) -> str:
        """Positions of the rows that a comparison is of, for the script that shows it; "" for other evidence."""
        labels = [row.label for row in self.table.rows]
        return " ".join(str(labels.index(label)) for label in where.rows) if where.kind == "compare" else ""

    @property
    def side_groups(self) -> list[tuple[str, int]]:
        names = [column.group for column in self.side]
        return [(name, names.count(name)) for name in dict.fromkeys(names)]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Title and columns of each: first the average, with the rank that it gives."""
        own = [(GROUP_TITLES.get(group, group), len(columns)) for group, columns in self.table.groups]
        return [(group_title(average_column(self.table).group), 2), *own]

    @property
    def limit(self) -> int | None:
        """Images per condition at most; None: all of them."""
        return self.table.limit

    @property
    def notes(self) -> list[str]:
        """What a reader must know about single cells and rows."""
        return [*notes(self.table), *(f"Pictures left out: {one}" for one in self.problems)]

    @property
    def reference_name(self) -> str:
        return reference_name(self.table)

    @property
    def health(self) -> list[str]:
        return health_notes(self.table)

    @property
    def critical(self) -> tuple[Figure, str] | None:
        """The critical-difference diagram with its caption."""
        found = self.table.critical
        return None if found is None else (ranks(self.table, found, self.styles), caption(found, self.table))

    @property
    def calibration_left_out(self) -> str:
        return left_out(len(self.calibration), len(self.table.rows), "Calibration drawn")

    @property
    def beside(self) -> list[tuple[Beside, str]]:
        """Our figures next to the published ones, with the title of their column."""
        titles = {column.suite: column.title for column in self.columns}
        return [(one, titles[one.suite]) for one in beside(self.table)] if self.published else []

    @property
    def studies(self) -> list[StudyView]:
        return study_views(self.table, self.own_studies)

    @property
    def methods_left_out(self) -> str:
        """What is said below the title of the cards; a table without any has none."""
        return left_out(len(self.methods), len(self.table.rows), "Cards of methods")

    @property
    def full(self) -> bool:
        """Whether every figure brings all about it in words, and every result its provenance."""
        return len(self.table.rows) <= self.limits.sentences

    @property
    def exports(self) -> list[tuple[str, str, str]]:
        """(name, file, text) of the table for papers and repositories."""
        board = Leaderboard((self.table,))
        return [("Markdown", "leaderboard.md", to_markdown(board)), ("LaTeX", "leaderboard.tex", to_latex(board))]

    @property
    def shared(self) -> str:
        """The sentence above the table."""
        return shared_note(self.table)

    @property
    def suites_named(self) -> str:
        """What it holds, in short."""
        return listed([column.title for column in self.table.columns], most=3)

    @property
    def neighbours(self) -> str:
        """How much of the order by average the data support."""
        return order_note(self.table, " of rows")

    @property
    def sorted_by(self) -> str:
        """The suite by which the rows stand, AVERAGE where there is one; "" where not all have the same first figure."""
        firsts = {column.suite if (column := row.first(self.table.columns)) else "" for row in self.table.rows}
        return AVERAGE if self.ranked else firsts.pop() if len(firsts) == 1 else ""

    def cell(self, row: Row, column: Column) -> Cell | None:
        return row.cell(column.suite)

    @property
    def ranked(self) -> bool:
        """Whether any row has an average; where none has, the column is shown when it is asked for."""
        return any(row.cell(AVERAGE) for row in self.table.rows)

    def place(self, row: Row) -> int:
        """A rank as a number to sort by: its best place, then its worst."""
        first, last = row.rank or (0, 0)
        return first * (len(self.table.rows) + 1) + last

    def protocol(self, column: Column) -> str:
        """What a column measures, for its tooltip."""
        return f"{column.summary} ({column.citation})" if column.citation else column.summary

    def absent(self, row: Row, column: Column) -> str:
        """Why there is no figure."""
        if column.suite != AVERAGE:
            return f"{column.title} of {row.title}: not evaluated"
        held = sum(cell.results[0].paper and cell.comparable for cell in row.cells.values())
        wanted = len(self.table.own_suites) or PAPER_COLUMNS
        need = f"The average needs {all_of(self.table)}, comparable and from one set of weights"
        return f"{need}; {held} of {wanted} are here"

    def tint(self, row: Row, column: Column) -> float:
        """How good within its column, from 0 to 1; 0 where there is nothing to compare."""
        cell, (least, most) = self.cell(row, column), self.spans.get(column.suite, (0.0, 0.0))
        if cell is None or not cell.comparable or least == most:
            return 0.0
        share = (cell.value - least) / (most - least)
        return 1 - share if column.lower_is_better else share

    def whisker(self, cell: Cell, column: Column) -> str:
        return charts.whisker(cell.value, cell.low, cell.high, *self.scales[column.suite])

    def compared(self) -> list[tuple[Column, RowComparison, str]]:
        """The comparison shown at first: column, figures, and the CSS variables of the difference's whisker."""
        if self.differences is None:
            return []
        found = self.differences.initial
        most = max((max(abs(c.delta.low), abs(c.delta.high)) for c in found.values()), default=1.0)
        return [
            (column, one, charts.balanced(one.delta.low, one.delta.high, one.delta.value, most))
            for column in self.columns
            if (one := found.get(column.suite))
        ]


def views(board: Leaderboard, limits: Limits, styles: Sequence[Mapping[str, Look]] | None = None) -> list[TableView]:
    """`styles`: the colours of each table's rows, where more than this board shares them."""
    found = [
        _view(table, f"t{index}", own, limits, len(board.tables))
        for index, (table, own) in enumerate(zip(board.tables, styles or looks(board), strict=True))
    ]
    return sorted(found, key=lambda view: (view.table.source, view.limit or 0))  # all images first, then few to many


def _view(table: Table, anchor: str, styles: Mapping[str, Look], limits: Limits, tables: int) -> TableView:
    columns = [average_column(table), *table.columns]
    cells = {c.suite: [cell for row in table.rows if (cell := row.cell(c.suite))] for c in columns}
    scales = {suite: (min(c.low for c in mine), max(c.high for c in mine)) for suite, mine in cells.items() if mine}
    fair = {suite: [c.value for c in mine if c.comparable] for suite, mine in cells.items()}
    spans = {suite: (min(values), max(values)) for suite, values in fair.items() if values}
    carded = drawn(table.rows, limits.cards) if limits.cards else []
    cards = {row.label: method_card(row, styles[row.label]) for row in carded}
    details, few = Details(table), drawn(table.rows, limits.lines)
    book = picture_book(table, initial_pair(table), tables) if limits.pictures else None
    suites = [
        suite_card(details, column, styles, limits, book) for column in table.columns if rows_of(table, column.suite)
    ]
    return TableView(
        table,
        anchor,
        columns,
        published_of(table),
        styles,
        scales,
        spans,
        suites,
        cards,
        references(table),
        differences(table, limits.pairs),
        limits,
        book.album.problems if book else (),
        side_columns(table),
        cost(table, styles, [row.label for row in few]),
        calibration(details, few, styles),
    )
