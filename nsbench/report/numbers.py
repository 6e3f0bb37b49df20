"""One rounding for the page, the terminal and Markdown: one decimal, the interval as half its width."""

from __future__ import annotations

from collections.abc import Sequence

from nsbench.leaderboard import Cell, Column, Row, Table

MISSING = "–"


def figure(value: float) -> str:
    return f"{value:.1f}"


def margin(cell: Cell) -> str:
    """Half the width of the 95 % interval; the exact ends stand in `sentence`."""
    return f"±{(cell.high - cell.low) / 2:.1f}"


def rank(row: Row) -> str:
    """ "2", or "1–3" where the intervals allow several places."""
    if row.rank is None:
        return ""
    first, last = row.rank
    return str(first) if first == last else f"{first}–{last}"


def seeds(values: Sequence[int]) -> str:
    return f"seed{'s' if len(values) > 1 else ''} {', '.join(map(str, values))}"


def sentence(cell: Cell, column: Column) -> str:
    """All about one figure, for a tooltip."""
    unit = " %" if column.unit == "%" else f" {column.unit}"
    parts = [f"{column.title} {cell.value:.2f}{unit}, 95 % interval {cell.low:.2f} to {cell.high:.2f}",
             f"n = {cell.n:,} images", seeds(cell.seeds)]
    if cell.spread:
        parts.append(f"{cell.spread[0]:.2f} to {cell.spread[1]:.2f} over seeds")
    if cell.best:
        parts.append("best of its column")
    if cell.tied:
        parts.append("cannot be told from the best: the intervals overlap")
    if not cell.comparable:
        parts.append(f"not compared: {cell.reason}")
    return "; ".join(parts)


def heading(table: Table) -> str:
    words = [table.source, table.model]
    return " · ".join(words if table.image_set == "all images" else [*words, table.image_set])
