"""The leaderboard in the terminal: rich tables in the page's order and rounding, drawn for the width at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from nsbench.errors import UsageError
from nsbench.leaderboard import BETTER, Cell, Delta, Leaderboard, Row, RowComparison, Table, compare, find_row
from nsbench.report.answer import answer
from nsbench.report.notes import marks_note, text_notes
from nsbench.report.numbers import (
    MISSING,
    ONCE,
    average_column,
    counts,
    deviation,
    figure,
    heading,
    margin,
    pvalue,
    rank,
    signed,
)
from nsbench.report.side_columns import side_columns
from nsbench.report.tables.text import cells_of, columns_of, name_of, name_parts


@dataclass(frozen=True)
class Marks:
    """How the best of a column is told, and what cannot be told from it: rich's style and a sign before the figure."""

    best: tuple[str, str]
    best_is: str  # for the note below the table
    tied: tuple[str, str]
    tied_is: str


STYLES = Marks(("bold", ""), "Bold", ("underline", ""), "underlined")
SIGNS = Marks(("", "* "), "*", ("", "≈ "), "≈")  # where nothing can be bold: a file, a pipe, a terminal without styles


def print_tables(board: Leaderboard, console: Console) -> None:
    """Print what every table says, and the table, with the best of a column marked, and what is not separable from it."""
    marks = STYLES if console.color_system else SIGNS
    for table in board.tables:
        for one in answer(table):
            console.print(one.sentence, markup=False, highlight=False)
        for drawn in (*_score_tables(table, console.width, marks), *_side_tables(table, console.width)):
            console.print(drawn)
        for line in filter(None, [marks_note(table, marks.best_is, marks.tied_is), *text_notes(table)]):
            console.print(line, style="dim", markup=False, highlight=False)
    for problem in board.problems:
        console.print(f"problem: {problem}", style="yellow", markup=False, highlight=False)
    if not board.tables:
        console.print(
            "There are no results yet. Make some: nsbench run --method METHOD --suite all (nsbench list shows the methods)",
            markup=False,
        )


def print_comparison(board: Leaderboard, first: str, second: str, console: Console) -> None:
    """Print the paired comparison of two rows in every table that holds both. Raises UsageError where none does."""
    shared = [table for table in board.tables if _holds(table, first) and _holds(table, second)]
    if not shared:
        rows = [row for table in board.tables for row in table.rows]
        find_row(rows, first), find_row(rows, second)  # raises where a name is wrong
        raise UsageError(f"'{first}' and '{second}' are in no table together: other source, images or preprocessing")
    for table in shared:
        console.print(_comparison_table(table, first, second, console.width))


def _holds(table: Table, name: str) -> bool:
    try:
        find_row(table.rows, name)
    except UsageError:
        return False
    return True


def _comparison_table(table: Table, first: str, second: str, width: int) -> RichTable:
    """A line per suite; a narrow terminal gets it without the tests' names and the counts of single images."""
    one, two = (table.rows[find_row(table.rows, name)].label for name in (first, second))
    narrow, found = width < 120, compare(table, first, second)
    drawn = _empty(f"{one}  −  {two}   ({heading(table)})")
    drawn.caption, drawn.caption_justify = (
        Text(
            "p after Holm over all pairs in all columns"
            + ("" if narrow else "; images that only one has right: first / second")
            + (f"; {ONCE} of these weights: one training" if any(one.delta.of_weights for one in found) else "")
        ),
        "left",
    )
    drawn.add_column("", no_wrap=True)
    titles = (
        ["first", "second", "diff.", "95 % interval", "p"]
        if narrow
        else ["first", "second", "difference", "95 % interval", "p", "only one right"]
    )
    for title in titles:
        drawn.add_column(title, justify="right", no_wrap=True)
    drawn.add_column("verdict")
    columns = {column.suite: column for column in [*table.columns, average_column(table)]}
    for each in found:
        column, delta = columns[each.suite], each.delta
        drawn.add_row(
            Text(f"{column.title} {column.arrow}"),
            *(Text(text) for text in _compared(each)[: len(titles)]),
            Text(
                _verdict(delta, narrow),
                style="bold" if delta.verdict == BETTER else "",
            ),
        )
    return drawn


def _verdict(delta: Delta, narrow: bool) -> str:
    mark = f" {ONCE}" if delta.of_weights else ""
    return f"{delta.verdict}{mark}" if narrow else f"{delta.verdict}{mark} ({delta.test})"


