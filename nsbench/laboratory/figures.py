"""One style for matplotlib figures: Okabe-Ito colours with a marker and a dash each, so that lines stay apart in grey.

Figures are written as SVG and PNG, byte for byte the same from the same data. matplotlib is imported on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.errors import ResultError
from nsbench.files import write_atomically, writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

# Okabe and Ito's set in the order of the leaderboard page: blue, vermilion, green, purple, orange, sky, yellow, black
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7f00", "#3a3d44")
DASHES = ((), (5, 2), (1.5, 1.5), (5, 1.5, 1.5, 1.5), (8, 2), (3, 1), (1, 1), ())
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SEQUENTIAL = "cividis"  # of heat maps: rises in lightness, so it reads in grey and for the colour-blind
CELL = 1.75  # inches of a thumbnail
OTHER_OUT = "choose another folder with --out"  # what to do where a sheet or a figure cannot be written
INK, SOFT, LINE = "#191b1f", "#5a606b", "#e4e5e8"
EDGE, FAINT = "#b9bdc5", "#8d939d"  # of axes; what stands behind the figures
ON_LIGHT, ON_DARK = "#101114", "#fefefe"  # on coloured cells, which stay as they are where the page is dark
STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": EDGE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "savefig.facecolor": "white",
    "svg.hashsalt": "nsbench",
    "figure.constrained_layout.use": True,
}


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 4.6, height: float = 3.1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns panels, `width` x `height` inches each, and its axes (rows, columns)."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(columns * width, rows * height))
        FigureCanvasAgg(figure)  # no window, whatever display there is
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def series(
    axes: Axes,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    index: int,
    label: str = "",
    **options: Any,
) -> None:
    """One line in colour, dash and marker `index` of the palette."""
    index %= len(PALETTE)
    marker = MARKERS[index] if len(x) <= 30 else None
    (line,) = axes.plot(x, y, color=PALETTE[index], marker=marker, label=label or None, **options)
    if DASHES[index]:
        line.set_dashes(DASHES[index])


def end_label(axes: Axes, x: float, y: float, label: str, index: int) -> None:
    """A name at the end of a line, in the line's colour."""
    axes.annotate(
        label,
        (x, y),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=PALETTE[index % len(PALETTE)],
        annotation_clip=False,
    )


def reference_line(axes: Axes, value: float, label: str) -> None:
    """A horizontal dashed line with its name above its left end."""
    axes.axhline(value, color=INK, linewidth=1, dashes=(4, 3))
    axes.annotate(
        label,
        (0.01, value),
        xycoords=("axes fraction", "data"),
        xytext=(2, 3),
        textcoords="offset points",
        fontsize=8,
        color=INK,
    )


def legend(where: Axes | Figure, **options: Any) -> None:
    """Names of the lines, long enough to show their dashes."""
    where.legend(**({"fontsize": 8, "handlelength": 3.5, "frameon": False} | options))


def from_zero(axes: Axes) -> None:
    """The y axis from zero to a little above what is drawn."""
    axes.set_ylim(0, 1.08 * max(axes.dataLim.ymax, 1e-12))


def titles(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title and axis names, units included."""
    axes.set_title(title, fontsize=10, fontweight="bold", loc="left")
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_ylabel(y, fontsize=9, color=SOFT)


def picture(axes: Axes, image_CHW: np.ndarray, caption: str = "") -> None:
    """An image (3, H, W) in [0, 1] without axes, values outside clipped; small ones keep their pixels. The caption
    stands below it."""
    axes.imshow(np.clip(np.moveaxis(np.asarray(image_CHW, dtype=float), 0, -1), 0, 1), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlabel(caption, fontsize=8, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def picture_grid(heads: Sequence[str], rows: Sequence[Sequence[tuple[np.ndarray, str]]]) -> Figure:
    """Thumbnails (3, H, W) with a caption below each, on a strict grid: one head a column."""
    figure, axes = new_figure(len(rows), len(heads), width=CELL, height=CELL + 0.34)
    for index, row in enumerate(rows):
        for column, (image, caption) in enumerate(row):
            picture(axes[index, column], image, caption)
            axes[index, column].xaxis.label.set_size(6.5)
    for column, head in enumerate(heads):
        axes[0, column].set_title(head, fontsize=8.5, fontweight="bold", loc="left")
    return figure


def percent(share: float, digits: int = 0) -> str:
    """ "91 %"; "91.2 %" with one digit."""
    return f"{100 * share:.{digits}f} %"


def plain(image_3HW: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] for drawing; what lies outside is clipped."""
    pixels: np.ndarray = image_3HW.detach().double().cpu().clamp(0, 1).numpy()
    return pixels


def heat_map(
    figure: Figure,
    axes: Axes,
    values_YX: np.ndarray,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    unit: str,
    **options: Any,
) -> None:
    """Cells of a grid with a labelled colour bar; x and y are the centres of columns and rows."""
    mesh = axes.pcolormesh(x, y, values_YX, cmap=SEQUENTIAL, shading="nearest", rasterized=True, **options)
    axes.grid(False)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.9)
    bar.set_label(unit, fontsize=9, color=SOFT)
    bar.outline.set_visible(False)


def save_figure(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write <stem>.svg and <stem>.png; returns both. Raises ResultError where the folder cannot be written."""
    from matplotlib import rc_context

    written = []
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        content = BytesIO()
        with rc_context(STYLE):
            figure.savefig(content, format=kind, metadata=metadata)
        path = folder / f"{stem}.{kind}"
        with writing(path, ResultError, OTHER_OUT):
            write_atomically(path, content.getvalue())
        written.append(path)
    return written
