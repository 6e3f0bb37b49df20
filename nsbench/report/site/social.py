"""The picture that is shown beside a link to the site: the first rows of a board, each with its interval.

It is byte for byte the same from the same results. matplotlib is imported on first use.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from nsbench.errors import without_controls
from nsbench.laboratory.figures import INK, LINE, PALETTE, SOFT, STYLE
from nsbench.report.numbers import figure
from nsbench.report.plots import Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (12.0, 6.3)  # inches of 100 pixels
PLAIN = {"savefig.bbox": None, "savefig.dpi": 100, "text.parse_math": False, "figure.constrained_layout.use": False}


def social_picture(title: str, subtitle: str, column: str, rows: Sequence[Place]) -> bytes:
    """A PNG of 1200 x 630 pixels."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE | PLAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in scripts that the font lacks
        sheet = Figure(figsize=SIZE)
        FigureCanvasAgg(sheet)  # no window, whatever display there is
        sheet.text(0.06, 0.87, _short(title, 44), fontsize=34, fontweight="bold", color=INK)
        sheet.text(0.06, 0.795, _short(subtitle, 84), fontsize=19, color=SOFT)
        if rows:
            _draw(sheet.add_axes((0.33, 0.15, 0.53, 0.55)), rows)
            sheet.text(0.86, 0.055, _short(column, 60), fontsize=15, color=SOFT, ha="right")
        sheet.text(0.06, 0.055, "nsbench", fontsize=17, fontweight="bold", color=PALETTE[0])
        content = BytesIO()
        sheet.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _draw(axes: Axes, rows: Sequence[Place]) -> None:
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    pad = max(0.05 * (high - low), 0.5)
    axes.set(xlim=(low - pad, high + pad), ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.grid(True, axis="x", color=LINE, linewidth=1.2)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", labelsize=14, length=0)
    for place, row in enumerate(rows):
        colour = PALETTE[row.look.colour]
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=3.5, solid_capstyle="round")
        face = "white" if row.look.hollow else colour
        axes.plot([row.value], [place], "o", color=colour, markerfacecolor=face, markersize=13, markeredgewidth=2.5)
        axes.text(-0.03, place, _short(row.label, 26), transform=axes.get_yaxis_transform(), fontsize=18,
                  ha="right", va="center", color=INK)  # fmt: skip
        axes.text(1.03, place, figure(row.value), transform=axes.get_yaxis_transform(), fontsize=20,
                  fontweight="bold", va="center", color=INK)  # fmt: skip


def _short(text: str, most: int) -> str:
    plain = " ".join(without_controls(text).split())
    return plain if len(plain) <= most else f"{plain[: most - 1].rstrip()}…"
