"""What a score costs, and how far a model's confidence may be believed: figures of a whole table, with their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import AVERAGE, Row, Table
from nsbench.leaderboard.details import Details
from nsbench.report.numbers import average_column, figure
from nsbench.report.plots import Cloud, Figure, Lines, Look, Point, Series, Spot
from nsbench.report.side_columns import clean_column, confidence, many
from nsbench.statistics import wilson
from nsbench.statistics.calibration import CALIBRATION

FEWEST = 5  # images of a bin of confidence that is drawn
UNTOUCHED = "untouched"  # the role of the checkpoint as it is


@dataclass(frozen=True)
class Cost:
    """The average against what the training cost, and in words who is on the front."""

    figure: Figure
    words: Sequence[str]


def cost(table: Table, looks: Mapping[str, Look], named: Sequence[str]) -> Cost | None:
    """None unless two rows have both; an untouched checkpoint cost nothing."""
    spots = [
        Spot(row.label, looks[row.label], price, cell.value, y_ends=(cell.low, cell.high))
        for row in table.rows
        if (cell := row.cell(AVERAGE)) and (price := _price(row)) is not None
    ]
    if len(spots) < 2:
        return None
    title, front = average_column(table).title, pareto(spots)
    summary = (
        f"{title} against forward passes that the training cost, of {len(spots)} rows; on the front: "
        + ", ".join(f"{spot.label} {figure(spot.y)} for {many(spot.x)}" for spot in front)
    )
    plot = Cloud(
        spots,
        named,
        "forward passes of one image that one training cost",
        f"{title.lower()}, %",
        summary,
        front=[spot.label for spot in front],
        counts=True,
    )
    return Cost(Figure("cost", "Score against cost", plot), _front_words(front, len(spots), len(table.rows)))


def _price(row: Row) -> float | None:
    known = row.cost.forward_equivalents if row.cost else None
    return 0.0 if known is None and row.role == UNTOUCHED else known


def pareto(spots: Sequence[Spot]) -> list[Spot]:
    """Those that no other one equals or beats in both cost (x) and value (y), cheapest first."""
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda one: (one.x, -one.y, one.label)):
        if not front or spot.y > front[-1].y:
            front.append(spot)
    return front


def _front_words(front: Sequence[Spot], spots: int, rows: int) -> list[str]:
    names = [f"{spot.label} ({figure(spot.y)} for {many(spot.x) if spot.x else 'no training'})" for spot in front]
    if len(front) == 1:
        said = f"On the front is {names[0]} alone: of {spots} rows it is the best, and none is cheaper."
    else:
        said = f"On the front, from cheap to good: {', '.join(names)}."
        others = spots - len(front)
        if others:
            each = "The other row is" if others == 1 else f"Each of the other {others} rows is"
            said += f" {each} equalled or beaten by one of these that cost no more."
    words = [said, "The front is of the values as they are, and no test: look at the intervals and the verdicts."]
    return words if spots == rows else [*words, f"{rows - spots} of {rows} rows lack an average or a known cost."]


# --- calibration ----------------------------------------------------------------------------------------------------


def calibration(details: Details, rows: Sequence[Row], looks: Mapping[str, Look]) -> list[Figure]:
    """Accuracy over confidence on the clean suite, one figure for each of these rows that has confidences."""
    column = clean_column(details.table)
    return [] if column is None else [one for row in rows if (one := _reliability(details, column.suite, row, looks))]


def _reliability(details: Details, suite: str, row: Row, looks: Mapping[str, Look]) -> Figure | None:
    bins, seeds = details.reliability(row, suite)
    points = []
    for one in bins:
        n = round(one.n / seeds)
        if n >= FEWEST:
            low, high = wilson(round(one.accuracy * n), n)
            points.append(Point(100 * one.confidence, 100 * one.accuracy, 100 * low, 100 * high, n))
    if not points:
        return None
    error = confidence(details.table, row).get(CALIBRATION)
    ending = "" if error is None else f" · calibration error {figure(error)}"
    plot = Lines(
        [Series(row.label, looks[row.label], points)],
        "confidence, %",
        "accuracy, %",
        top=100,
        span=(0, 100),
        diagonal=True,
    )
    return Figure(f"calibration-{row.label}", f"{row.label}{ending}", plot)
