"""Accuracy under a shift against clean accuracy, with the fitted line: what effective robustness is measured from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from nsbench.leaderboard import EffectiveLine
from nsbench.report.page.charts import BOTTOM, HEIGHT, LABELS, LEFT, TOP, WIDTH, clipped, scale, tag, ticks

MOST = 200  # points that are all drawn; of more only the named ones
NAMED = 8  # as many points as this have their name beside them
SAMPLES = 24  # points that the line, which bends on plain axes, is drawn through


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
    parts = [tag("path", d=f"M{LEFT} {y(t):.1f}H{right}", class_="grid") for t in ticks(bottom, top)]
    parts += [tag("text", f"{t:g}", x=LEFT - 7, y=y(t) + 4, class_="end light") for t in ticks(bottom, top)]
    parts += [tag("text", f"{t:g}", x=x(t), y=base + 17, class_="mid light") for t in ticks(start, end)]
    parts += [
        tag("text", "clean accuracy, %", x=(LEFT + right) / 2, y=HEIGHT - 5, class_="mid light"),
        tag("text", f"accuracy on {title}, %", x=0, y=10, class_="light"),
        tag("path", d="M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in curve), class_="reference"),
    ]
    taken: list[tuple[float, float]] = []  # points whose name is there: a name over another says nothing
    shown = line.points if len(line.points) <= MOST else [point for point in line.points if point[0] in named]
    for label, a, b in shown:
        parts.append(tag("circle", cx=x(a), cy=y(b), r=3.6, class_=f"{styles[label]} dot"))
        if label in named[:NAMED] and not any(abs(x(a) - left) < 130 and abs(y(b) - top) < 12 for left, top in taken):
            parts.append(tag("text", clipped(label, 20), x=x(a) + 8, y=y(b) + 4))
            taken.append((x(a), y(b)))
    return tag(
        "svg",
        Markup("").join(parts),
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=(
            f"Accuracy on {title} against clean accuracy of {len(shown)} rows, with the line fitted to {len(line.points)}"
        ),
    )
