"""What stands beside the figures of a row, as columns: effective robustness under each shift, confidence, and cost.

Effective robustness is the distance from a line through the table's own rows (R. Taori et al. 2020, arXiv 2007.00644).
How sure a model is of its classes is shown for the clean column; see `nsbench.statistics.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nsbench.leaderboard import Column, Row, RowCost, Table
from nsbench.report.numbers import MISSING, figure, signed
from nsbench.statistics.calibration import BINS, CALIBRATION, COVERAGE, SELECTIVE, TOP5

BEYOND, CONFIDENCE, COST = "Effective robustness", "Confidence", "Cost"  # groups of columns


@dataclass(frozen=True)
class SideColumn:
    """One column: what it says of each row, by label."""

    group: str  # BEYOND, CONFIDENCE or COST
    title: str
    summary: str  # the exact meaning; the column's tooltip
    values: Mapping[str, float | str]  # to sort by; rows without a value are not in it
    texts: Mapping[str, str]  # as shown
    better: Literal["higher", "lower", ""] = ""  # "": neither
    where: str = ""  # for tables that do not show the group: "beyond the line"

    def text(self, label: str) -> str:
        return self.texts.get(label, MISSING)

    def to_sort_by(self, label: str) -> str:
        """The value as pages write it: without digits that follow which machine summed."""
        value = self.values[label]
        return value if isinstance(value, str) else f"{value:.9g}"

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "": ""}[self.better]


def side_columns(table: Table) -> list[SideColumn]:
    """Columns with at least one value."""
    found = [*_beyond(table), *_confidence(table), *_cost(table)]
    return [column for column in found if column.values]


def side_notes(table: Table, groups: Sequence[str] = (BEYOND, CONFIDENCE)) -> list[str]:
    """What the columns of these groups mean: what lines are fitted on, whose confidence it is, what is counted as cost."""
    of = {BEYOND: _beyond_notes, CONFIDENCE: _confidence_notes, COST: _cost_notes}
    return [note for group in groups for note in of[group](table)]


# --- effective robustness -------------------------------------------------------------------------------------------


def _beyond_notes(table: Table) -> list[str]:
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
    return notes + [f"No effective robustness for {', '.join(mine)}: {why}." for why, mine in reasons.items()]


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
                    f"Accuracy on {titles[line.suite]} minus what its clean accuracy predicts, percentage points. "
                    f"The line: logit(shifted) = {_with_sign(line.intercept)} {'−' if line.slope < 0 else '+'} "
                    f"{abs(line.slope):.2f} logit(clean), {line.fitted_on}."
                ),
                values,
                {label: signed(value) for label, value in values.items()},
                "higher",
                "beyond the line",
            )
        )
    return found


def _with_sign(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


# --- confidence -----------------------------------------------------------------------------------------------------

_ECE = f"mean over images of |accuracy − mean confidence| in {BINS} bins of equal mass"
CONFIDENCES: Sequence[tuple[str, str, str, Literal["higher", "lower"]]] = [
    (TOP5, "Top-5", "Share of images whose label is among the five most probable classes, percent.", "higher"),
    (CALIBRATION, "Calibration error", f"Expected calibration error: {_ECE}, percentage points.", "lower"),
    (
        SELECTIVE,
        f"Accuracy, surest {100 * COVERAGE:g} %",
        f"Top-1 accuracy on the {100 * COVERAGE:g} % of images with the largest confidence, percent.",
        "higher",
    ),
]


def confidence(table: Table, row: Row) -> dict[str, float]:
    """TOP5, CALIBRATION and SELECTIVE of the clean column, means over seeds; without what is not known."""
    column = clean_column(table)
    cell = row.cells.get(column.suite) if column else None
    if cell is None or not cell.comparable:
        return {}
    return {name: value for name, *_ in CONFIDENCES if (value := cell.extra(name)) is not None}


def clean_column(table: Table) -> Column | None:
    """The first of the clean columns."""
    return next((column for column in table.columns if column.group == "clean"), None)


def _confidence(table: Table) -> list[SideColumn]:
    column = clean_column(table)
    if column is None:
        return []
    known = {row.label: confidence(table, row) for row in table.rows}
    found = []
    for name, title, summary, better in CONFIDENCES:
        values = {label: mine[name] for label, mine in known.items() if name in mine}
        texts = {label: figure(value) for label, value in values.items()}
        found.append(SideColumn(CONFIDENCE, title, f"{column.title}: {summary}", values, texts, better, column.title))
    return found


def _confidence_notes(table: Table) -> list[str]:
    column = clean_column(table)
    if column is None or not any(confidence(table, row) for row in table.rows):
        return []
    told = [f"Confidence is that on {column.title}. Calibration error: {_ECE}, percentage points."]
    if any(
        (cell := row.cells.get(column.suite)) and cell.comparable and not confidence(table, row) for row in table.rows
    ):
        told.append("Rows without confidence are of older versions, whose results hold no probabilities.")
    return told


# --- cost -----------------------------------------------------------------------------------------------------------


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


COSTS: Sequence[tuple[str, str, Callable[[RowCost], float | None], Callable[[float], str]]] = [
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
]


def _cost_notes(table: Table) -> list[str]:
    """What each column that has a value counts, in one line; a device needs no words."""
    known = {column.title for column in _cost(table) if column.values}
    words = [f"{title}: {summary[0].lower()}{summary[1:]}" for title, summary, *_ in COSTS if title in known]
    return [" ".join(words)] if words else []


def _cost(table: Table) -> list[SideColumn]:
    costs = {row.label: row.cost for row in table.rows if row.cost}
    found = []
    for title, summary, of, text in COSTS:
        values = {label: value for label, cost in costs.items() if (value := of(cost)) is not None}
        found.append(SideColumn(COST, title, summary, values, {label: text(one) for label, one in values.items()}))
    devices = {label: cost.device for label, cost in costs.items() if cost.device}
    return [*found, SideColumn(COST, "Device", "What the newest evaluation ran on.", devices, devices)]
