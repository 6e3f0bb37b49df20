"""What a suite's card draws beside the places: accuracy against budget, sizes of changes, maps of corruption errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nsbench.leaderboard import Cell, Row
from nsbench.leaderboard.details import Details, corruption_errors
from nsbench.report.page import charts
from nsbench.report.page.charts import Point, Series, Strip
from nsbench.report.page.rows import landmarks
from nsbench.results.record import ConditionResult
from nsbench.statistics import L2_BUDGETS, wilson

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST = 5  # broken images that have a distribution
UNITS = {"linf": "ε in 1/255, ℓ∞", "l2": "ℓ2 norm, pixels in [0, 1]"}

# --- curves ---------------------------------------------------------------------------------------------------------


def curve(rows: Sequence[tuple[Row, Cell]], styles: Mapping[str, str]) -> Markup | None:
    """Accuracy against the attack's budget, from the same images unattacked at zero; None without three budgets."""
    for norm, unit in UNITS.items():
        series = [
            Series(row.label, styles[row.label], points)
            for row, cell in rows
            if len(points := _points(row, cell, norm)) > 1
        ]
        if series and max(len(one.points) for one in series) > 2:
            levels = sorted({point.x for one in series for point in one.points})
            return charts.lines(series, unit, "accuracy, %", top=100, x_ticks=[(x, f"{x:g}") for x in levels])
    return None


def _points(row: Row, cell: Cell, norm: str) -> list[Point]:
    """(budget, accuracy) of one row under one norm, mean over seeds; l-infinity budgets in 1/255."""
    found: dict[float, list[tuple[float, int]]] = {}
    for result in cell.results:
        for condition in result.conditions:
            threat = condition.threat
            if threat is not None and threat.norm == norm and threat.eps is not None:
                budget = round(255 * threat.eps, 6) if norm == "linf" else threat.eps
                found.setdefault(budget, []).append((condition.accuracy, condition.n))
        if norm == "l2" and _unbounded_l2(result.conditions[0]):
            for budget in L2_BUDGETS:
                if (name := f"accuracy at l2 {budget:g}") in result.score.extra:  # as statistics.accuracy calls it
                    found.setdefault(budget, []).append((result.score.extra[name], result.score.n))
    if found:
        found[0.0] = [(one.accuracy, one.n) for one in _unattacked(row, cell.results[0].conditions[0])]
    return [_point(x, found[x]) for x in sorted(found) if found[x]]


def _unbounded_l2(condition: ConditionResult) -> bool:
    """The attack looked for the nearest image that breaks it."""
    threat = condition.threat
    return threat is not None and threat.norm == "l2" and threat.eps is None


def _point(x: float, measured: Sequence[tuple[float, int]]) -> Point:
    accuracy, n = sum(value for value, _ in measured) / len(measured), measured[0][1]
    low, high = wilson(round(accuracy * n / 100), n)
    return Point(x, accuracy, 100 * low, 100 * high)


def _unattacked(row: Row, attacked: ConditionResult) -> list[ConditionResult]:
    """The same row's conditions on the very same images without an attack, where some suite measured them."""
    images = attacked.data_digest, attacked.preprocess, attacked.n
    return [
        one
        for result in row.results
        for one in result.conditions
        if one.attack is None and (one.data_digest, one.preprocess, one.n) == images
    ]


def norms(details: Details, suite: str, rows: Sequence[Row], styles: Mapping[str, str]) -> Markup | None:
    """The l2 norms of the changes that broke images, where the attack was free to choose them; None elsewhere."""
    strips = [
        Strip(row.label, styles[row.label], np.quantile(found, QUANTILES).tolist(), len(found))
        for row in rows
        if len(found := details.breaking_norms(row, suite)) >= FEWEST
    ]
    return charts.strips(strips, UNITS["l2"]) if strips else None


# --- maps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heat:
    """Errors in percent of one row, or their differences in points: corruption -> severities 1 to 5."""

    row: Row
    errors: Mapping[str, Sequence[float]]

    @property
    def strongest(self) -> float:
        """The largest value without its sign."""
        return max((abs(value) for errors in self.errors.values() for value in errors), default=0.0)


def heat(row: Row, cell: Cell) -> Heat:
    """In the order of the conditions; mean over seeds."""
    return Heat(row, corruption_errors(cell.results))


def reference_of(heats: Sequence[Heat], wanted: str = "") -> Heat | None:
    """The row of this label, the matched control, or the checkpoint as it is; None where there is none of them."""
    marks = [one for one in heats if one.row.label == wanted]
    marks += [one for mark in landmarks([one.row for one in heats]) for one in heats if one.row is mark]
    return marks[0] if marks and len(heats) > 1 else None


def against(heats: Sequence[Heat], reference: Heat | None) -> list[Heat]:
    """Errors minus those of the reference, of every other row: below zero is better."""
    if reference is None:
        return []
    return [
        Heat(
            one.row,
            {
                name: [a - b for a, b in zip(errors, reference.errors[name], strict=True)]
                for name, errors in one.errors.items()
            },
        )
        for one in heats
        if one is not reference
    ]
