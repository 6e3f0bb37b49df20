"""Two diagrams of a whole table: accuracy under a shift against clean accuracy, and ranks over suites.

The scatter shows what effective robustness is measured from. The critical-difference diagram shows average ranks and
what Nemenyi's test can tell apart: J. Demsar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets,
JMLR 7:1-30, section 3.2 and figure 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from nsbench.leaderboard import CriticalDifference, EffectiveLine, Table
from nsbench.report.numbers import pvalue
from nsbench.report.page.charts import (
    BOTTOM,
    HEIGHT,
    LABELS,
    LEFT,
    TOP,
    WIDTH,
    Frame,
    axes,
    clipped,
    drawing,
    scale,
    tag,
    ticks,
)

POINTS = 200  # of a scatter that are all drawn; of more only the named ones
NAMED = 8  # as many points as this have their name beside them
SAMPLES = 24  # points that the line, which bends on plain axes, is drawn through
BROAD, SIDE, LONGEST = 700, 236, 28  # px of the diagram of ranks, room for labels left and right, characters of a label
AXIS, STEP, BAR = 44, 19, 7  # height of the axis, of a label, of a bar
MOST = 24  # rows that are drawn, the best ones


def scatter(line: EffectiveLine, title: str, styles: Mapping[str, str], named: Sequence[str]) -> Markup:
    """All points in their method's colour, those of `named` (labels) with their name; axes in percent."""
    clean = [x for _, x, _ in line.points]
    low, high = min(clean), max(clean)
    pad = max((high - low) * 0.08, 0.2)
    start, end = max(low - pad, 0.01), min(high + pad, 99.99)
    curve = [(x, line.expected(x)) for x in (start + (end - start) * i / SAMPLES for i in range(SAMPLES + 1))]
    heights = [y for _, _, y in line.points] + [y for _, y in curve]
    room = max((max(heights) - min(heights)) * 0.08, 0.2)
    bottom, top = max(min(heights) - room, 0), min(max(heights) + room, 100)
    right, base = WIDTH - LABELS, HEIGHT - BOTTOM
    x, y = scale(start, end, LEFT, right), scale(bottom, top, base, TOP)
    frame = Frame(WIDTH, right, x, y)
    at = [(t, f"{t:g}") for t in ticks(start, end)]
    parts = axes(frame, at, ticks(bottom, top), "clean accuracy, %", f"accuracy on {title}, %")
    parts.append(tag("path", d="M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in curve), class_="reference"))
    taken: list[tuple[float, float]] = []  # points whose name is there: a name over another says nothing
    shown = line.points if len(line.points) <= POINTS else [point for point in line.points if point[0] in named]
    for label, a, b in shown:
        parts.append(tag("circle", cx=x(a), cy=y(b), r=3.6, class_=f"{styles[label]} dot"))
        if label in named[:NAMED] and not any(abs(x(a) - left) < 130 and abs(y(b) - top) < 12 for left, top in taken):
            parts.append(tag("text", clipped(label, 20), x=x(a) + 8, y=y(b) + 4))
            taken.append((x(a), y(b)))
    summary = (
        f"Accuracy on {title} against clean accuracy of {len(shown)} rows, with the line fitted to {len(line.points)}"
    )
    return drawing(parts, WIDTH, HEIGHT, summary)


def diagram(found: CriticalDifference, styles: Mapping[str, str]) -> Markup:
    """An SVG; `styles`: CSS class of each row's colour by label. Rank 1 is on the left; bars join what ties."""
    ranks, labels = found.ranks[:MOST], found.labels[:MOST]
    last = max(len(found.ranks) if len(found.ranks) <= MOST else int(ranks[-1]) + 1, 2)
    x = scale(1, last, SIDE, BROAD - SIDE)
    cliques = [kept for one in found.cliques if len(kept := [i for i in one if i < MOST]) > 1]
    top = AXIS + 16 + BAR * len(cliques)
    half = (len(ranks) + 1) // 2
    parts = [*_scale_bar(x(1), x(1 + min(found.difference, last - 1)), found), *_rank_axis(x, last)]
    for index, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
        left = index < half
        y = top + STEP * (index if left else len(ranks) - 1 - index)
        parts += _place(label, styles.get(label, "k0"), rank, x(rank), y, left)
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
        viewBox=f"0 0 {BROAD} {top + STEP * half:g}",
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


def _rank_axis(x: Callable[[float], float], last: int) -> list[Markup]:
    parts = [tag("path", d=f"M{x(1):.1f} {AXIS}H{x(last):.1f}", class_="ruler")]
    for tick in range(1, last + 1, max(1, round(last / 10))):
        parts += [
            tag("path", d=f"M{x(tick):.1f} {AXIS}v-5", class_="ruler"),
            tag("text", tick, x=x(tick), y=AXIS - 9, class_="mid light"),
        ]
    return parts


def _place(label: str, style: str, rank: float, x: float, y: float, left: bool) -> list[Markup]:
    end = SIDE - 8 if left else BROAD - SIDE + 8
    text = (
        Markup('{} <tspan class="light">{}</tspan>') if left else Markup('<tspan class="light">{1}</tspan> {0}')
    ).format(clipped(label, LONGEST), f"{rank:.2f}")
    return [
        tag("path", d=f"M{x:.1f} {AXIS}V{y:.1f}H{end}", class_=f"{style} lead"),
        tag("circle", cx=x, cy=float(AXIS), r=3.2, class_=f"{style} dot"),
        tag("text", text, x=end + (-5 if left else 5), y=y + 4, class_="end" if left else "start"),
    ]
