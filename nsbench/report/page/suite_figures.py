"""What figures of a suite show: places, clean accuracy, budgets, sizes of changes, maps of corruption errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nsbench.leaderboard import Cell, Column, EffectiveLine, Row, Table
from nsbench.leaderboard.details import Details, corruption_errors
from nsbench.report.page.rows import Limits, drawn, landmarks
from nsbench.report.plots import Cloud, Figure, HeatMap, Lines, Look, Place, Places, Point, Series, Spot, Strip, Strips
from nsbench.report.side_columns import clean_column
from nsbench.results.record import ConditionResult, Result
from nsbench.statistics import L2_BUDGETS, wilson

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST = 5  # broken images that have a distribution
SAMPLES = 24  # points that the line, which bends on plain axes, is drawn through
UNITS = {
    "linf": "ε in 1/255, ℓ∞",
    "l2": "ℓ2 norm, pixels in [0, 1]",
    "l1": "ℓ1 norm: sum over all values in [0, 1]",
}


@dataclass(frozen=True)
class SuiteFigures:
    """What is drawn of a suite, and of which rows."""

    rows: Sequence[Row]  # that have a figure which may be compared
    few: Sequence[Row]  # of all figures but the places
    listed: Sequence[tuple[Row, Cell]]  # of the places, the best first
    places: Figure
    curve: Figure | None
    against_clean: Figure | None
    norms: Figure | None
    iterations: Figure | None
    heats: Sequence[Heat]

    @property
    def several_seeds(self) -> bool:
        """Of some row whose lines are drawn: their bands are over images alone, other than the interval of its score."""
        return any(cell.spread is not None for row, cell in self.listed if row in self.few)

    @property
    def all(self) -> list[Figure]:
        found = (self.places, self.curve, self.against_clean, self.norms, self.iterations)
        return [one for one in found if one is not None]


def figures_of(details: Details, column: Column, looks: Mapping[str, Look], limits: Limits) -> SuiteFigures:
    suite = column.suite
    rows = rows_of(details.table, suite)
    cells = [(row, row.cells[suite]) for row in rows]
    few = drawn(rows, limits.lines)
    mine = [(row, row.cells[suite]) for row in few]
    best_first = sorted(rows, key=lambda row: _place(row.cells[suite], column))
    listed = [(row, row.cells[suite]) for row in drawn(best_first, limits.places)]
    lines, sizes, steps = curve(mine, looks), norms(details, suite, few, looks), iterations(mine, looks)
    newest = max((result for _, cell in cells for result in cell.results), key=lambda r: r.provenance.date)
    return SuiteFigures(
        rows,
        few,
        listed,
        Figure(f"scores-{suite}", column.title, places(listed, column.unit, looks)),
        Figure(f"budgets-{suite}", "Accuracy as the attack grows", lines) if lines else None,
        _against_clean(details.table, column, cells, looks, [row.label for row in few]),
        Figure(f"norms-{suite}", "Size of the changes that broke an image", sizes) if sizes else None,
        Figure(f"iterations-{suite}", f"Accuracy as {_attacked(newest)} goes on", steps) if steps else None,
        [heat(row, cell) for row, cell in mine] if corruption_errors([newest]) else [],
    )


def rows_of(table: Table, suite: str) -> list[Row]:
    """Those with a figure that may be compared."""
    return [row for row in table.rows if (cell := row.cells.get(suite)) and cell.comparable]


def _place(cell: Cell, column: Column) -> float:
    """For sorting: the best first."""
    return cell.value if column.lower_is_better else -cell.value


def _against_clean(
    table: Table, column: Column, rows: Sequence[tuple[Row, Cell]], looks: Mapping[str, Look], named: Sequence[str]
) -> Figure | None:
    """With the line of all rows under a shift, with intervals under an attack; None for other columns."""
    line = next((one for one in table.lines if one.suite == column.suite), None)
    if line:
        title = "Against clean accuracy, with the line of all rows"
        return Figure(f"clean-{column.suite}", title, beyond(line, column.title, looks, named))
    clean = clean_column(table)
    if clean is None or column.group != "adversarial":
        return None
    plot = attacked(rows, clean.suite, column.title, looks, named)
    return Figure(f"clean-{column.suite}", "Against clean accuracy, with both intervals", plot) if plot else None


def places(rows: Sequence[tuple[Row, Cell]], unit: str, looks: Mapping[str, Look]) -> Places:
    return Places([Place(row.label, looks[row.label], cell.value, cell.low, cell.high) for row, cell in rows], unit)


# --- against clean accuracy -----------------------------------------------------------------------------------------


def beyond(line: EffectiveLine, title: str, looks: Mapping[str, Look], named: Sequence[str]) -> Cloud:
    """Accuracy under a shift against clean accuracy, with the line that effective robustness is measured from."""
    clean = [x for _, x, _ in line.points]
    pad = max((max(clean) - min(clean)) * 0.08, 0.2)
    start, end = max(min(clean) - pad, 0.01), min(max(clean) + pad, 99.99)
    return Cloud(
        [Spot(label, looks[label], x, y) for label, x, y in line.points],
        named,
        "clean accuracy, %",
        f"accuracy on {title}, %",
        f"Accuracy on {title} against clean accuracy of {len(clean)} rows, with the line fitted to them",
        curve=[(x, line.expected(x)) for x in (start + (end - start) * i / SAMPLES for i in range(SAMPLES + 1))],
    )


def attacked(
    rows: Sequence[tuple[Row, Cell]], clean: str, title: str, looks: Mapping[str, Look], named: Sequence[str]
) -> Cloud | None:
    """Accuracy under an attack against accuracy on the suite `clean`, both with their intervals; None for one row."""
    spots = [
        Spot(row.label, looks[row.label], one.value, cell.value, (one.low, one.high), (cell.low, cell.high))
        for row, cell in rows
        if (one := row.cells.get(clean)) and one.comparable and not cell.results[0].lower_is_better
    ]
    if len(spots) < 2:
        return None
    summary = f"Accuracy on {title} against clean accuracy of {len(spots)} rows: " + ", ".join(
        f"{spot.label} {spot.y:.1f} at {spot.x:.1f}" for spot in spots if spot.label in named
    )
    return Cloud(spots, named, "clean accuracy, %", f"accuracy on {title}, %", summary)


# --- curves ---------------------------------------------------------------------------------------------------------


def curve(rows: Sequence[tuple[Row, Cell]], looks: Mapping[str, Look]) -> Lines | None:
    """Accuracy against the attack's budget, from the same images unattacked at zero; None without three budgets."""
    for norm, unit in UNITS.items():
        series = [
            Series(row.label, looks[row.label], points)
            for row, cell in rows
            if len(points := _points(row, cell, norm)) > 1
        ]
        if series and max(len(one.points) for one in series) > 2:
            levels = sorted({point.x for one in series for point in one.points})
            return Lines(series, unit, "accuracy, %", top=100, x_ticks=levels)
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
    """With its interval over images alone."""
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


