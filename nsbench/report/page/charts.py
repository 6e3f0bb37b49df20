"""Charts as inline SVG, made here so that the page needs no script to be read. Colours come from the page's CSS.

Text is escaped by markupsafe; classes `k0` to `k7` are the Okabe-Ito series colours, each with its own dash pattern,
so that lines stay apart in grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from markupsafe import Markup, escape

from nsbench.report.labels import shortened
from nsbench.report.numbers import ends, figure
from nsbench.report.plots import Lines, Look, Places, Series, Strips

SERIES = 8
WIDTH, NARROW, HEIGHT = 460, 300, 250  # narrow: two of them side by side in a card
LEFT, LABELS, NARROW_LABELS, TOP, BOTTOM = 40, 124, 76, 26, 40
OUTLINES = (  # of marks by shape, in radii; the first is a circle
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    ((0, 1.2), (1.15, -0.9), (-1.15, -0.9)),
)
DOTTED = 10  # points of a line that are marked


def tag(name: str, content: object = None, **attributes: object) -> Markup:
    """One element; `class_` is class, `_` in a name becomes `-`, numbers are rounded to a hundredth."""
    words = "".join(f' {_attribute(key)}="{escape(_short(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{words}/>" if content is None else f"<{name}{words}>{escape(content)}</{name}>")


@lru_cache(maxsize=256)
def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def scale(start: float, end: float, low: float, high: float) -> Callable[[float], float]:
    """Map [start, end] to [low, high]; an empty range to the middle."""
    if start == end:
        return lambda value: (low + high) / 2
    return lambda value: low + (value - start) / (end - start) * (high - low)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers inside [low, high]."""
    span = (high - low) or 1.0
    power = 10 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def marker(look: Look, x: float, y: float, r: float, title: str = "", *, kind: str = "dot") -> Markup:
    """The mark of a row in its shape; `title` is shown when the pointer is on it."""
    content = tag("title", title) if title else None
    if not look.shape:
        return tag("circle", content, cx=x, cy=y, r=r, class_=f"{look} {kind}")
    corners = " ".join(f"{x + r * across:.1f} {y + r * down:.1f}" for across, down in OUTLINES[look.shape])
    return tag("path", content, d=f"M{corners}Z", class_=f"{look} {kind}")


def whisker(value: float, low: float, high: float, start: float, end: float) -> str:
    """CSS variables of a dot with its interval on the column's common scale [start, end], drawn by the class `w`."""
    x = scale(start, end, 3, 69)
    return f"--l:{x(low):.1f};--m:{x(value):.1f};--h:{x(high):.1f}"


def balanced(low: float, high: float, value: float, most: float) -> str:
    """The same of a difference, on a scale from -most to most with zero in its middle."""
    return f"{whisker(value, low, high, -most or -1.0, most or 1.0)};--z:36"


def forest(plot: Places) -> Markup:
    """Dot and whisker of every row on one labelled axis."""
    left, right, step, width = 144, 108, 22, 460
    low, high = min(row.low for row in plot.rows), max(row.high for row in plot.rows)
    pad = max((high - low) * 0.06, 0.5)
    low, high = max(low - pad, 0), high + pad
    x, bottom = scale(low, high, left, width - right), len(plot.rows) * step + 8
    parts = [tag("path", d=f"M{x(t):.1f} 4V{bottom}", class_="grid") for t in ticks(low, high)]
    names = shortened((row.label for row in plot.rows), 21)
    for index, row in enumerate(plot.rows):
        y = 8 + index * step + step / 2
        parts += [
            tag("text", clipped(row.label, names), x=left - 10, y=y + 4, class_="end"),
            tag("path", d=f"M{x(row.low):.1f} {y}H{x(row.high):.1f}", class_=f"{row.look} bar"),
            marker(row.look, x(row.value), y, 4.0),
            tag(
                "text",
                Markup('{} <tspan class="light">{}</tspan>').format(
                    figure(row.value), ends(row.value, row.low, row.high).replace("\n", " ")
                ),
                x=width - right + 10,
                y=y + 4,
            ),
        ]
    parts += [tag("text", f"{t:g}", x=x(t), y=bottom + 15, class_="mid light") for t in ticks(low, high)]
    parts.append(tag("text", plot.unit, x=width - right + 18, y=bottom + 15, class_="light"))
    said = ", ".join(f"{row.label} {figure(row.value)}" for row in plot.rows)
    return drawing(parts, width, bottom + 22, f"Scores with 95 % intervals, in {plot.unit}: {said}")


