"""How `papers` draws each kind of plot with matplotlib, inside its style."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.errors import without_controls
from nsbench.laboratory.figures import DASHES, INK, MARKERS, PALETTE, SOFT
from nsbench.report.labels import shortened
from nsbench.report.numbers import figure
from nsbench.report.page.diagrams import MOST, shown_spots, spans
from nsbench.report.plots import Cloud, HeatMap, Lines, Look, Places, Plot, Ranks, Strips, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.8  # inches
LINE = 0.19  # inches of a row of text
LONGEST = 26  # characters of a row's name
IN_A_LEGEND = 8  # names; of more points only the first ones are named
GREY = "#b9bdc5"


def width_of(plot: Plot) -> float:
    """Inches."""
    return TWO_COLUMNS if isinstance(plot, Ranks) else ONE_COLUMN


def height_of(plot: Plot) -> float:
    """Inches."""
    match plot:
        case Places() | Strips():
            return 0.55 + LINE * len(plot.rows)
        case Ranks():
            return 0.75 + LINE * ((min(len(plot.looks), MOST) + 1) // 2) + 0.09 * len(plot.found.cliques)
        case HeatMap():
            return 0.6 + 0.17 * len(plot.errors)
        case Lines():
            return 2.2 + (LINE * ((len(plot.series) + 1) // 2) if len(plot.series) > 1 else 0)
        case Cloud():
            return 2.3 + LINE * ((min(len(plot.spots), IN_A_LEGEND) + 1) // 2)


def plot_on(sheet: Sheet, plot: Plot) -> None:
    axes = sheet.add_subplot()
    match plot:
        case Places():
            _places(axes, plot)
        case Strips():
            _strips(axes, plot)
        case Lines():
            _lines(sheet, axes, plot)
        case Cloud():
            _cloud(sheet, axes, plot)
        case Ranks():
            _ranks(axes, plot)
        case HeatMap():
            _map(sheet, axes, plot)


def _names(labels: Sequence[str]) -> dict[str, str]:
    """Labels as they can be written: no controls, no half characters, not so long that they hide the plot."""
    return {label: _written(short) for label, short in shortened(labels, LONGEST).items()}


def _written(label: str) -> str:
    text = without_controls(label).encode("utf-8", "replace").decode()
    return f" {text}" if text.startswith("_") else text  # which matplotlib leaves out of legends


def _marks(look: Look) -> dict[str, Any]:
    """Colour and marker of a row; hollow ones are white inside."""
    at = look.colour % len(PALETTE)
    inside = "white" if look.hollow else PALETTE[at]
    return {
        "color": PALETTE[at],
        "marker": MARKERS[(at + look.shape) % len(MARKERS)],
        "markerfacecolor": inside,
        "markeredgecolor": PALETTE[at],
    }


def _listed(axes: Axes, labels: Sequence[str], beside: Sequence[str], unit: str) -> None:
    """Names of rows on the left, their figures on the right, the first one on top."""
    names = _names(labels)
    axes.set_yticks(range(len(labels)), [names[label] for label in labels], color=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(unit)
    for at, text in enumerate(beside):
        axes.annotate(text, (1.02, at), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)


def _places(axes: Axes, plot: Places) -> None:
    for at, row in enumerate(plot.rows):
        ends = [[row.value - row.low], [row.high - row.value]]
        axes.errorbar([row.value], [at], xerr=ends, **_marks(row.look))
    beside = [f"{figure(row.value)} ±{figure((row.high - row.low) / 2)}" for row in plot.rows]
    _listed(axes, [row.label for row in plot.rows], beside, plot.unit)


def _strips(axes: Axes, plot: Strips) -> None:
    for at, row in enumerate(plot.rows):
        least, lower, median, upper, most = row.quantiles
        colour = PALETTE[row.look.colour % len(PALETTE)]
        axes.plot([least, most], [at, at], color=colour, linewidth=1)
        axes.plot([lower, upper], [at, at], color=colour, linewidth=4, alpha=0.45, solid_capstyle="butt")
        axes.plot([median], [at], linestyle="none", **_marks(row.look))
    axes.set_xlim(left=0)
    _listed(axes, [row.label for row in plot.rows], [f"{row.quantiles[2]:.2f}" for row in plot.rows], plot.unit)


def _lines(sheet: Sheet, axes: Axes, plot: Lines) -> None:
    names = _names([one.label for one in plot.series])
    for one in plot.series:
        x, y = [p.x for p in one.points], [p.y for p in one.points]
        (line,) = axes.plot(x, y, label=names[one.label], **_marks(one.look))
        if dashes := DASHES[one.look.colour % len(DASHES)]:
            line.set_dashes(dashes)
        ends = [(p.x, p.low, p.high) for p in one.points if p.low is not None and p.high is not None]
        if len(ends) > 1:
            at, low, high = zip(*ends, strict=True)
            axes.fill_between(at, low, high, color=line.get_color(), alpha=0.13, linewidth=0)
    if plot.diagonal:
        axes.axline((0, 0), slope=1, color=INK, linewidth=0.8, dashes=(4, 3))
    if plot.reference:
        axes.axhline(plot.reference[0], color=INK, linewidth=0.8, dashes=(4, 3), label=plot.reference[1])
    if plot.x_ticks is not None:
        axes.set_xticks(plot.x_ticks, [f"{x:g}" for x in plot.x_ticks])
    axes.set(xlabel=plot.x_title, ylabel=plot.y_title, ylim=(0, plot.top), xlim=plot.span)
    if len(plot.series) > 1:
        sheet.legend(loc="outside lower center", ncols=2, handlelength=3)
    elif plot.diagonal:
        axes.set_title(names[plot.series[0].label], fontsize=8)


def _cloud(sheet: Sheet, axes: Axes, plot: Cloud) -> None:
    spots = shown_spots(plot)
    if plot.curve:
        axes.plot(*zip(*plot.curve, strict=True), color=INK, linewidth=0.8, dashes=(4, 3))
    front = [spot for label in plot.front for spot in plot.spots if spot.label == label]
    axes.step([spot.x for spot in front], [spot.y for spot in front], where="post", color=SOFT, linewidth=0.8)
    named = [label for label in plot.named if any(spot.label == label for spot in spots)][:IN_A_LEGEND]
    names = _names(named)
    for spot in spots:
        axes.errorbar(
            [spot.x],
            [spot.y],
            xerr=_ends(spot.x, spot.x_ends),
            yerr=_ends(spot.y, spot.y_ends),
            linestyle="none",
            elinewidth=0.8,
            label=names.get(spot.label),
            **_marks(spot.look),
        )
    wide, tall = spans(plot)
    axes.set(xlabel=plot.x_title, ylabel=plot.y_title, xlim=wide, ylim=tall)
    if plot.counts:
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
    if named:
        sheet.legend(loc="outside lower center", ncols=2, handletextpad=0.4)


def _ends(value: float, ends: tuple[float, float] | None) -> list[list[float]] | None:
    return None if ends is None else [[max(value - ends[0], 0.0)], [max(ends[1] - value, 0.0)]]


def _ranks(axes: Axes, plot: Ranks) -> None:
    """As on the page: names left and right of an axis of ranks, bars below it join what cannot be told apart."""
    found, shown = plot.found, min(len(plot.looks), MOST)
    half, last = (shown + 1) // 2, max(ceil(max(found.ranks[:shown])), 2)
    bars = [kept for one in found.cliques if len(kept := [at for at in one if at < shown]) > 1]
    for level, members in enumerate(bars):
        ends = [found.ranks[members[0]] - 0.03, found.ranks[members[-1]] + 0.03]
        axes.plot(ends, [-0.35 - 0.45 * level] * 2, color=INK, linewidth=2.5, solid_capstyle="round", clip_on=False)
    names = _names(found.labels[:shown])
    for at, (label, rank, look) in enumerate(zip(found.labels, found.ranks, plot.looks, strict=True)):
        if at >= shown:
            break
        left = at < half
        depth = -1 - 0.45 * len(bars) - (at if left else shown - 1 - at)
        end = 0.9 if left else last + 0.1
        colour = PALETTE[look.colour % len(PALETTE)]
        axes.plot([rank, rank, end], [0, depth, depth], color=colour, linewidth=0.8, clip_on=False)
        axes.plot([rank], [0], linestyle="none", clip_on=False, zorder=3, **_marks(look))
        text = f"{names[label]}  {rank:.2f}  " if left else f"  {rank:.2f}  {names[label]}"
        axes.annotate(text, (end, depth), ha="right" if left else "left", va="center", annotation_clip=False)
    end = min(1 + found.difference, last)
    longer = " (longer than the axis)" if 1 + found.difference > last else ""
    axes.plot([1, end], [1.6, 1.6], color=SOFT, linewidth=1.2, marker="|", clip_on=False)
    axes.annotate(
        f"CD {found.difference:.2f}{longer}",
        (end, 1.6),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
    )
    axes.set(xlim=(1, last), ylim=(-1.5 - 0.45 * len(bars) - half + 1, 2))
    axes.xaxis.set_ticks_position("top")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.spines["top"].set_position(("data", 0))
    axes.set_xticks(range(1, last + 1))
    axes.set_yticks([])
    axes.grid(False)


def _map(sheet: Sheet, axes: Axes, plot: HeatMap) -> None:
    """The number in each cell; darker is more."""
    values = [errors for _, errors in plot.lines]
    shades = np.array(values, dtype=float)  # NaN where nothing was evaluated
    axes.pcolormesh(shades, cmap="Blues", vmin=0, vmax=130, edgecolors="white", linewidth=1)
    for y, errors in enumerate(values):
        for x, error in enumerate(errors):
            if error is None:
                continue
            axes.annotate(figure(error), (x + 0.5, y + 0.5), ha="center", va="center", fontsize=7, color=_ink(error))
    names = [name.replace("_", " ") for name in plot.errors]
    axes.set_yticks([y + 0.5 for y in range(len(names))], [_names([name])[name] for name in names])
    axes.set_xticks([x + 0.5 for x in range(len(values[0]))], plot.severities)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="severity")
    axes.set_title(f"{_names([plot.label])[plot.label]}: error, %", fontsize=8)


def _ink(error: float) -> str:
    """Readable on its cell."""
    return "white" if error > 85 else INK
