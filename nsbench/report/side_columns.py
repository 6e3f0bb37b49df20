"""What stands beside the figures of a row, as columns: effective robustness under each shift, and cost.

Effective robustness is the distance from a line through the table's own rows (R. Taori et al. 2020, arXiv 2007.00644).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nsbench.leaderboard import RowCost, Table
from nsbench.report.numbers import MISSING, signed

BEYOND, COST = "Effective robustness", "Cost"  # groups of columns


@dataclass(frozen=True)
class SideColumn:
    """One column: what it says of each row, by label."""

    group: str  # BEYOND or COST
    title: str
    summary: str  # the exact meaning; the column's tooltip
    values: Mapping[str, float | str]  # to sort by; rows without a value are not in it
    texts: Mapping[str, str]  # as shown

    def text(self, label: str) -> str:
        return self.texts.get(label, MISSING)


def side_columns(table: Table) -> list[SideColumn]:
    """Columns with at least one value."""
    found = [*_beyond(table), *(_cost(table, *one) for one in COSTS)]
    return [column for column in found if column.values]


def side_notes(table: Table) -> list[str]:
    """What the lines are fitted on, and why columns under shift have none."""
    titles = {column.suite: column.title for column in table.columns}
    notes = []
    if table.lines:
        notes.append(
            f"Effective robustness: percentage points above the line of {table.lines[0].fitted_on}; it moves "
            "with the rows that are here."
        )
    reasons: dict[str, list[str]] = {}
    for suite, why in table.no_lines.items():
        reasons.setdefault(why, []).append(titles[suite])
    return [*notes, *(f"No effective robustness for {', '.join(mine)}: {why}." for why, mine in reasons.items())]


def _beyond(table: Table) -> list[SideColumn]:
    titles = {column.suite: column.title for column in table.columns}
    found = []
    for line in table.lines:
        values = {row.label: row.effective[line.suite] for row in table.rows if line.suite in row.effective}
        found.append(
            SideColumn(
                BEYOND,
                titles[line.suite],
                (
                    f"Accuracy on {titles[line.suite]} minus what clean accuracy lets expect, percentage points. The line: "
                    f"logit(shifted) = {line.intercept:.2f} + {line.slope:.2f} logit(clean), {line.fitted_on}."
                ),
                values,
                {label: signed(value) for label, value in values.items()},
            )
        )
    return found


def duration(seconds: float) -> str:
    """ "none", "48 s", "12 min", "3.5 h"."""
    if not seconds:
        return "none"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def many(count: float) -> str:
    """ "950", "12.3 k", "4.6 M": three digits."""
    for unit in ("", " k", " M", " G"):
        if count < 999.5:
            return f"{count:.0f}{unit}" if not unit or count >= 99.95 else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:,.0f} T"


COSTS: list[tuple[str, str, Callable[[RowCost], float | str | None], Callable[[float], str]]] = [
    ("Training", "Time of one training run, mean over seeds.", lambda c: c.fit_seconds, duration),
    (
        "Forwards",
        "What one training run cost in forward passes of one image; gradients of activations and of weights "
        "count as one each.",
        lambda c: c.forward_equivalents,
        many,
    ),
    ("Evaluation", "Time of all evaluations of this row, all seeds.", lambda c: c.evaluation_seconds, duration),
    (
        "Memory",
        "Peak memory of the process, the largest of its evaluations.",
        lambda c: c.peak_memory_mib,
        "{:,.0f} MiB".format,
    ),
    ("Device", "What the newest evaluation ran on.", lambda c: c.device or None, str),
]


def _cost(
    table: Table, title: str, summary: str, value: Callable[[RowCost], float | str | None], text: Callable[[float], str]
) -> SideColumn:
    values = {row.label: found for row in table.rows if row.cost and (found := value(row.cost)) is not None}
    return SideColumn(COST, title, summary, values, {label: text(one) for label, one in values.items()})  # type: ignore[arg-type]
