"""Figures for papers: every figure of every table as PDF and SVG, one or two columns wide, with its numbers as CSV.

Text stays text, colours are the page's, error bars are the 95 % intervals. Files are byte for byte the same from the
same results. matplotlib is imported on first use.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from nsbench.errors import without_controls
from nsbench.laboratory.figures import STYLE
from nsbench.leaderboard import Leaderboard, Table
from nsbench.report.page.rows import Limits
from nsbench.report.page.table_figures import looks, table_figures
from nsbench.report.paper_plots import height_of, plot_on, width_of
from nsbench.report.plots import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

SIZES = {  # over the laboratory's style: readable at the size of a paper's notes, no margin cut off
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "savefig.bbox": None,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "text.parse_math": False,
}
KINDS: Mapping[str, dict[str, Any]] = {  # by ending: what would differ between two days or versions
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


def to_figures(board: Leaderboard) -> dict[str, str | bytes]:
    """By path, figures/<table>-<figure>.pdf, .svg and .csv."""
    found: dict[str, str | bytes] = {}
    for prefix, table, own in zip(table_names(board.tables), board.tables, looks(board), strict=True):
        for figure in table_figures(table, own, Limits()):
            stem = _free(f"figures/{_plain(f'{prefix}-{figure.name}')}", found)
            found |= {f"{stem}.{kind}": content for kind, content in _drawn(figure).items()}
            found[f"{stem}.csv"] = figure.plot.sheet.csv
    return found


def _drawn(figure: Figure) -> dict[str, bytes]:
    """In each of KINDS."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    with rc_context(STYLE | SIZES):
        sheet = Drawing(figsize=(width_of(figure.plot), height_of(figure.plot)))
        FigureCanvasAgg(sheet)  # no window, whatever display there is
        plot_on(sheet, figure.plot)
        return {kind: _saved(sheet, kind) for kind in KINDS}


def _saved(sheet: Sheet, kind: str) -> bytes:
    content = BytesIO()
    sheet.savefig(content, format=kind, metadata=KINDS[kind])
    return content.getvalue()


def table_names(tables: tuple[Table, ...]) -> list[str]:
    """Source and image set of each table, with a number where these are not enough."""
    names = [t.source if t.limit is None else f"{t.source}-limit-{t.limit}" for t in tables]
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found


def _plain(name: str) -> str:
    """As a file name: letters, digits, dash, point and underscore."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", without_controls(name)).strip("-.")[:100]


def _free(stem: str, taken: Mapping[str, object]) -> str:
    """Names of rows that differ in other letters alone stay apart."""
    number, found = 1, stem
    while f"{found}.csv" in taken:
        number += 1
        found = f"{stem}-{number}"
    return found
