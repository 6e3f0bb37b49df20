"""What the leaderboard consists of: small frozen records that every view shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nsbench.leaderboard.matrices import Evidence
from nsbench.leaderboard.pairs import AVERAGE, Pairs
from nsbench.results import Result
from nsbench.results.comparability import NO_KIN, Kin, recipe_names
from nsbench.types import GROUPS

BETTER, WORSE, NOT_SEPARABLE = "better", "worse", "not separable"


@dataclass(frozen=True)
class Column:
    suite: str
    title: str
    group: str
    order: int
    lower_is_better: bool
    unit: str
    paper: bool
    version: int
    summary: str
    citation: str
    neighbours: tuple[int, int] = (0, 0)  # separable and all pairs of adjacent places
    size_apart: str = ""  # in what the size of its images differs from the benchmark's; part of the title too

    @property
    def arrow(self) -> str:
        return "↓" if self.lower_is_better else "↑"


@dataclass(frozen=True)
class Delta:
    """A figure minus that of the reference row, on the same images."""

    reference: str  # label of the reference row
    value: float  # in the column's unit: negative is better where lower is better
    low: float  # 95 % interval, paired where `test` is
    high: float
    p: float  # of this one test
    adjusted: float  # by Holm over all tests of the table
    verdict: str  # BETTER, WORSE or NOT_SEPARABLE, by `adjusted` at 5 %
    test: str  # "McNemar, exact", "images and trainings", "paired, over seeds", "paired bootstrap", "unpaired: ..."
    of_weights: bool  # one of the two was trained once: the verdict speaks of these weights, not of methods


@dataclass(frozen=True)
class Cell:
    """One figure: the mean over seeds. Its interval is over images and, with several seeds, over trainings too."""

    value: float
    low: float
    high: float
    n: int
    seeds: tuple[int, ...]
    spread: tuple[float, float] | None  # least and greatest over seeds, where there are several
    deviation: float | None = None  # standard deviation over seeds, where there are several
    reason: str = ""  # why it cannot be compared with the rest of its column; "" where it can
    unpaired: str = ""  # why it can be compared by its interval alone, and not image by image; "" where it can
    trained: bool = False  # another training would have given another figure
    best: bool = False
    tied: bool = False  # not the best, and not separable from it
    rank: tuple[int, int] | None = None  # best and worst place within the column that the separable pairs allow
    delta: Delta | None = None
    results: tuple[Result, ...] = ()

    @property
    def comparable(self) -> bool:
        return not self.reason

    @property
    def of_weights(self) -> bool:
        """Of one training: interval, marks and places speak of these weights, not of the method."""
        return self.trained and len(self.seeds) == 1

    def extra(self, name: str) -> float | None:
        """A figure that stands beside the score: mean over seeds; None where the result of any seed lacks it."""
        values = [result.score.extra[name] for result in self.results if name in result.score.extra]
        return sum(values) / len(values) if values and len(values) == len(self.results) else None


@dataclass(frozen=True)
class RowCost:
    """What a row took; None where it was not recorded."""

    fit_seconds: float | None
    evaluation_seconds: float | None
    forward_equivalents: float | None  # forward passes of one image that the training cost
    peak_memory_mib: int | None
    device: str


@dataclass(frozen=True)
class RowFlag:
    """A sign that a row's adversarial figures flatter it: see nsbench.health."""

    name: str  # "zero gradients", ...
    sentence: str  # why, with the figures
    suites: tuple[str, ...]  # whose figures raise it
    seed: int | None = None  # where the row has several


@dataclass(frozen=True)
class Measurement:
    """One stored figure of a method, suite and seed."""

    date: str
    seed: int
    value: float  # in the suite's unit
    low: float  # 95 % interval over images
    high: float
    suite_version: int
    method_version: int
    weights_digest: str
    commit: str
    changed: tuple[str, ...]  # since the measurement before, in words; () for the first of its seed
    shown: bool  # the cell of the row shows it