def strips(plot: Strips) -> Markup:
    """A distribution per row, from zero: the middle half thick, 5 to 95 % thin, the median as a dot."""
    left, right, step, width = 144, 82, 22, 460
    high = max(row.quantiles[-1] for row in plot.rows) * 1.05 or 1.0
    x, bottom = scale(0, high, left, width - right), len(plot.rows) * step + 8
    parts = [tag("path", d=f"M{x(t):.1f} 4V{bottom}", class_="grid" if t else "axis") for t in ticks(0, high)]
    names = shortened((row.label for row in plot.rows), 21)
    for index, row in enumerate(plot.rows):
        y, (least, lower, median, upper, most) = 8 + index * step + step / 2, map(x, row.quantiles)
        parts += [
            tag("text", clipped(row.label, names), x=left - 10, y=y + 4, class_="end"),
            tag("path", d=f"M{least:.1f} {y}H{most:.1f}", class_=f"{row.look} bar thin"),
            tag("path", d=f"M{lower:.1f} {y}H{upper:.1f}", class_=f"{row.look} bar thick"),
            marker(row.look, median, y, 3.4, kind="dot ringed"),
            tag(
                "text",
                Markup('{} <tspan class="light">n {}</tspan>').format(f"{row.quantiles[2]:.2f}", f"{row.n:,}"),
                x=width - right + 10,
                y=y + 4,
            ),
        ]
    parts += [tag("text", f"{t:g}", x=x(t), y=bottom + 15, class_="mid light") for t in ticks(0, high)]
    parts.append(tag("text", plot.unit, x=(left + width - right) / 2, y=bottom + 32, class_="mid light"))
    said = ", ".join(f"{row.label} {row.quantiles[2]:.2f}" for row in plot.rows)
    return drawing(parts, width, bottom + 38, f"Distributions of the {plot.unit}; medians: {said}")


@dataclass(frozen=True)
class Frame:
    """Where the axes lie, and how data map to them."""

    width: int
    right: int  # x of the right end of the axes
    x: Callable[[float], float]
    y: Callable[[float], float]


def lines(plot: Lines, *, narrow: bool = False) -> Markup:
    """Lines with bands and direct labels at their ends; a narrow chart of one line has its name in the caption."""
    series, points = plot.series, [point for one in plot.series for point in one.points]
    heights = [p.y if p.high is None else p.high for p in points] + ([plot.reference[0]] if plot.reference else [])
    top = plot.top or max(heights) * 1.12 or 1.0
    start, end = plot.span or (min(p.x for p in points), max(p.x for p in points))
    room = LABELS if not narrow else NARROW_LABELS if len(series) > 1 else 0
    width = NARROW if narrow else WIDTH
    right = width - (room or 14)
    frame = Frame(width, right, scale(start, end, LEFT, right), scale(0, top, HEIGHT - BOTTOM, TOP))
    at = [(t, f"{t:g}") for t in (ticks(start, end) if plot.x_ticks is None else plot.x_ticks)]
    parts = axes(frame, at, ticks(0, top), plot.x_title, plot.y_title)
    if plot.diagonal:
        ends = f"M{frame.x(start):.1f} {frame.y(start):.1f}L{frame.x(end):.1f} {frame.y(end):.1f}"
        parts.append(tag("path", d=ends, class_="reference"))
    for one in series:
        parts += _line(one, frame)
    if plot.reference:
        level, words = plot.reference
        parts += [
            tag("path", d=f"M{LEFT} {frame.y(level):.1f}H{right}", class_="reference"),
            tag("text", words, x=LEFT + 6, y=frame.y(level) - 5),
        ]
    if room:
        parts += _end_labels(series, frame)
    summary = "; ".join(f"{one.label} from {one.points[0].y:.3g} to {one.points[-1].y:.3g}" for one in series)
    return drawing(parts, width, HEIGHT, f"{plot.y_title} over {plot.x_title}: {summary}")


