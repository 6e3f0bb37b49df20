"""What figures show, before anything is drawn: the page draws these as SVG, `papers` as PDF, and both give the numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import CriticalDifference

Value = str | float | int | None  # None: there is none
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


@dataclass(frozen=True)
class Look:
    """Colour and mark of a row, the same on every figure."""

    colour: int  # place in the series of colours
    hollow: bool = False
    shape: int = 0  # circle, square, triangle, diamond, triangle upside down

    def __str__(self) -> str:
        """The page's CSS classes of it."""
        return f"k{self.colour}{f' m{self.shape}' if self.shape else ''}{' hollow' if self.hollow else ''}"


@dataclass(frozen=True)
class Sheet:
    """The numbers of a figure."""

    heads: tuple[str, ...]
    lines: tuple[tuple[Value, ...], ...]

    @property
    def texts(self) -> list[list[str]]:
        """As text, the numbers of a column to the same number of decimals, four at most."""
        columns = [_texts(column) for column in zip(*self.lines, strict=True)]
        return [list(line) for line in zip(*columns, strict=True)]

    @property
    def csv(self) -> str:
        """Text that a spreadsheet would take for a formula begins with an apostrophe."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.heads)
        for line in self.lines:
            named = [isinstance(value, str) and value.startswith(_FORMULA) for value in line]
            texts = map(_text, line)
            writer.writerow([f"'{text}" if risky else text for text, risky in zip(texts, named, strict=True)])
        return out.getvalue()


def _texts(column: Sequence[Value]) -> list[str]:
    """Numbers with as many decimals as the one that needs the most of them."""
    numbers = [value for value in column if isinstance(value, float)]
    digits = max((len(_text(value).partition(".")[2]) for value in numbers), default=0)
    return [f"{value + 0.0:.{digits}f}" if isinstance(value, float) else _text(value) for value in column]


def _text(value: Value) -> str:
    if isinstance(value, float):
        short = f"{value:.4f}".rstrip("0").rstrip(".")
        return "0" if short == "-0" else short
    return "" if value is None else str(value)


def _sheet(heads: Sequence[str], lines: Iterable[Sequence[Value]]) -> Sheet:
    """Without columns that are empty in every line."""
    found = [tuple(line) for line in lines]
    kept = [at for at in range(len(heads)) if any(line[at] is not None for line in found)]
    return Sheet(tuple(heads[at] for at in kept), tuple(tuple(line[at] for at in kept) for line in found))


# --- what is drawn --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    label: str
    look: Look
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Places:
    """A value with its interval for every row."""

    rows: Sequence[Place]
    unit: str

    @property
    def sheet(self) -> Sheet:
        return _sheet(
            ("row", f"value ({self.unit})", "low", "high"),
            ((one.label, one.value, one.low, one.high) for one in self.rows),
        )


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    n: int | None = None  # images that it is of, where points are of different numbers


@dataclass(frozen=True)
class Series:
    label: str
    look: Look
    points: Sequence[Point]


@dataclass(frozen=True)
class Lines:
    """Lines with bands; y starts at zero."""

    series: Sequence[Series]
    x_title: str
    y_title: str
    top: float | None = None  # of y; None: a little above the highest point
    span: tuple[float, float] | None = None  # of x; None: from the first point to the last
    x_ticks: Sequence[float] | None = None
    reference: tuple[float, str] | None = None  # a dashed horizontal line and its name
    diagonal: bool = False  # where x and y are equal

    @property
    def sheet(self) -> Sheet:
        """A line for every point; without intervals a line for every x, and a column for every series."""
        if all(p.low is None for one in self.series for p in one.points):
            return self._side_by_side
        return _sheet(
            ("row", self.x_title, self.y_title, "low", "high", "images"),
            ((one.label, p.x, p.y, p.low, p.high, p.n) for one in self.series for p in one.points),
        )

    @property
    def _side_by_side(self) -> Sheet:
        known = [{p.x: p.y for p in one.points} for one in self.series]
        return Sheet(
            (self.x_title, *(f"{one.label}: {self.y_title}" for one in self.series)),
            tuple((x, *(mine.get(x) for mine in known)) for x in sorted(set().union(*known))),
        )


@dataclass(frozen=True)
class Strip:
    label: str
    look: Look
    quantiles: Sequence[float]  # at 5, 25, 50, 75 and 95 %
    n: int


@dataclass(frozen=True)
class Strips:
    """A distribution for every row."""

    rows: Sequence[Strip]
    unit: str

    @property
    def sheet(self) -> Sheet:
        return _sheet(
            ("row", *(f"{share} % ({self.unit})" for share in (5, 25, 50, 75, 95)), "images"),
            ((one.label, *map(float, one.quantiles), one.n) for one in self.rows),
        )


@dataclass(frozen=True)
class Spot:
    label: str
    look: Look
    x: float
    y: float
    x_ends: tuple[float, float] | None = None  # intervals
    y_ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cloud:
    """One quantity against another, a point for every row."""

    spots: Sequence[Spot]
    named: Sequence[str]  # labels that may stand beside their points
    x_title: str
    y_title: str
    summary: str  # what a screen reader says
    curve: Sequence[tuple[float, float]] = ()  # a dashed line
    front: Sequence[str] = ()  # labels of the rows that a stepped line joins, in the order of x
    counts: bool = False  # x are counts: from zero, ticks such as "50 k"

    @property
    def sheet(self) -> Sheet:
        heads = ("row", self.x_title, "x low", "x high", self.y_title, "low", "high", "on the front")
        nothing = (None, None)
        return _sheet(
            heads,
            (
                (one.label, one.x, *(one.x_ends or nothing), one.y, *(one.y_ends or nothing), self._on(one))
                for one in self.spots
            ),
        )

    def _on(self, spot: Spot) -> str | None:
        return ("yes" if spot.label in self.front else "no") if self.front else None


@dataclass(frozen=True)
class Ranks:
    """Average ranks over suites, and what Nemenyi's test cannot tell apart."""

    found: CriticalDifference
    looks: Sequence[Look]  # of each label of `found`

    @property
    def sheet(self) -> Sheet:
        return _sheet(("row", "average rank"), zip(self.found.labels, self.found.ranks, strict=True))


@dataclass(frozen=True)
class HeatMap:
    """Errors in percent, or differences in points, by corruption and severity."""

    label: str
    errors: Mapping[str, Mapping[str, float]]  # corruption -> severity

    @property
    def severities(self) -> list[str]:
        """Those of any corruption, in their order."""
        return sorted({severity for mine in self.errors.values() for severity in mine})

    @property
    def lines(self) -> list[tuple[str, list[float | None]]]:
        """By corruption its value at each of the severities; None where it was not evaluated."""
        severities = self.severities
        return [(name, [mine.get(severity) for severity in severities]) for name, mine in self.errors.items()]

    @property
    def sheet(self) -> Sheet:
        return _sheet(
            ("corruption", "severity", "error (%)"),
            ((name, severity, error) for name, mine in self.errors.items() for severity, error in mine.items()),
        )


Plot = Places | Lines | Strips | Cloud | Ranks | HeatMap


@dataclass(frozen=True)
class Figure:
    """A plot with its name, as files are called, and its title."""

    name: str
    title: str
    plot: Plot


def short(count: float) -> str:
    """A tick of counts: "0", "50 k", "2.5 M"."""
    for unit in ("", " k", " M", " G"):
        if abs(count) < 1000:
            return f"{count:g}{unit}"
        count /= 1000
    return f"{count:g} T"
