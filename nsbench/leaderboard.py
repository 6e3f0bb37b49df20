"""Results -> tables with rows, columns, cells, ranks. A pure function, so that every view shows the same thing.

A table holds one source, one model and one image set (all images, or a limit): nothing in it is compared across
these. Within a column only cells of the same suite version, images and preprocessing are compared; any other is shown
apart with the reason. Missing cells are missing, never zero, and an average needs all of the paper's eleven.
Two cells count as separable when their 95 % intervals do not overlap, which errs on the side of "cannot be told".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nsbench.comparability import fingerprint, image_set, measured, qualifiers, reason_apart, recipe_names, row_key
from nsbench.results import Result
from nsbench.statistics import average
from nsbench.types import GROUPS, Score

PAPER_COLUMNS = 11  # the average of the paper's table 2 is over these
VALIDATION_SPLITS = ("clean", "c", "damagenet", "stylized")  # made of the same validation images


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

    @property
    def arrow(self) -> str:
        return "↓" if self.lower_is_better else "↑"


@dataclass(frozen=True)
class Cell:
    """One figure: the mean over seeds; its interval is that of the images, the spread over seeds stands apart."""

    value: float
    low: float
    high: float
    n: int
    seeds: tuple[int, ...]
    spread: tuple[float, float] | None  # least and greatest over seeds, where there are several
    reason: str = ""  # why it cannot be compared with the rest of its column; "" where it can
    best: bool = False
    tied: bool = False  # not the best, but its interval overlaps the best one's
    results: tuple[Result, ...] = ()

    @property
    def comparable(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Row:
    method: str
    title: str
    summary: str
    qualifiers: tuple[str, ...]  # recipe, normalisation, ...: what sets it apart from rows of the same method
    cells: Mapping[str, Cell]  # by suite; a missing suite is not in it
    average: Cell | None
    notes: tuple[str, ...] = ()
    rank: tuple[int, int] | None = None  # best and worst place by average that the intervals allow
    order: int = 100

    @property
    def results(self) -> list[Result]:
        return [result for cell in self.cells.values() for result in cell.results]

    @property
    def label(self) -> str:
        return " · ".join((self.title, *self.qualifiers))


@dataclass(frozen=True)
class Table:
    source: str
    model: str
    image_set: str  # "all images" or "limit 64"
    columns: tuple[Column, ...]  # in order of display
    rows: tuple[Row, ...]

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
    problems: tuple[str, ...] = field(default=())  # files that are no results, and why


def build(results: Iterable[Result], problems: Iterable[str] = ()) -> Leaderboard:
    """The leaderboard of these results; the order of `results` does not matter."""
    tables, problems = defaultdict(list), list(problems)
    for result in results:
        try:
            measured(result), [condition["accuracy"] for condition in result.conditions]
            tables[result.source, result.model, image_set(result)].append(result)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            problems.append(f"{result.path or result.identity}: its conditions or provenance are incomplete "
                            f"({type(error).__name__}: {error}); delete it and run again")
    return Leaderboard(tuple(_table(*key, tables[key]) for key in sorted(tables)), tuple(problems))


def _table(source: str, model: str, images: str, results: Sequence[Result]) -> Table:
    columns = _columns(results)
    reference = {column.suite: _reference(column, results) for column in columns}
    by_row = defaultdict(list)
    for result in results:
        by_row[row_key(result)].append(result)
    by_method = defaultdict(list)
    for mine in by_row.values():
        by_method[mine[0].method].append(mine[0])
    several_recipes = len(recipe_names(results)) > 1
    rows = [_row(mine, reference, qualifiers(mine[0], by_method[mine[0].method], several_recipes))
            for mine in by_row.values()]
    rivals = {column.suite: [row.cells[column.suite] for row in rows if column.suite in row.cells
                             and row.cells[column.suite].comparable] for column in columns}
    rows = [replace(row, cells={suite: _mark(cell, rivals[suite], cell.results[0].lower_is_better)
                                for suite, cell in row.cells.items()}) for row in rows]
    averages = [row.average for row in rows if row.average]
    rows = [replace(row, rank=_rank(row.average, averages),
                    average=row.average and _mark(row.average, averages, False)) for row in rows]
    rows.sort(key=lambda row: (row.average is None, -row.average.value if row.average else 0, row.order, row.label))
    return Table(source, model, images, tuple(columns), tuple(rows))


def _columns(results: Sequence[Result]) -> list[Column]:
    newest: dict[str, Result] = {}
    for result in sorted(results, key=lambda r: (r.suite_version, _date(r), r.identity)):
        newest[result.suite] = result
    columns = [Column(r.suite, r.title, r.group, r.order, r.lower_is_better, r.unit, r.paper, r.suite_version,
                      r.summary, r.citation) for r in newest.values()]
    position = {group: index for index, group in enumerate(GROUPS)}
    return sorted(columns, key=lambda c: (position.get(c.group, len(GROUPS)), c.order, c.title))


def _reference(column: Column, results: Sequence[Result]) -> Result:
    """What a column's cells are held against: the newest suite version, and there what most results share."""
    mine = [r for r in results if r.suite == column.suite and r.suite_version == column.version]
    counts = Counter(fingerprint(result) for result in mine)
    return max(mine, key=lambda r: (counts[fingerprint(r)], r.score.n, fingerprint(r)))


