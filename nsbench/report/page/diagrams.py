"""Two diagrams of a whole table: one quantity against another, and ranks over suites.

The first shows what effective robustness is measured from, accuracy under attack, and the cost of a score. The second,
the critical-difference diagram, shows average ranks and what Nemenyi's test can tell apart: J. Demsar 2006, Statistical
Comparisons of Classifiers over Multiple Data Sets, JMLR 7:1-30, section 3.2 and figure 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from nsbench.leaderboard import CriticalDifference, Table
from nsbench.report.labels import shortened
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
    marker,
    scale,
    tag,
    ticks,
)
from nsbench.report.plots import Cloud, Look, Ranks, Spot, short
from nsbench.report.side_columns import many

POINTS = 200  # of a scatter that are all drawn; of more only the named ones
NAMED = 8  # as many points as this have their name beside them
BROAD, SIDE, LONGEST = 700, 236, 28  # px of the diagram of ranks, room for labels left and right, characters of a label
AXIS, STEP, BAR = 44, 19, 7  # height of the axis, of a label, of a bar
TALL = 14.5  # px that a name takes
TOUCH = 14  # px between points that a name need not tell apart
TITLED = 40  # points of a scatter that say what they are when the pointer is on them; of more the table has the names
FAR = (-39, 39, -52, 52, -65, 65, -78, 78)  # px up or down to a name that a line joins to its point
DOT = 4  # px that a point takes to each side
MOST = 24  # rows that are drawn, the best ones


def cloud(plot: Cloud) -> Markup:
    """All points in their method's colour with their intervals, those of `named` with their name."""
    shown = shown_spots(plot)
    (start, end), (bottom, top) = spans(plot)
    right, base = WIDTH - LABELS, HEIGHT - BOTTOM
    x, y = scale(start, end, LEFT, right), scale(bottom, top, base, TOP)
    words = short if plot.counts else "{:g}".format
    at = [(t, words(t)) for t in ticks(start, end)]
    parts = axes(Frame(WIDTH, right, x, y), at, ticks(bottom, top), plot.x_title, plot.y_title)
    if plot.curve:
        path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in plot.curve)
        parts.append(tag("path", d=f"M{path}", class_="reference"))
    front = [spot for label in plot.front for spot in plot.spots if spot.label == label]
    if len(front) > 1:  # a step goes on at the same height until the next row of the front is reached
        steps = "".join(f"H{x(spot.x):.1f}V{y(spot.y):.1f}" for spot in front[1:])
        parts.append(tag("path", d=f"M{x(front[0].x):.1f} {y(front[0].y):.1f}{steps}", class_="ruler"))
    for spot in shown:
        if spot.x_ends:
            ends = f"M{x(spot.x_ends[0]):.1f} {y(spot.y):.1f}H{x(spot.x_ends[1]):.1f}"
            parts.append(tag("path", d=ends, class_=f"{spot.look} lead"))
        if spot.y_ends:
            ends = f"M{x(spot.x):.1f} {y(spot.y_ends[0]):.1f}V{y(spot.y_ends[1]):.1f}"
            parts.append(tag("path", d=ends, class_=f"{spot.look} lead"))
    said = [f"{spot.label}: {spot.y:.1f} at {many(spot.x) if plot.counts else f'{spot.x:.1f}'}" for spot in shown]
    titles = said if len(shown) <= TITLED else [""] * len(shown)
    parts += [marker(one.look, x(one.x), y(one.y), 3.6, title) for one, title in zip(shown, titles, strict=True)]
    return drawing([*parts, *_names(plot, shown, x, y)], WIDTH, HEIGHT, plot.summary)


def _names(
    plot: Cloud, shown: Sequence[Spot], x: Callable[[float], float], y: Callable[[float], float]
) -> list[Markup]:
    """Beside their points, off intervals and steps; where another point is nearer, a line joins a name to its own. A name
    over another or over a point is left out where no place is free. Those of the front cover a point where they must."""
    offsets = (-11, 15, -26, 30) if plot.front or any(spot.x_ends for spot in shown) else (0, -13, 13, -26, 26)
    points = [(x(spot.x), y(spot.y)) for spot in shown]
    dots = [(at - DOT, at + DOT, height, DOT + TALL / 2) for at, height in points]
    names: list[_Box] = []
    words = shortened((spot.label for spot in shown), 20)
    parts = []
    for spot in sorted(shown, key=lambda spot: spot.label not in plot.front):
        if spot.label not in plot.named[:NAMED]:
            continue
        own = x(spot.x), y(spot.y)
        places = _places(*own, 7.2 * len(words[spot.label]), offsets)
        free = [box for box in places if not _covers(box, names)]
        chosen = next((box for box in free if not _covers(box, dots) and _is_nearest(box, own, points)), None)
        if not chosen:
            far = [*free, *_places(*own, 7.2 * len(words[spot.label]), FAR)]
            chosen = next((box for box in far if not _covers(box, names) and not _covers(box, dots)), None)
            if chosen:
                end = (chosen[0] if chosen[0] > own[0] else chosen[1]), chosen[2]
                parts.append(
                    tag("path", d=f"M{own[0]:.1f} {own[1]:.1f}L{end[0]:.1f} {end[1]:.1f}", class_=f"{spot.look} lead")
                )
        if chosen or (free and spot.label in plot.front):
            chosen = chosen or free[0]
            left = chosen[0] < own[0]
            side = {"class_": "end"} if left else {}
            at = own[0] + (-8 if left else 8)
            parts.append(tag("text", clipped(spot.label, words), x=at, y=chosen[2] + 4, **side))
            names.append(chosen)
    return parts