@dataclass(frozen=True)
class Row:
    method: str
    title: str
    summary: str
    qualifiers: tuple[str, ...]  # model, recipe, normalisation, ...: what sets it apart from rows of the same method
    cells: Mapping[str, Cell]  # by suite; a missing suite is not in it
    average: Cell | None  # of the paper's eleven; None unless all are there
    notes: tuple[str, ...] = ()
    rank: tuple[int, int] | None = None  # that of the average, or of the partial average where that was asked for
    order: int = 100
    model: str = ""
    partial: Cell | None = None  # average over Table.partial_suites, where it was asked for
    effective: Mapping[str, float] = field(default_factory=dict)  # effective robustness by suite, percentage points
    cost: RowCost | None = None
    flags: tuple[RowFlag, ...] = ()
    kin: Kin = NO_KIN  # equal for rows that differ in method alone
    role: str = ""  # of the method, one of types.ROLES
    lender: str = ""  # the other results folder whose row this is; "": it is of the folder that the table is made of
    history: Mapping[str, tuple[Measurement, ...]] = field(
        default_factory=dict
    )  # by suite, newest first: see `history`
    new: bool = False  # its newest result is of the last days of the table: see `history`

    @property
    def results(self) -> list[Result]:
        return [result for cell in self.cells.values() for result in cell.results]

    @property
    def of_weights(self) -> bool:
        """Some of its figures are of one training: what is said of it is said of these weights."""
        return any(cell.of_weights for cell in self.cells.values())

    @property
    def label(self) -> str:
        return " · ".join((self.title, *self.qualifiers))

    def cell(self, suite: str) -> Cell | None:
        """The cell of a suite, or of AVERAGE."""
        return (self.partial or self.average) if suite == AVERAGE else self.cells.get(suite)

    def first(self, columns: Sequence[Column]) -> Column | None:
        """The first of these columns in which its figure is compared: the place of a row without an average is by it."""
        mine = (column for column in columns if (cell := self.cells.get(column.suite)) and cell.comparable)
        return next(mine, None)


@dataclass(frozen=True)
class EffectiveLine:
    """Accuracy under a shift against clean accuracy: logit(shift) = intercept + slope * logit(clean)."""

    suite: str
    slope: float
    intercept: float
    points: tuple[tuple[str, float, float], ...]  # label, clean and shifted accuracy in percent; what it is fitted on

    @property
    def fitted_on(self) -> str:
        return f"least squares on logit axes over the {len(self.points)} rows of this table that have both figures"

    def expected(self, clean: float) -> float:
        """Accuracy in percent that the line lets expect of a clean accuracy in percent."""
        share = min(max(clean / 100, 1e-4), 1 - 1e-4)
        logit = self.intercept + self.slope * math.log(share / (1 - share))
        return 100 / (1 + math.exp(-min(max(logit, -700.0), 700.0)))  # beyond it exp has no value


@dataclass(frozen=True)
class CriticalDifference:
    """Ranks over suites and what Nemenyi's test can tell apart; rows without a common suite are not in it."""

    suites: tuple[str, ...]
    labels: tuple[str, ...]  # best first
    ranks: tuple[float, ...]  # average rank over the suites, 1 is best
    difference: float  # ranks closer than this cannot be told apart, at 5 %
    p: float  # Friedman's: all rows are equally good
    cliques: tuple[tuple[int, ...], ...]  # positions in `labels` of runs that cannot be told apart


@dataclass(frozen=True)
class Table:
    source: str
    image_set: str  # "all images" or "limit 64"
    preprocessing: str
    columns: tuple[Column, ...]  # in order of display
    rows: tuple[Row, ...]
    average_neighbours: tuple[int, int] = (0, 0)  # separable and all pairs of adjacent places by average
    partial_suites: tuple[str, ...] = ()  # what the partial average is over; () where there is none
    lines: tuple[EffectiveLine, ...] = ()
    no_lines: Mapping[str, str] = field(default_factory=dict)  # by suite under shift: why it has no line
    critical: CriticalDifference | None = None
    pairs: Mapping[str, Pairs] = field(default_factory=dict, compare=False, repr=False)  # by suite, and AVERAGE
    evidence: Evidence | None = field(default=None, compare=False, repr=False)
    limit: int | None = None  # images per condition at most; None: all of them
    own_suites: tuple[str, ...] = ()  # the paper's columns that the source has, where it has not all eleven

    @property
    def models(self) -> list[str]:
        return sorted({row.model for row in self.rows})

    @property
    def model(self) -> str:
        """The one model, or how many there are."""
        return self.models[0] if len(self.models) == 1 else f"{len(self.models)} models"

    @property
    def groups(self) -> list[tuple[str, list[Column]]]:
        return [(group, mine) for group in GROUPS if (mine := [c for c in self.columns if c.group == group])]

    @property
    def results(self) -> list[Result]:
        return [result for row in self.rows for result in row.results]

    @property
    def recipes(self) -> list[str]:
        return recipe_names(self.results)


@dataclass(frozen=True)
class Leaderboard:
    tables: tuple[Table, ...]
    problems: tuple[str, ...] = field(default=())  # files that are no results, or not what their outcomes give, and why