def _attacked(result: Result) -> str:
    """What its iterations are drawn of: the first attacked condition, named where there are others."""
    attacks = [one for one in result.conditions if one.attack]
    return f"the attack ({attacks[0].name})" if len(attacks) > 1 else "the attack"


def iterations(rows: Sequence[tuple[Row, Cell]], looks: Mapping[str, Look]) -> Lines | None:
    """Images that no iterate had broken yet, of the first attacked condition, mean over seeds; None where no attack tells
    it, or none goes on for more than a step. The attack saw them, so the last point may lie beside the judged accuracy."""
    series = [Series(row.label, looks[row.label], found) for row, cell in rows if (found := _iterations(cell.results))]
    if not series or max(one.points[-1].x for one in series) < 2:
        return None
    return Lines(series, "iterations of the attack", "accuracy, %", top=100)


def _iterations(results: Sequence[Result]) -> list[Point]:
    found: dict[int, list[float]] = {}
    for result in results:
        condition = next((one for one in result.conditions if one.attack), None)
        for mark in condition.attack_card.still_right if condition and condition.attack_card else ():
            found.setdefault(mark.iteration, []).append(100 * mark.images / condition.n if condition else 0.0)
    return [Point(iteration, sum(shares) / len(shares)) for iteration, shares in sorted(found.items())]


def norms(details: Details, suite: str, rows: Sequence[Row], looks: Mapping[str, Look]) -> Strips | None:
    """The l2 norms of the changes that broke images, where the attack was free to choose them; None elsewhere."""
    strips = [
        Strip(row.label, looks[row.label], np.quantile(found, QUANTILES).tolist(), len(found))
        for row in rows
        if len(found := details.breaking_norms(row, suite)) >= FEWEST
    ]
    return Strips(strips, UNITS["l2"]) if strips else None


# --- maps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heat:
    """Errors in percent of one row, or their differences in points: corruption -> severity."""

    row: Row
    errors: Mapping[str, Mapping[str, float]]

    @property
    def plot(self) -> HeatMap:
        return HeatMap(self.row.label, self.errors)

    @property
    def strongest(self) -> float:
        """The largest value without its sign."""
        return max((abs(value) for errors in self.errors.values() for value in errors.values()), default=0.0)


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
                name: {severity: error - reference.errors[name][severity] for severity, error in errors.items()}
                for name, errors in one.errors.items()
            },
        )
        for one in heats
        if one is not reference
    ]
