"""How many rows the page draws in detail, so that a page of a thousand rows opens at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsbench.leaderboard import Row
from nsbench.results.comparability import CONTROL

LANDMARKS = (CONTROL, "pretrained")  # methods that a chart of a few rows shows in any case


@dataclass(frozen=True)
class Limits:
    """Larger tables keep every row in the table and show these many elsewhere."""

    places: int = 16  # rows of a suite's dot-and-whisker chart
    lines: int = 8  # rows of curves, norms and heat maps: as many as there are colours
    cards: int = 60  # methods with a card of their own
    pairs: int = 50  # the largest table whose pairs of rows are all on the page
    at_first: int = 200  # rows of a table that the screen shows before it is asked for all
    sentences: int = 100  # the largest table each of whose figures brings all about it in words, and its provenance

    @classmethod
    def of(cls, detail: int | None) -> Limits:
        """The usual ones, or `detail` rows in every chart and as many cards."""
        return cls() if detail is None else cls(detail, detail, detail)


def drawn(rows: Sequence[Row], most: int) -> list[Row]:
    """The rows of a chart, in their order: all, or the first ones and the landmarks."""
    if len(rows) <= most:
        return list(rows)
    marks = [next((row for row in rows if row.method == method), None) for method in LANDMARKS]
    kept = {id(row) for row in marks if row is not None}
    for row in rows:
        if len(kept) >= most:
            break
        kept.add(id(row))
    return [row for row in rows if id(row) in kept]


def left_out(shown: int, rows: int, what: str) -> str:
    """What a reader is told about rows that are not drawn; "" where all are."""
    if shown >= rows:
        return ""
    return (
        f"{what}: {shown} of {rows:,} rows, the first ones and the control; all are in the table. "
        f"For more: nsbench report --detail {min(rows, 4 * shown)}"
    )
