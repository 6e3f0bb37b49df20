"""The leaderboard as text: a rich table for the terminal and a Markdown table, in the page's order and rounding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsbench import leaderboard
from nsbench.leaderboard import Cell, Leaderboard, Row, Table
from nsbench.report.numbers import MISSING, figure, heading, margin, rank
from nsbench.results import read_results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text


def render_terminal(results_dir: Path, console: Console) -> None:
    """Print every table; bold is the best of a column, underlined cannot be told from it."""
    board = leaderboard.build(*read_results(results_dir))
    for table in board.tables:
        console.print(_rich_table(table))
    for problem in board.problems:
        console.print(f"left out: {problem}", style="yellow", markup=False, highlight=False)


def _rich_table(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(heading(table)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("Rank", justify="right")
    drawn.add_column("Method")
    for column in table.columns:
        drawn.add_column(Text(f"{column.title} {column.arrow}"), justify="right", no_wrap=True)
    drawn.add_column("Average ↑", justify="right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(rank(row), Text(row.label), *(_rich_cell(cell) for cell in _cells(table, row)))
    return drawn


def _rich_cell(cell: Cell | None) -> Text:
    from rich.text import Text

    if cell is None:
        return Text(MISSING, style="dim")
    style = "bold" if cell.best else "underline" if cell.tied else ""
    mark = "" if cell.comparable else "≠ "
    return Text.assemble((f"{mark}{figure(cell.value)}", style), (f" {margin(cell)}", "dim"))


def to_markdown(board: Leaderboard) -> str:
    """One table per source, model and image set; **best**, <ins>not separable from it</ins>."""
    return "\n".join(_markdown_table(table) for table in board.tables)


def _markdown_table(table: Table) -> str:
    heads = ["Rank", "Method", *(f"{column.title} {column.arrow}" for column in table.columns), "Average ↑"]
    lines = [f"### {_plain(heading(table))}", "", _line([_plain(head) for head in heads]),
             _line(["---:", ":---", *["---:"] * (len(heads) - 2)])]
    lines += [_line([rank(row), _plain(row.label), *(_markdown_cell(cell) for cell in _cells(table, row))])
              for row in table.rows]
    return "\n".join([*lines, ""])


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return MISSING
    value = f"**{figure(cell.value)}**" if cell.best else f"<ins>{figure(cell.value)}</ins>" if cell.tied else (
        figure(cell.value) if cell.comparable else f"≠ {figure(cell.value)}")
    return f"{value} {margin(cell)}"


def _cells(table: Table, row: Row) -> list[Cell | None]:
    return [*(row.cells.get(column.suite) for column in table.columns), row.average]


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _plain(text: str) -> str:
    """A name inside Markdown: no markup of its own, no new column or line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\|*_`[]":
        text = text.replace(character, f"\\{character}")
    return text
