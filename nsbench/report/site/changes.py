"""What changed on the boards, by the dates of their results: new rows, and results that came later."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import Row
from nsbench.leaderboard.history import moment
from nsbench.report.numbers import figure
from nsbench.report.site.boards import Board


@dataclass(frozen=True)
class Event:
    """One measurement of a row."""

    moment: str  # of RFC 3339, in UTC
    suite: str  # its title
    order: int
    seed: int
    value: float
    changed: tuple[str, ...]  # since the measurement before, in words; () for the first of its seed

    @property
    def words(self) -> str:
        return "; ".join((f"seed {self.seed}", *self.changed))


@dataclass(frozen=True)
class Change:
    """What a method got on one day on a board."""

    board: Board
    method: str
    model: str
    row: str  # title of the method
    day: str
    moment: str  # of its newest measurement
    new: bool  # the board had nothing of this method and model before
    events: Sequence[Event]

    @property
    def title(self) -> str:
        many = len(self.events)
        return f"new row {self.row}" if self.new else f"{many} result{'s' if many > 1 else ''} of {self.row}"

    @property
    def lines(self) -> list[str]:
        """Of each suite its figures: "Clean: 95.0 (seed 0), 94.8 (seed 1)"."""
        suites = dict.fromkeys(one.suite for one in self.events)
        return [
            f"{suite}: {', '.join(f'{figure(one.value)} ({one.words})' for one in self.events if one.suite == suite)}"
            for suite in suites
        ]

    def identity(self, site: str) -> str:
        """The same as long as the site, the board, the method and the day are."""
        words = ("nsbench", site, self.board.file, self.model, self.method, self.day)
        return uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(words).encode("utf-8", "replace").decode()).urn


def changes_of(boards: Iterable[Board]) -> list[Change]:
    """The newest first. Rows that another folder lends are none, nor is what states no date."""
    found = [change for board in boards for change in _of_board(board)]
    return sorted(found, key=lambda one: (one.moment, one.board.file, one.model, one.method), reverse=True)


def _of_board(board: Board) -> list[Change]:
    events: dict[tuple[str, str], set[Event]] = defaultdict(set)  # a set: versions of a method share their history
    titles: dict[tuple[str, str], str] = {}
    for row in board.table.rows:
        if not row.lender:
            events[row.model, row.method] |= set(_events(row))
            titles.setdefault((row.model, row.method), row.title)
    found = []
    for (model, method), mine in events.items():
        days: dict[str, list[Event]] = defaultdict(list)
        for one in sorted(mine, key=lambda e: (e.order, e.suite, e.seed, e.moment, e.value)):
            days[one.moment[:10]].append(one)
        for day, those in days.items():
            last = max(one.moment for one in those)
            found.append(Change(board, method, model, titles[model, method], day, last, day == min(days), those))
    return found


def _events(row: Row) -> Iterable[Event]:
    for suite, cell in row.cells.items():
        title, order = cell.results[0].title, cell.results[0].order
        if suite in row.history:
            stated = [(one.date, one.seed, one.value, one.changed) for one in row.history[suite]]
        else:
            stated = [(one.provenance.date, one.seed, one.score.value, ()) for one in cell.results]
        for date, seed, value, changed in stated:
            if when := moment(date):
                yield Event(
                    when.isoformat(timespec="seconds").replace("+00:00", "Z"), title, order, seed, value, changed
                )
