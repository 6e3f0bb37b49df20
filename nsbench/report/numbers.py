"""One rounding for the page, the terminal and Markdown: one decimal, the interval as half its width."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nsbench.leaderboard import AVERAGE as AVERAGE_SUITE
from nsbench.leaderboard import Cell, Column, Delta, Row, Table
from nsbench.types import ThreatModel

MISSING = "–"
THESE_WEIGHTS = "these weights"  # what a figure of one training speaks of, and not of the method
ONCE = "†"  # marks rows of one training in formats without tooltips
AVERAGE = Column(
    AVERAGE_SUITE,
    "Average",
    "average",
    1000,
    False,
    "%",
    False,
    1,
    (
        "Mean of the paper's eleven columns with 100 − mCE in place of mCE. It exists only where all eleven are there. Its "
        "interval is over images, drawn once for all suites that share them, and over trainings where there are several."
    ),
    "",
)
GROUP_TITLES = {"clean": "Clean", "adversarial": "Adversarial", "ood": "Out of distribution", "average": "All eleven"}


def figure(value: float) -> str:
    return f"{value:.1f}"


def plain(value: float, digits: int = 4) -> float:
    """For the page's scripts: to so many digits where those print as the value does, else the value itself."""
    short = round(value, digits)
    alike = figure(short) == figure(value) and f"{short:.2f}" == f"{value:.2f}"
    return short if alike else value


def margin(cell: Cell) -> str:
    """Half the width of the 95 % interval; the exact ends stand in `sentence`."""
    return f"±{(cell.high - cell.low) / 2:.1f}"


def ends(value: float, low: float, high: float) -> str:
    """For the page: "±0.4", or where one side of the interval is more than twice the other, both, a line each."""
    up, down = high - value, value - low
    if max(up, down) <= 2 * min(up, down) or max(up, down) < 0.5:
        return f"±{figure((high - low) / 2)}"
    return f"+{figure(abs(up))}\n−{figure(abs(down))}"


def deviation(cell: Cell) -> str:
    """The standard deviation over seeds, " σ 0.3"; "" for one seed."""
    return "" if cell.deviation is None else f" σ {cell.deviation:.1f}"


def rank(row: Row) -> str:
    """The place by average: "2", or "1–3" where the separable pairs allow several; "" without one."""
    if row.rank is None:
        return ""
    first, last = row.rank
    return str(first) if first == last else f"{first}–{last}"


def counts(first: float, second: float) -> str:
    """Images of either kind: "12 / 3"; means over seeds where they are not whole: "12.3 / 4.0"."""
    digits = 0 if first == round(first) and second == round(second) else 1
    return f"{first:.{digits}f} / {second:.{digits}f}"


def signed(value: float) -> str:
    """ "+1.2", "−0.4"; a difference that rounds to nothing has no sign."""
    text = figure(abs(value))
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def pvalue(p: float) -> str:
    """ "p = 0.012", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def verdict(delta: Delta) -> str:
    """ "better"; "better (these weights)" where one of the two was trained once."""
    return f"{delta.verdict} ({THESE_WEIGHTS})" if delta.of_weights else delta.verdict


def difference(delta: Delta) -> str:
    """All about one difference."""
    return (
        f"{signed(delta.value)} ({signed(delta.low)} to {signed(delta.high)}) against {delta.reference}: "
        f"{verdict(delta)}, {pvalue(delta.adjusted)} after Holm ({delta.test})"
    )


def budget(threat: ThreatModel) -> str:
    """Its eps: "4/255" of l-infinity, else a plain number; "unbounded"."""
    if threat.eps is None:
        return "unbounded"
    return f"{255 * threat.eps:g}/255" if threat.norm == "linf" else f"{threat.eps:g}"


def norms(text: str) -> str:
    """Norms and budgets as the page writes them: "ℓ2", "ℓ∞", "8/255"."""
    text = re.sub(r"(\d) /255", r"\1/255", text)
    return re.sub(r"\bl([12])\b", r"ℓ\1", re.sub(r"\bl-?inf\b|\bl∞", "ℓ∞", text))


def average_column(table: Table) -> Column:
    """The average's column, with its own name where it is not over all eleven."""
    if not table.partial_suites:
        whole = replace(AVERAGE, neighbours=table.average_neighbours)
        if table.own_suites:
            whole = replace(
                whole,
                title=f"Average of {len(table.own_suites)}",
                group="average of this source",
                summary=(
                    f"Mean of the {len(table.own_suites)} of the paper's columns that mean something for the classes of "
                    f"{table.source}, with 100 − mCE in place of mCE; it exists only where all of them are there."
                ),
            )
        return _of_other_sizes(whole, table)
    titles = [column.title for column in table.columns if column.suite in table.partial_suites]
    partial = replace(
        AVERAGE,
        title=f"Average of {len(titles)}",
        neighbours=table.average_neighbours,
        summary=(
            f"Partial average, over what all rows have: {', '.join(titles)}; with 100 − mCE in place of mCE. It is not the "
            "average of the eleven and is comparable within this table alone."
        ),
    )
    return _of_other_sizes(partial, table)


def all_of(table: Table) -> str:
    """What an average needs."""
    return f"all {len(table.own_suites)} suites of this source" if table.own_suites else "all eleven"


def _of_other_sizes(average: Column, table: Table) -> Column:
    """The average's column, which says how many of its columns are of images of another size than the benchmark's."""
    over = [column for column in table.columns if column.paper and column.size_apart]
    over = [column for column in over if not table.partial_suites or column.suite in table.partial_suites]
    if not over:
        return average
    words = ", ".join(sorted({column.size_apart for column in over}))
    return replace(
        average,
        title=f"{average.title} ({len(over)} {words})",
        summary=f"{average.summary} {len(over)} of its columns are of images {words}: it is no average of the benchmark as "
        "published, and compares models of one input size.",
    )


def group_title(group: str) -> str:
    return GROUP_TITLES.get(group, group)


def seeds(values: Sequence[int]) -> str:
    return f"seed{'s' if len(values) > 1 else ''} {', '.join(map(str, values))}"


def sentence(cell: Cell, column: Column) -> str:
    """All about one figure, for a tooltip."""
    unit = " %" if column.unit == "%" else f" {column.unit}"
    once = cell.of_weights and not (cell.delta and cell.delta.of_weights)  # the difference says it too
    parts = [
        f"{column.title} {cell.value:.2f}{unit}, 95 % interval {cell.low:.2f} to {cell.high:.2f}",
        f"n = {cell.n:,} images",
        seeds(cell.seeds) + (f": {THESE_WEIGHTS}" if once else ""),
    ]
    if cell.spread and cell.deviation is not None:
        parts.append(
            f"mean of {len(cell.seeds)} seeds, whose standard deviation is {cell.deviation:.2f} "
            f"({cell.spread[0]:.2f} to {cell.spread[1]:.2f}); the interval is over images and trainings"
        )
    if cell.best:
        parts.append("best of its column")
    if cell.tied:
        parts.append("not separable from the best of its column")
    if not cell.comparable:
        parts.append(f"not compared: {cell.reason}")
    if cell.unpaired:
        parts.append(f"compared by its interval alone: {cell.unpaired}")
    if cell.delta:
        parts.append(difference(cell.delta))
    return "; ".join(parts)


def heading(table: Table) -> str:
    words = [table.source, table.model]
    return " · ".join(words if table.limit is None else [*words, table.image_set])
