"""The leaderboard as Markdown, in the page's order and rounding."""

from __future__ import annotations

from nsbench.leaderboard import AVERAGE, Cell, Column, Leaderboard, Row, Table
from nsbench.report.answer import answer
from nsbench.report.notes import marks_note, text_notes
from nsbench.report.numbers import (
    MISSING,
    ONCE,
    average_column,
    deviation,
    figure,
    heading,
    margin,
    rank,
)
from nsbench.report.published import OTHER, SOURCE, Published, printed_otherwise, published_of
from nsbench.report.side_columns import SideColumn, side_columns


def name_of(row: Row) -> str:
    """The row's label, marked where the notes say that it is of one training, or that its figures may flatter it."""
    return " · ".join(name_parts(row))


def name_parts(row: Row) -> list[str]:
    """The method's title, then each qualifier, the last part with the marks."""
    *others, last = [row.title, *row.qualifiers]
    return [*others, " ".join([last, *([ONCE] if row.of_weights else []), *(["⚑"] if row.flags else [])])]


def to_markdown(board: Leaderboard) -> str:
    """One table per source, image set and preprocessing; **best**, <ins>not separable from it</ins>, *reported*."""
    return "\n".join(_markdown_table(table) for table in board.tables)


def _markdown_table(table: Table) -> str:
    columns = columns_of(table)
    heads = ["Rank", "Method", *(f"{column.title} {column.arrow}" for column in columns)]
    lines = [
        f"### {_plain(heading(table))}",
        "",
        *(f"- {_plain(one.sentence)}" for one in answer(table)),
        "",
        _line([_plain(head) for head in heads]),
        _line(["---:", ":---", *["---:"] * (len(heads) - 2)]),
    ]
    lines += [
        _line([rank(row), _plain(name_of(row)), *(_markdown_cell(cell) for cell in cells_of(table, row))])
        for row in table.rows
    ]
    reported = published_of(table)
    lines += [
        _line(
            [
                "",
                f"*{_plain(f'{row.method} ({row.model}, {row.reference})')}*",
                *(_reported(row, column.suite) for column in columns),
            ]
        )
        for row in reported
    ]
    side = _markdown_side(table, side_columns(table))
    marks = marks_note(table, "Bold", "underlined")
    notes = [*([marks] if marks else []), *text_notes(table)] + (
        [
            f"Rows in italics are as reported in {SOURCE}; they are not ranked.",
            *printed_otherwise(reported, table.columns),
        ]
        if reported
        else []
    )
    return "\n".join([*lines, *side, *(["", *(f"- {_plain(note)}" for note in notes)] if notes else []), ""])


def _markdown_side(table: Table, columns: list[SideColumn]) -> list[str]:
    if not columns:
        return []
    heads = [_plain(f"{column.title} ({column.where})" if column.where else column.title) for column in columns]
    return [
        "",
        _line(["Method", *heads]),
        _line([":---", *["---:"] * len(columns)]),
        *(_line([_plain(name_of(row)), *(_plain(column.text(row.label)) for column in columns)]) for row in table.rows),
    ]


def _reported(row: Published, suite: str) -> str:
    if suite not in row.figures:
        return MISSING
    return f"*{figure(row.figures[suite])}{OTHER if row.other(suite) else ''}*"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return MISSING
    value = (
        f"**{figure(cell.value)}**"
        if cell.best
        else f"<ins>{figure(cell.value)}</ins>"
        if cell.tied
        else (figure(cell.value) if cell.comparable else f"≠ {figure(cell.value)}")
    )
    return f"{value} {margin(cell)}{deviation(cell)}"


def columns_of(table: Table) -> list[Column]:
    """The average before the suites, and behind them where no row has one."""
    average = average_column(table)
    has_one = any(row.cell(AVERAGE) for row in table.rows)
    return [average, *table.columns] if has_one else [*table.columns, average]


def cells_of(table: Table, row: Row) -> list[Cell | None]:
    """The row's cells in the order of `columns_of`; None where there is nothing."""
    return [row.cell(column.suite) for column in columns_of(table)]


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _plain(text: str) -> str:
    """A name inside Markdown: no markup of its own, no new column or line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\|*_`[]":
        text = text.replace(character, f"\\{character}")
    return text
