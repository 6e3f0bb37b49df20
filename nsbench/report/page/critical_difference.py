"""The critical-difference diagram: average ranks over suites, and what Nemenyi's test can tell apart.

J. Demsar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7:1-30, section 3.2 and figure 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from markupsafe import Markup

from nsbench.leaderboard import CriticalDifference, Table
from nsbench.report.numbers import pvalue
from nsbench.report.page.charts import clipped, scale, tag

WIDTH, SIDE, LONGEST = 700, 236, 28  # px, room for labels left and right, characters of a label
AXIS, STEP, BAR = 44, 19, 7  # height of the axis, of a label, of a bar
MOST = 24  # rows that are drawn, the best ones


def diagram(found: CriticalDifference, styles: Mapping[str, str]) -> Markup:
    """An SVG; `styles`: CSS class of each row's colour by label. Rank 1 is on the left; bars join what ties."""
    ranks, labels = found.ranks[:MOST], found.labels[:MOST]
    last = max(len(found.ranks) if len(found.ranks) <= MOST else int(ranks[-1]) + 1, 2)
    x = scale(1, last, SIDE, WIDTH - SIDE)
    cliques = [kept for one in found.cliques if len(kept := [i for i in one if i < MOST]) > 1]
    top = AXIS + 16 + BAR * len(cliques)
    half = (len(ranks) + 1) // 2
    parts = [*_scale_bar(x(1), x(1 + min(found.difference, last - 1)), found), *_axis(x, last)]
    for index, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
        left = index < half
        y = top + STEP * (index if left else len(ranks) - 1 - index)
        parts += _row(label, styles.get(label, "k0"), rank, x(rank), y, left)
    for level, members in enumerate(cliques):
        y = AXIS + 12 + BAR * level
        parts.append(
            tag("path", d=f"M{x(ranks[members[0]]) - 4:.1f} {y}H{x(ranks[members[-1]]) + 4:.1f}", class_="clique")
        )
    summary = ", ".join(f"{label} {rank:.2f}" for label, rank in zip(labels, ranks, strict=True))
    return tag(
        "svg",
        Markup("").join(parts),
        class_="chart critical",
        role="img",
        viewBox=f"0 0 {WIDTH} {top + STEP * half:g}",
        aria_label=f"Average ranks, 1 is best: {summary}. Critical difference {found.difference:.2f}",
    )


def caption(found: CriticalDifference, table: Table) -> str:
    """What the diagram shows, by which tests, and what these take for granted."""
    titles = {column.suite: column.title for column in table.columns}
    shown = f" The best {MOST} of {len(found.labels)} are drawn." if len(found.labels) > MOST else ""
    verdict = (
        " at 5 % by Nemenyi's test"
        if found.p <= 0.05
        else ": Friedman's test finds no difference among them all, so none of a pair may be claimed"
    )
    over = ", ".join(titles[suite] for suite in found.suites)
    return (
        f"Average rank of {len(found.labels)} rows over {len(found.suites)} suites ({over}). Friedman's test: "
        f"{pvalue(found.p)}. Rows joined by a bar cannot be told apart{verdict}; critical difference "
        f"{found.difference:.2f} (Demšar 2006). The tests take the suites as independent, which those on the same "
        f"images are not.{shown}"
    )


def _scale_bar(start: float, end: float, found: CriticalDifference) -> list[Markup]:
    return [
        tag("path", d=f"M{start:.1f} 12v6M{start:.1f} 15H{end:.1f}M{end:.1f} 12v6", class_="ruler"),
        tag("text", f"CD {found.difference:.2f}", x=(start + end) / 2, y=9, class_="mid light"),
    ]


def _axis(x: Callable[[float], float], last: int) -> list[Markup]:
    parts = [tag("path", d=f"M{x(1):.1f} {AXIS}H{x(last):.1f}", class_="ruler")]
    for tick in range(1, last + 1, max(1, round(last / 10))):
        parts += [
            tag("path", d=f"M{x(tick):.1f} {AXIS}v-5", class_="ruler"),
            tag("text", tick, x=x(tick), y=AXIS - 9, class_="mid light"),
        ]
    return parts


def _row(label: str, style: str, rank: float, x: float, y: float, left: bool) -> list[Markup]:
    end = SIDE - 8 if left else WIDTH - SIDE + 8
    text = (
        Markup('{} <tspan class="light">{}</tspan>') if left else Markup('<tspan class="light">{1}</tspan> {0}')
    ).format(clipped(label, LONGEST), f"{rank:.2f}")
    return [
        tag("path", d=f"M{x:.1f} {AXIS}V{y:.1f}H{end}", class_=f"{style} lead"),
        tag("circle", cx=x, cy=float(AXIS), r=3.2, class_=f"{style} dot"),
        tag("text", text, x=end + (-5 if left else 5), y=y + 4, class_="end" if left else "start"),
    ]
