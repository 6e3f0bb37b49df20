"""The leaderboard as text: rich tables for the terminal and Markdown, in the page's order and rounding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsbench import leaderboard
from nsbench.errors import UsageError
from nsbench.leaderboard import AVERAGE, BETTER, Cell, Comparison, Leaderboard, Row, Table, compare, find_row
from nsbench.report.numbers import (
    MISSING,
    average_column,
    deviation,
    figure,
    flagged,
    heading,
    margin,
    pvalue,
    rank,
    seed_note,
    signed,
)
from nsbench.report.published import SOURCE, Published, published_rows
from nsbench.report.side_columns import BEYOND, SideColumn, side_columns, side_notes
from nsbench.results import read_results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text


def render_terminal(results_dir: Path, console: Console, *, reference: str | None = None, partial: bool = False,
                    ) -> None:
    """Print every table; bold is the best of a column, underlined is not separable from it."""
    board = leaderboard.build(*read_results(results_dir), reference=reference, partial=partial)
    for table in board.tables:
        console.print(_rich_table(table, console.width))
        if side := side_columns(table):
            console.print(_side_table(table, side))
        for line in table_notes(table):
            console.print(line, style="dim", markup=False, highlight=False)
    for problem in board.problems:
        console.print(f"left out: {problem}", style="yellow", markup=False, highlight=False)
    if not board.tables:
        console.print("There are no results yet. Make some: nsbench run --method ns --suite all", markup=False)


def render_comparison(results_dir: Path, first: str, second: str, console: Console, *, partial: bool = False) -> None:
    """Print the paired comparison of two rows in every table that holds both. Raises UsageError where none does."""
    board = leaderboard.build(*read_results(results_dir), partial=partial)
    shared = [table for table in board.tables if _holds(table, first) and _holds(table, second)]
    if not shared:
        rows = [row for table in board.tables for row in table.rows]
        find_row(rows, first), find_row(rows, second)  # raises where a name is wrong
        raise UsageError(f"'{first}' and '{second}' are in no table together: other source, images or preprocessing")
    for table in shared:
        console.print(_comparison_table(table, first, second))


def _holds(table: Table, name: str) -> bool:
    try:
        find_row(table.rows, name)
    except UsageError:
        return False
    return True


def _comparison_table(table: Table, first: str, second: str) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    one, two = (table.rows[find_row(table.rows, name)].label for name in (first, second))
    drawn = RichTable(title=Text(f"{one}  −  {two}   ({heading(table)})"), title_justify="left", box=box.SIMPLE_HEAD,
                      pad_edge=False, caption="p after Holm over all pairs in all columns; images that only one has "
                      "right: first, second", caption_justify="left")
    drawn.add_column("")
    for title in ("first", "second", "difference", "95 % interval", "p", "only one right"):
        drawn.add_column(title, justify="right", no_wrap=True)
    drawn.add_column("verdict")
    columns = {column.suite: column for column in [*table.columns, average_column(table)]}
    for found in compare(table, first, second):
        column = columns[found.suite]
        drawn.add_row(Text(f"{column.title} {column.arrow}"), *(Text(text) for text in _compared(found)),
                      Text(f"{found.delta.verdict} ({found.delta.test})",
                           style="bold" if found.delta.verdict == BETTER else ""))
    return drawn


def _compared(found: Comparison) -> list[str]:
    delta = found.delta
    only = MISSING if found.only_first is None else f"{found.only_first}, {found.only_second}"
    return [figure(found.cell.value), figure(found.other.value), signed(delta.value),
            f"{signed(delta.low)} to {signed(delta.high)}", pvalue(delta.adjusted), only]


def table_notes(table: Table) -> list[str]:
    """What a reader must know beside the figures."""
    notes = []
    separable, adjacent = table.average_neighbours
    if adjacent:
        notes.append(f"By average {separable} of {adjacent} adjacent pair{'s' if adjacent > 1 else ''} can be told "
                     "apart.")
    if table.partial_suites:
        notes.append(average_column(table).summary)
    if words := seed_note(table):
        notes.append(words)
    for row in table.rows:
        for column in table.columns:
            cell = row.cells.get(column.suite)
            if cell and not cell.comparable:
                notes.append(f"≠ {row.label}, {column.title}: not compared, {cell.reason}.")
        notes += [f"{row.label}: {note}." for note in row.notes]
    return [*notes, *side_notes(table), *(flagged(row, flag) for row in table.rows for flag in row.flags)]


def _name(row: Row) -> str:
    """The row's label, marked where a health flag among the notes says why its figures may flatter it."""
    return f"{row.label} ⚑" if row.flags else row.label


