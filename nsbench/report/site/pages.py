"""The pages of a site: its first page, one of each board, one of each method, and what programs read of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from jinja2 import Environment

from nsbench.errors import without_controls
from nsbench.leaderboard import Cell, Leaderboard, Row
from nsbench.report.answer import answer, headline
from nsbench.report.numbers import average_column
from nsbench.report.page.frame import Frame
from nsbench.report.page.page import TableView, environment, page_of
from nsbench.report.page.suite_figures import places
from nsbench.report.plots import Look, Place
from nsbench.report.site import feed
from nsbench.report.site.boards import Board
from nsbench.report.site.changes import Change, changes_of
from nsbench.report.site.methods import MethodPage, method_pages
from nsbench.report.site.names import file_name
from nsbench.report.site.social import social_picture
from nsbench.report.tables.tidy import to_csv

TOP, LATEST = 5, 12  # rows of a board, and changes, on the first page
PICTURE = "social.png"
LEDE = (
    "Top-1 accuracy with its 95 % interval (mean corruption error for C) of every method, measured under one protocol; "
    "what the data cannot tell apart is marked as such."
)


@dataclass(frozen=True)
class Top:
    """A row on the first page."""

    row: Row
    cell: Cell
    look: Look
    whisker: str


@dataclass(frozen=True)
class BoardView:
    """A board with everything that its page, and the first page, show of it."""

    board: Board
    view: TableView

    @property
    def path(self) -> str:
        return f"boards/{self.board.file}.html"

    @property
    def data(self) -> str:
        """Path of its figures as CSV."""
        return f"boards/{self.board.file}.csv"

    @property
    def on_page(self) -> TableView:
        """What the board's page shows: of a large table no columns beside the scores, which methods' pages have."""
        return self.view if self.view.full else replace(self.view, side=())

    @property
    def sentences(self) -> list[str]:
        """What the table says."""
        return [one.sentence for one in answer(self.board.table)]

    @property
    def size(self) -> str:
        rows, suites = len(self.board.table.rows), len(self.board.table.columns)
        return f"{rows:,} row{'s' if rows > 1 else ''}, {suites} suite{'s' if suites > 1 else ''}"

    @property
    def compared(self) -> str:
        """The suite, or the average, by which rows are listed."""
        return headline(self.board.table) or self.board.table.columns[0].suite

    @property
    def compared_title(self) -> str:
        columns = [average_column(self.board.table), *self.board.table.columns]
        found = next(column for column in columns if column.suite == self.compared)
        return f"{found.title} {found.arrow}"

    @property
    def top(self) -> list[Top]:
        """The first rows that may be compared, the best first."""
        suite, view = self.compared, self.view
        column = next(column for column in view.columns if column.suite == suite)
        found = [(row, cell) for row in view.table.rows if (cell := row.cell(suite)) and cell.comparable]
        found.sort(key=lambda one: one[1].value if column.lower_is_better else -one[1].value)
        return [Top(row, cell, view.styles[row.label], view.whisker(cell, column)) for row, cell in found[:TOP]]


@dataclass(frozen=True)
class Site:
    """A site before it is written. `address` ends in a slash, or is "" where nobody has said it."""

    title: str
    address: str
    boards: Sequence[BoardView]
    problems: Sequence[str]

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Of each method the name of its page."""
        taken = {"index"}
        methods = sorted({row.method for one in self.boards for row in one.board.table.rows})
        return {method: file_name(method, taken) for method in methods}

    @cached_property
    def methods(self) -> list[MethodPage]:
        return method_pages([(one.board, one.view) for one in self.boards], self.files)

    @cached_property
    def changes(self) -> list[Change]:
        return changes_of(one.board for one in self.boards)

    @property
    def date(self) -> str:
        return max(one.board.date for one in self.boards)

    @cached_property
    def pages(self) -> dict[str, str]:
        """Of each page that is to be found: its path, and the day of its newest result."""
        return {
            "index.html": self.date,
            "methods/index.html": self.date,
            **{one.path: one.board.date for one in self.boards},
            **{f"methods/{page.file}.html": page.date for page in self.methods},
        }

    @property
    def paths(self) -> list[str]:
        """Of all files."""
        others = ["404.html", "style.css", PICTURE, "feed.xml", "robots.txt", ".nojekyll"]
        data = [one.data for one in self.boards]
        return [*self.pages, *data, *others, *(["sitemap.xml"] if self.address else [])]

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Every file, one after the other."""
        render = _Renderer(self)
        yield "style.css", render.page("style.css")
        yield PICTURE, self._picture()
        for one in self.boards:
            yield one.path, render.board(one)
            yield one.data, without_controls(to_csv(Leaderboard((one.board.table,)))).encode("utf-8", "replace")
        for page in self.methods:
            yield f"methods/{page.file}.html", render.method(page)
        yield "methods/index.html", render.page("methods.index.html.j2", render.frame("methods/index.html", "Methods"))
        yield "index.html", render.page("site.html.j2", render.frame("index.html", self.title))
        yield "404.html", render.page("404.html.j2", render.frame("404.html", "No such page"))
        of_methods = {method: f"methods/{file}.html" for method, file in self.files.items()}
        yield "feed.xml", feed.feed(self.changes, self.title, self.address, of_methods)
        if self.address:
            yield "sitemap.xml", feed.sitemap(self.pages, self.address)
        yield "robots.txt", feed.robots(self.address)
        yield ".nojekyll", b""

    def _picture(self) -> bytes:
        """Of the largest board."""
        one = max(self.boards, key=lambda each: len(each.board.table.results))
        found = [(top.row, top.cell) for top in one.top]
        rows: Sequence[Place] = places(found, "", one.view.styles).rows if found else []
        return social_picture(self.title, f"{one.board.title}: {one.size}", one.compared_title, rows)


class _Renderer:
    """The pages as bytes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.environment: Environment = environment(Path(__file__).parent / "templates")
        self.environment.globals |= {"site": site, "LEDE": LEDE, "LATEST": LATEST}

    def page(self, template: str, frame: Frame | None = None, **what: object) -> bytes:
        text = self.environment.get_template(template).render(frame=frame, **what)
        return text.encode("utf-8", "replace")

    def frame(self, path: str, title: str, description: str = LEDE) -> Frame:
        """Of a page at this path; a page that is shown in place of any other links by whole addresses."""
        site = self.site
        up = site.address if path == "404.html" else "../" * path.count("/")
        address = f"{site.address}{path.removesuffix('index.html')}" if site.address else ""
        return Frame(site.title, title, description, up, address, f"{site.address or up}{PICTURE}")

    def board(self, one: BoardView) -> bytes:
        description = " ".join(one.sentences[:1]) or f"{one.board.title}: {one.size}. {LEDE}"
        frame = replace(self.frame(one.path, one.board.title, description), data=f"{one.board.file}.csv")
        methods = {row.label: f"../methods/{self.site.files[row.method]}.html" for row in one.board.table.rows}
        board = Leaderboard((one.board.table,), tuple(one.board.problems))
        return page_of(board, [one.on_page], frame, methods).encode("utf-8", "replace")

    def method(self, page: MethodPage) -> bytes:
        path, names = f"methods/{page.file}.html", ", ".join(board.title for board in page.boards)
        frame = self.frame(path, page.title, f"{page.summary} Measured on {names}.".strip())
        changes = [one for one in self.site.changes if one.method == page.method]
        return self.page("method.html.j2", frame, page=page, changes=changes)