# --- cells ----------------------------------------------------------------------------------------------------------

def _row(results: Sequence[Result], reference: Mapping[str, Result], qualifiers: tuple[str, ...]) -> Row:
    by_suite = defaultdict(list)
    for result in results:
        by_suite[result.suite].append(result)
    notes: list[str] = []
    cells = {suite: _cell(mine, reference[suite], notes) for suite, mine in by_suite.items()}
    newest = max(results, key=_date)
    return Row(newest.method, newest.method_title, newest.method_summary, qualifiers, cells, _average(cells, notes),
               tuple(notes), order=newest.method_order)


def _cell(results: Sequence[Result], reference: Result, notes: list[str]) -> Cell:
    """The cell of one row and suite: what is comparable where there is any, and of each seed the newest."""
    fitting = [r for r in results if not reason_apart(r, reference)] or [
        r for r in results if fingerprint(r) == fingerprint(max(results, key=_date))]
    newest = {r.seed: r for r in sorted(fitting, key=lambda r: (_date(r), r.identity))}
    chosen = tuple(newest[seed] for seed in sorted(newest))
    if len(chosen) < len(results):
        notes.append(f"{reference.title}: {len(results) - len(chosen)} older or incomparable result(s) not shown")
    values = [r.score.value for r in chosen]
    return Cell(_mean(values), _mean([r.score.low for r in chosen]), _mean([r.score.high for r in chosen]),
                min(r.score.n for r in chosen), tuple(sorted(newest)),
                (min(values), max(values)) if len(values) > 1 else None, reason_apart(chosen[0], reference),
                results=chosen)


def _average(cells: Mapping[str, Cell], notes: list[str]) -> Cell | None:
    """Mean of the eleven for each seed that has them all, then over seeds; None where any is missing."""
    paper = [cell for cell in cells.values() if cell.results[0].paper]
    if len(paper) != PAPER_COLUMNS or not all(cell.comparable for cell in paper):
        return None
    seeds = sorted(set.intersection(*(set(cell.seeds) for cell in paper)))
    scores = []
    for seed in seeds:
        mine = [result for cell in paper for result in cell.results if result.seed == seed]
        if len({result.provenance.get("weights_digest") for result in mine}) > 1:
            notes.append(f"no average: the figures of seed {seed} come from different weights")
            return None
        scores.append(average([r.score for r in mine], [r.lower_is_better for r in mine], [_images(r) for r in mine]))
    return _over_seeds(scores, seeds) if scores else None


def _over_seeds(scores: Sequence[Score], seeds: Sequence[int]) -> Cell:
    values = [score.value for score in scores]
    return Cell(_mean(values), _mean([s.low for s in scores]), _mean([s.high for s in scores]), scores[0].n,
                tuple(seeds), (min(values), max(values)) if len(values) > 1 else None)


def _images(result: Result) -> str:
    """Suites on the validation images share their luck; each other split is drawn apart."""
    root = str(result.conditions[0]["split"]).split("/")[0]
    return "validation" if root in VALIDATION_SPLITS else root


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _date(result: Result) -> str:
    return str(result.provenance.get("date") or "")


# --- best, ties, ranks ----------------------------------------------------------------------------------------------

def _mark(cell: Cell, rivals: Sequence[Cell], lower_is_better: bool) -> Cell:
    if len(rivals) < 2 or not cell.comparable:  # alone, nothing is best
        return cell
    top = (min if lower_is_better else max)(rivals, key=lambda c: c.value)
    best = cell.value == top.value
    return replace(cell, best=best, tied=not best and overlap(cell, top))


def overlap(one: Cell, other: Cell) -> bool:
    return one.low <= other.high and other.low <= one.high


def _rank(cell: Cell | None, rivals: Sequence[Cell]) -> tuple[int, int] | None:
    if cell is None:
        return None
    better, worse = sum(other.low > cell.high for other in rivals), sum(other.high < cell.low for other in rivals)
    return 1 + better, len(rivals) - worse