def _rich_table(table: Table, width: int) -> RichTable:
    """A row per method as on the page; turned, with a row per suite, where the terminal is too narrow for that."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    heads = [Text(f"{column.title} {column.arrow}") for column in [*table.columns, average_column(table)]]
    cells = [[_rich_cell(cell) for cell in _cells(table, row)] for row in table.rows]
    needed = 12 + max((len(_name(row)) for row in table.rows), default=0) + sum(
        max(map(len, column)) + 3 for column in zip(heads, *cells, strict=True))
    drawn = RichTable(title=Text(heading(table)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    if needed <= width:
        drawn.add_column("Rank", justify="right", no_wrap=True)
        drawn.add_column("Method", no_wrap=True)
        for head in heads:
            drawn.add_column(head, justify="right", no_wrap=True)
        for row, figures in zip(table.rows, cells, strict=True):
            drawn.add_row(rank(row), Text(_name(row)), *figures)
        return drawn
    drawn.add_column("")
    for row in table.rows:
        drawn.add_column(Text(_name(row)), justify="right")
    drawn.add_row("Rank", *(rank(row) for row in table.rows))
    for head, *figures in zip(heads, *cells, strict=True):
        drawn.add_row(head, *figures)
    return drawn


def _side_table(table: Table, columns: list[SideColumn]) -> RichTable:
    """Effective robustness and cost of each row."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    groups = " and ".join(dict.fromkeys(column.group.lower() for column in columns)).capitalize()
    drawn = RichTable(title=Text(groups), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("Method")
    for column in columns:
        drawn.add_column(Text(column.title), justify="right")
    for row in table.rows:
        drawn.add_row(Text(_name(row)), *(Text(column.text(row.label)) for column in columns))
    return drawn


def _rich_cell(cell: Cell | None) -> Text:
    from rich.text import Text

    if cell is None:
        return Text(MISSING, style="dim")
    style = "bold" if cell.best else "underline" if cell.tied else ""
    mark = "" if cell.comparable else "≠ "
    return Text.assemble((f"{mark}{figure(cell.value)}", style), (f" {margin(cell)}{deviation(cell)}", "dim"))


def to_markdown(board: Leaderboard) -> str:
    """One table per source, image set and preprocessing; **best**, <ins>not separable from it</ins>, *reported*."""
    return "\n".join(_markdown_table(table) for table in board.tables)


def _markdown_table(table: Table) -> str:
    columns = [*table.columns, average_column(table)]
    heads = ["Rank", "Method", *(f"{column.title} {column.arrow}" for column in columns)]
    lines = [f"### {_plain(heading(table))}", "", _line([_plain(head) for head in heads]),
             _line(["---:", ":---", *["---:"] * (len(heads) - 2)])]
    lines += [_line([rank(row), _plain(_name(row)), *(_markdown_cell(cell) for cell in _cells(table, row))])
              for row in table.rows]
    reported = published_rows(table.source, *table.models)
    lines += [_line(["", f"*{_plain(f'{row.method} ({row.model}, {row.reference})')}*", *(
        _reported(row, column.suite) for column in columns)]) for row in reported]
    side = _markdown_side(table, side_columns(table))
    notes = table_notes(table) + ([f"Rows in italics are as reported in {SOURCE}; they are not ranked."] if reported
                                  else [])
    return "\n".join([*lines, *side, *(["", *(f"- {_plain(note)}" for note in notes)] if notes else []), ""])


def _markdown_side(table: Table, columns: list[SideColumn]) -> list[str]:
    if not columns:
        return []
    heads = [_plain(f"{column.title} (beyond the line)" if column.group == BEYOND else column.title)
             for column in columns]
    return ["", _line(["Method", *heads]), _line([":---", *["---:"] * len(columns)]),
            *(_line([_plain(_name(row)), *(_plain(column.text(row.label)) for column in columns)])
              for row in table.rows)]


def _reported(row: Published, suite: str) -> str:
    return f"*{figure(row.figures[suite])}*" if suite in row.figures else MISSING


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return MISSING
    value = f"**{figure(cell.value)}**" if cell.best else f"<ins>{figure(cell.value)}</ins>" if cell.tied else (
        figure(cell.value) if cell.comparable else f"≠ {figure(cell.value)}")
    return f"{value} {margin(cell)}{deviation(cell)}"


def _cells(table: Table, row: Row) -> list[Cell | None]:
    return [*(row.cells.get(column.suite) for column in table.columns), row.cell(AVERAGE)]


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _plain(text: str) -> str:
    """A name inside Markdown: no markup of its own, no new column or line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\|*_`[]":
        text = text.replace(character, f"\\{character}")
    return text
