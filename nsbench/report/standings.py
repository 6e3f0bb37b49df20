"""A leaderboard in Python and in a notebook: a frame, or the tables as text."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from nsbench.leaderboard import Leaderboard
from nsbench.report.numbers import average_column, heading, rank
from nsbench.report.tables.text import to_markdown
from nsbench.report.tables.tidy import to_frame


@dataclass(frozen=True)
class Standings:
    """A leaderboard in a notebook."""

    board: Leaderboard

    def to_frame(self, tidy: bool = False) -> pd.DataFrame:
        """A line for each row with its figures by column; `tidy`: a line for each figure, with all that is known of it.

        Figures are in the unit of their column; an average exists only where all of its columns do.
        """
        if tidy:
            return to_frame(self.board)
        lines = []
        for table in self.board.tables:
            columns = [*table.columns, average_column(table)]
            for row in table.rows:
                cells = {column.title: row.cell(column.suite) for column in columns}
                figures = {title: cell.value if cell else None for title, cell in cells.items()}
                lines.append({"table": heading(table), "row": row.label, "rank": rank(row), **figures})
        frame = pd.DataFrame(lines, columns=None if lines else ["table", "row", "rank"])
        return frame.set_index(["table", "row"] if len(self.board.tables) > 1 else "row").drop(
            columns=[] if len(self.board.tables) > 1 else ["table"]
        )

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(na_rep="–", float_format="{:.1f}".format)
        return html

    def __str__(self) -> str:
        return to_markdown(self.board)
