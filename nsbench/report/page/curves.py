"""Accuracy against an attack's budget, and how large the changes were that broke images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from nsbench.errors import ResultError
from nsbench.leaderboard import Cell, Row
from nsbench.leaderboard.outcomes import OutcomeArrays
from nsbench.report.page import charts
from nsbench.report.page.charts import Point, Series, Strip
from nsbench.results import Result
from nsbench.statistics import L2_BUDGETS, wilson

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST = 5  # broken images that have a distribution
UNITS = {"linf": "ε in 1/255, ℓ∞", "l2": "ℓ2 norm, pixels in [0, 1]"}


def curve(rows: Sequence[tuple[Row, Cell]], styles: Mapping[str, str]) -> Markup | None:
    """Accuracy against the attack's budget, from the same images unattacked at zero; None without three budgets."""
    for norm, unit in UNITS.items():
        drawn = [
            Series(row.label, styles[row.label], points)
            for row, cell in rows
            if len(points := _points(row, cell, norm)) > 1
        ]
        if drawn and max(len(one.points) for one in drawn) > 2:
            levels = sorted({point.x for one in drawn for point in one.points})
            return charts.lines(drawn, unit, "accuracy, %", top=100, x_ticks=[(x, f"{x:g}") for x in levels])
    return None


def _points(row: Row, cell: Cell, norm: str) -> list[Point]:
    """(budget, accuracy) of one row under one norm, mean over seeds; l-infinity budgets in 1/255."""
    found: dict[float, list[tuple[float, int]]] = {}
    for result in cell.results:
        for condition in result.conditions:
            match = re.fullmatch(rf"{norm} ([0-9.e+-]+)(/255)?", str(condition["threat"]))
            if match:
                found.setdefault(float(match[1]), []).append((condition["accuracy"], condition["n"]))
        if norm == "l2" and str(result.conditions[0]["threat"]) == "l2 unbounded":
            for budget in L2_BUDGETS:
                if (name := f"accuracy at l2 {budget:g}") in result.score.extra:
                    found.setdefault(budget, []).append((result.score.extra[name], result.score.n))
    if found:
        found[0.0] = [(c["accuracy"], c["n"]) for c in _unattacked(row, cell.results[0].conditions[0])]
    return [_point(x, found[x]) for x in sorted(found) if found[x]]


def _point(x: float, measured: Sequence[tuple[float, int]]) -> Point:
    accuracy, n = sum(value for value, _ in measured) / len(measured), measured[0][1]
    low, high = wilson(round(accuracy * n / 100), n)
    return Point(x, accuracy, 100 * low, 100 * high)


def _unattacked(row: Row, attacked: Mapping) -> list[Mapping]:
    """The same row's accuracy on the very same images without an attack, where some suite measured it."""
    return [
        condition
        for result in row.results
        for condition in result.conditions
        if condition["attack"] is None
        and all(condition[key] == attacked[key] for key in ("data_digest", "preprocess", "n"))
    ]


def norms(rows: Sequence[tuple[Row, Cell]], styles: Mapping[str, str]) -> Markup | None:
    """The l2 norms of the changes that broke images, where the attack was free to choose them; None elsewhere."""
    strips = [
        Strip(row.label, styles[row.label], np.quantile(found, QUANTILES).tolist(), len(found))
        for row, cell in rows
        if len(found := _broken_by(cell.results[0])) >= FEWEST
    ]
    return charts.strips(strips, UNITS["l2"]) if strips else None


def _broken_by(result: Result) -> np.ndarray:
    """l2 norms of the changes to images that were right before the first condition's attack and wrong after it."""
    condition = result.conditions[0]
    free = re.match(r"l2 unbounded|\d+ patch", str(condition["threat"]))
    if not condition["attack"] or not free or result.path is None:
        return np.zeros(0)
    try:
        arrays = OutcomeArrays(result)
        labels = arrays.get(f"set{int(arrays.get('sets')[0])}.labels")
        before, after, l2 = (arrays.get(f"0.{name}") for name in ("extra.predictions_clean", "predictions", "extra.l2"))
        return l2[(before == labels) & (after != labels)]
    except (ResultError, IndexError, ValueError):  # the table says which outcomes cannot be read
        return np.zeros(0)