def _compared(found: RowComparison) -> list[str]:
    delta = found.delta
    only = MISSING
    if found.only_first is not None and found.only_second is not None:
        only = counts(found.only_first, found.only_second)
    p = pvalue(delta.adjusted).removeprefix("p ").removeprefix("= ")  # the column's head is "p"
    return [
        figure(found.cell.value),
        figure(found.other.value),
        signed(delta.value),
        f"{signed(delta.low)} to {signed(delta.high)}",
        p,
        only,
    ]


def _score_tables(table: Table, width: int, marks: Marks) -> list[RichTable]:
    heads = [f"{column.title} {column.arrow}" for column in columns_of(table)]
    cells = [[_rich_cell(cell, marks) for cell in cells_of(table, row)] for row in table.rows]
    if not any(row.rank for row in table.rows):
        return _fitting(heading(table), heads, table.rows, cells, width)
    ranked = [[Text(rank(row)), *figures] for row, figures in zip(table.rows, cells, strict=True)]
    return _fitting(heading(table), ["Rank", *heads], table.rows, ranked, width, before=1)


def _side_tables(table: Table, width: int) -> list[RichTable]:
    """What stands beside the figures of each row, if anything is known."""
    columns = side_columns(table)
    if not columns:
        return []
    *first, last = dict.fromkeys(column.group.lower() for column in columns)
    title = (f"{', '.join(first)} and {last}" if first else last).capitalize()
    cells = [[Text(column.text(row.label)) for column in columns] for row in table.rows]
    return _fitting(title, [column.title for column in columns], table.rows, cells, width)


def _fitting(
    title: str, heads: Sequence[str], rows: Sequence[Row], cells: Sequence[Sequence[Text]], width: int, before: int = 0
) -> list[RichTable]:
    """A row per method as on the page, its name after `before` figures; turned where the terminal is too narrow.

    `cells` holds a list per method, with an item per head.
    """
    needed = (
        3
        + max((len(name_of(row)) for row in rows), default=0)
        + sum(3 + max(map(len, column)) for column in zip(heads, *cells, strict=True))
    )
    if needed > width:
        return _turned(title, heads, rows, cells, width)
    drawn = _empty(title)
    for head in [*heads[:before], "Method", *heads[before:]]:
        drawn.add_column(Text(head), justify="left" if head == "Method" else "right", no_wrap=True)
    for row, figures in zip(rows, cells, strict=True):
        drawn.add_row(*figures[:before], Text(name_of(row)), *figures[before:])
    return [drawn]


def _turned(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Row],
    cells: Sequence[Sequence[Text]],
    width: int,
) -> list[RichTable]:
    """A column per method, in as many tables as the width asks for."""
    names = [name_parts(row) for row in rows]  # a line for each, or a column would be as wide as all that a name says
    needed = [max(*map(len, parts), *map(len, figures)) + 3 for parts, figures in zip(names, cells, strict=True)]
    drawn: list[RichTable] = []
    for chosen in _filled(needed, width - max(map(len, heads)) - 3):
        drawn.append(_empty(f"{title} (continued)" if drawn else title))
        drawn[-1].add_column("", no_wrap=True)
        for k in chosen:
            drawn[-1].add_column(Text("\n".join(names[k])), justify="right", vertical="bottom")
        for h, head in enumerate(heads):
            drawn[-1].add_row(Text(head), *(cells[k][h] for k in chosen))
    return drawn


def _filled(needed: Sequence[int], room: int) -> list[list[int]]:
    """Indices in order, in groups of which each needs at most `room`; what needs more is alone."""
    groups: list[list[int]] = []
    left = 0
    for k, one in enumerate(needed):
        if one > left or not groups:
            groups.append([])
            left = room
        groups[-1].append(k)
        left -= one
    return groups


def _empty(title: str) -> RichTable:
    return RichTable(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _rich_cell(cell: Cell | None, marks: Marks) -> Text:
    if cell is None:
        return Text(MISSING, style="dim")
    style, sign = marks.best if cell.best else marks.tied if cell.tied else ("", "")
    value = f"{'' if cell.comparable else '≠ '}{figure(cell.value)}"
    return Text.assemble(sign, (value, style), (f" {margin(cell)}{deviation(cell)}", "dim"))
