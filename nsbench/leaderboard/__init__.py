"""Results -> tables with rows, columns, cells, ranks: a pure function, so that every view shows the same thing."""

from nsbench.leaderboard.build import PAPER_COLUMNS, build
from nsbench.leaderboard.deltas import RowComparison, compare, find_row
from nsbench.leaderboard.kept import Kept
from nsbench.leaderboard.lent import Lender
from nsbench.leaderboard.pairs import AVERAGE
from nsbench.leaderboard.records import (
    BETTER,
    NOT_SEPARABLE,
    WORSE,
    Cell,
    Column,
    CriticalDifference,
    Delta,
    EffectiveLine,
    Leaderboard,
    Measurement,
    Row,
    RowCost,
    RowFlag,
    Table,
)

__all__ = [
    "AVERAGE",
    "BETTER",
    "NOT_SEPARABLE",
    "PAPER_COLUMNS",
    "WORSE",
    "Cell",
    "Column",
    "CriticalDifference",
    "Delta",
    "EffectiveLine",
    "Kept",
    "Leaderboard",
    "Lender",
    "Measurement",
    "Row",
    "RowComparison",
    "RowCost",
    "RowFlag",
    "Table",
    "build",
    "compare",
    "find_row",
]