_Box = tuple[float, float, float, float]  # left and right end, height of the middle, room that it takes above and below


def _places(at: float, height: float, wide: float, offsets: Sequence[float]) -> list[_Box]:
    """Where a name may stand, the first place first: right of its point and left of it, inside the chart."""
    starts = (at + 8, at - 8 - wide)
    boxes = [(start, start + wide, height + offset, TALL) for offset, start in itertools.product(offsets, starts)]
    return [box for box in boxes if box[0] > LEFT and box[1] < WIDTH and TOP < box[2] < HEIGHT - BOTTOM]


def _covers(box: _Box, others: Sequence[_Box]) -> bool:
    return any(box[0] < end and start < box[1] and abs(box[2] - middle) < room for start, end, middle, room in others)


def _is_nearest(box: _Box, own: tuple[float, float], points: Sequence[tuple[float, float]]) -> bool:
    """No point but those that nearly touch its own one is nearer to the name's end."""
    end = (box[0] if box[0] > own[0] else box[1]), box[2]
    return not any(math.dist(end, one) < math.dist(end, own) for one in points if math.dist(one, own) > TOUCH)


def shown_spots(plot: Cloud) -> Sequence[Spot]:
    """All of them, or of very many the named ones."""
    return plot.spots if len(plot.spots) <= POINTS else [spot for spot in plot.spots if spot.label in plot.named]


def spans(plot: Cloud) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of both axes: what is drawn with a little room, percentages between 0 and 100, counts from zero."""
    wide = [end for spot in plot.spots for end in (spot.x, *(spot.x_ends or ()))] + [x for x, _ in plot.curve]
    tall = [end for spot in plot.spots for end in (spot.y, *(spot.y_ends or ()))] + [y for _, y in plot.curve]
    bottom, top = _padded(tall)
    if plot.counts:
        return (-0.03 * max(wide), max(wide) * 1.05 or 1.0), (max(bottom, 0.0), min(top, 100.0))
    start, end = _padded(wide)
    return (max(start, 0.0), min(end, 100.0)), (max(bottom, 0.0), min(top, 100.0))


def _padded(values: Sequence[float]) -> tuple[float, float]:
    pad = max((max(values) - min(values)) * 0.08, 0.2)
    return min(values) - pad, max(values) + pad


def diagram(plot: Ranks) -> Markup:
    """Rank 1 is on the left; bars join what ties."""
    found = plot.found
    ranks, labels = found.ranks[:MOST], found.labels[:MOST]
    last = max(len(found.ranks) if len(found.ranks) <= MOST else int(ranks[-1]) + 1, 2)
    x = scale(1, last, SIDE, BROAD - SIDE)
    cliques = [kept for one in found.cliques if len(kept := [i for i in one if i < MOST]) > 1]
    top = AXIS + 16 + BAR * len(cliques)
    half = (len(ranks) + 1) // 2
    parts = [
        *_scale_bar(x(1), x(1 + min(found.difference, last - 1)), found, found.difference > last - 1),
        *_rank_axis(x, last),
    ]
    names = shortened(labels, LONGEST)
    for index, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
        left = index < half
        y = top + STEP * (index if left else len(ranks) - 1 - index)
        parts += _place(label, clipped(label, names), plot.looks[index], rank, x(rank), y, left)
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


def _scale_bar(start: float, end: float, found: CriticalDifference, cut: bool) -> list[Markup]:
    """Open at its end where it is longer than the axis."""
    stop, words = ("", ", longer than this axis") if cut else (f"M{end:.1f} 12v6", "")
    return [
        tag("path", d=f"M{start:.1f} 12v6M{start:.1f} 15H{end:.1f}{stop}", class_="ruler"),
        tag("text", f"CD {found.difference:.2f}{words}", x=(start + end) / 2, y=9, class_="mid light"),
    ]


def _rank_axis(x: Callable[[float], float], last: int) -> list[Markup]:
    parts = [tag("path", d=f"M{x(1):.1f} {AXIS}H{x(last):.1f}", class_="ruler")]
    for tick in range(1, last + 1, max(1, round(last / 10))):
        parts += [
            tag("path", d=f"M{x(tick):.1f} {AXIS}v-5", class_="ruler"),
            tag("text", tick, x=x(tick), y=AXIS - 9, class_="mid light"),
        ]
    return parts


def _place(label: str, name: object, look: Look, rank: float, x: float, y: float, left: bool) -> list[Markup]:
    end = SIDE - 8 if left else BROAD - SIDE + 8
    text = (
        Markup('{} <tspan class="light">{}</tspan>') if left else Markup('<tspan class="light">{1}</tspan> {0}')
    ).format(name, f"{rank:.2f}")
    return [
        tag("path", d=f"M{x:.1f} {AXIS}V{y:.1f}H{end}", class_=f"{look} lead"),
        marker(look, x, float(AXIS), 3.2, f"{label}: {rank:.2f}"),
        tag("text", text, x=end + (-5 if left else 5), y=y + 4, class_="end" if left else "start"),
    ]
