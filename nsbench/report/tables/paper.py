"""How a table fits the page of a paper: what it holds, how wide it is by counting, and where it is split.

A page has two columns and is 7 inches wide; text is of 8 pt, intervals of 6 pt. Widths are estimated from characters,
wider than Computer Modern and Times set them: a table that fits by this count fits the page, and no font is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsbench.errors import UnknownName
from nsbench.leaderboard import AVERAGE, Column, Leaderboard, Table
from nsbench.report.numbers import average_column
from nsbench.types import GROUPS

POINTS = 72.27  # of TeX, an inch
PAGE = 7 * POINTS  # \textwidth of the usual styles of two columns
SIZE, SMALL = 8.0, 6.0  # pt: of figures, and of what stands behind them
GAP = 5.0  # pt between two columns: twice \tabcolsep
NAME = 96.0  # pt: names that are longer are broken
_NARROWEST, _NARROW, _WIDE = " .,:;'|!ijl·", "frtI()[]-/", "mw≠±↑↓−"


@dataclass(frozen=True)
class PaperLayout:
    """What of a leaderboard a table for a paper holds."""

    columns: tuple[str, ...] = ()  # suites, groups of suites, AVERAGE; (): all
    interval: bool = True  # half the 95 % interval behind each figure
    deviation: bool = True  # and the standard deviation over seeds

    def of(self, table: Table) -> list[Column]:
        """The columns that were asked for, in the table's order; the average is the last one."""
        every = [*table.columns, average_column(table)]
        return [one for one in every if not self.columns or {one.suite, one.group} & {*self.columns}]

    def check(self, board: Leaderboard) -> None:
        """Raises UnknownName for a column that no table of the board has."""
        suites = [column.suite for table in board.tables for column in table.columns]
        groups = [group for group in GROUPS if any(c.group == group for t in board.tables for c in t.columns)]
        known = dict.fromkeys([*groups, AVERAGE, *suites])
        for name in self.columns:
            if name not in known:
                raise UnknownName("column", name, known)


EVERYTHING = PaperLayout()


def width(text: str, size: float = SIZE, *, bold: bool = False) -> float:
    """An upper estimate in pt of a line of text.

    Of the size it is 1.1 for the widest letters, 0.95 for wide ones and signs, 0.34 and 0.45 for narrow ones, 0.83 for
    other capitals and 0.56 for the rest, among them digits; an eighth more in bold, and below 8 pt, where fonts are cut
    wider.
    """
    ems = sum(_em(character) for character in text)
    return ems * size * (1.125 if bold else 1) * (1.125 if size < SIZE else 1)


def _em(character: str) -> float:
    if character in _NARROWEST:
        return 0.34
    if character in _NARROW:
        return 0.45
    if character in "MW%@":
        return 1.1
    if character in _WIDE or (not character.isalpha() and ord(character) > 0x2FF):
        return 0.95
    return 0.83 if character.isupper() else 0.56


def total(columns: Sequence[float]) -> float:
    """Of a table whose columns have these widths; there is no gap at its two ends."""
    return sum(columns) + GAP * (len(columns) - 1)


def parts(second: Sequence[bool], widths: Sequence[float], first: float, last: float) -> list[list[int]]:
    """Positions of columns in as many tables as the page asks for, each at most PAGE wide.

    `first` and `last`: widths of what stands before and behind the columns of every table, without the gaps to them; 0
    where there is nothing. Where they do not fit together, columns that are `second` get a table of their own, and where
    that does not fit either, it goes on in the next one.
    """
    everything = range(len(widths))
    room = PAGE - sum(one + GAP for one in (first, last) if one)
    if total(widths) <= room:
        return [[*everything]]
    halves = [[k for k in everything if second[k] == which] for which in (False, True)]
    return [part for half in halves for part in _cut(half, widths, room)]


def _cut(columns: Sequence[int], widths: Sequence[float], room: float) -> list[list[int]]:
    """In as few tables as they fit, of equally many columns where these fit too."""
    found: list[list[int]] = []
    for k in columns:
        if found and total([widths[one] for one in (*found[-1], k)]) <= room:
            found[-1].append(k)
        else:
            found.append([k])
    many = -(-len(columns) // max(len(found), 1))
    even = [[*columns[k : k + many]] for k in range(0, len(columns), many or 1)]
    fit = all(total([widths[one] for one in part]) <= room for part in even)
    return even if fit else found