def _line(one: Series, frame: Frame) -> list[Markup]:
    x, y = frame.x, frame.y
    path = "M" + "L".join(f"{x(p.x):.1f} {y(p.y):.1f}" for p in one.points)
    dots = one.points if len(one.points) <= DOTTED else ()
    return [
        *_band(one, x, y),
        tag("path", d=path, class_=f"{one.look} line"),
        *(marker(one.look, x(p.x), y(p.y), 2.8) for p in dots),
    ]


def _end_labels(series: Sequence[Series], frame: Frame) -> list[Markup]:
    parts = []
    heights = _spread([frame.y(one.points[-1].y) for one in series], TOP + 4, HEIGHT - BOTTOM)
    names = shortened((one.label for one in series), (frame.width - frame.right - 16) // 6)
    for one, height in zip(series, heights, strict=True):
        last = one.points[-1]
        lead = f"M{frame.x(last.x) + 4:.1f} {frame.y(last.y):.1f}L{frame.right + 12} {height:.1f}"
        words = clipped(one.label, names)
        parts += [tag("path", d=lead, class_=f"{one.look} lead"), tag("text", words, x=frame.right + 16, y=height + 4)]
    return parts


def axes(
    frame: Frame,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[float],
    x_title: str,
    y_title: str,
) -> list[Markup]:
    base, right, y = HEIGHT - BOTTOM, frame.right, frame.y
    parts = [tag("path", d=f"M{LEFT} {y(t):.1f}H{right}", class_="axis" if t == 0 else "grid") for t in y_ticks]
    parts += [tag("text", f"{t:g}", x=LEFT - 7, y=y(t) + 4, class_="end light") for t in y_ticks]
    parts += [tag("text", label, x=frame.x(t), y=base + 17, class_="mid light") for t, label in x_ticks]
    parts += [
        tag("text", x_title, x=(LEFT + right) / 2, y=HEIGHT - 5, class_="mid light"),
        tag("text", y_title, x=0, y=10, class_="light"),
    ]
    return parts


def _band(one: Series, x: Callable[[float], float], y: Callable[[float], float]) -> list[Markup]:
    ends = [(p.x, p.low, p.high) for p in one.points if p.low is not None and p.high is not None]
    if len(ends) < 2:
        return []
    corners = [f"{x(at):.1f} {y(high):.1f}" for at, _, high in ends]
    corners += [f"{x(at):.1f} {y(low):.1f}" for at, low, _ in reversed(ends)]
    return [tag("path", d="M" + "L".join(corners) + "Z", class_=f"{one.look} band")]


def _spread(positions: Sequence[float], low: float, high: float, gap: float = 15) -> list[float]:
    """Move labels as little as needed so that none covers another; in the order given."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = [0.0] * len(positions)
    last = low - gap
    for index in order:
        last = placed[index] = max(positions[index], last + gap)
    limit = max(high, low + gap * (len(positions) - 1))
    for index in reversed(order):
        limit = placed[index] = min(placed[index], limit)
        limit -= gap
    return placed


def clipped(label: str, names: Mapping[str, str]) -> object:
    """The label as `labels.shortened` cut it for this chart; the whole of it as a hover title."""
    return label if names[label] == label else Markup("{}<title>{}</title>").format(names[label], label)


def drawing(parts: Sequence[Markup], width: int, height: float, summary: str) -> Markup:
    """The chart of these parts; `summary` is what a screen reader says."""
    return tag(
        "svg", Markup("").join(parts), class_="chart", viewBox=f"0 0 {width} {height:g}", role="img", aria_label=summary
    )
