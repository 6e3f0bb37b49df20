"""A figure as SVG, whatever it shows."""

from __future__ import annotations

from markupsafe import Markup

from nsbench.report.page.charts import forest, lines, strips
from nsbench.report.page.diagrams import cloud, diagram
from nsbench.report.plots import Cloud, Figure, HeatMap, Lines, Places, Ranks, Strips


def draw(figure: Figure, narrow: bool = False) -> Markup:
    """`narrow`: for charts that stand two or three in a row. Maps of errors are tables on the page."""
    match figure.plot:
        case Places() as plot:
            return forest(plot)
        case Lines() as plot:
            return lines(plot, narrow=narrow)
        case Strips() as plot:
            return strips(plot)
        case Cloud() as plot:
            return cloud(plot)
        case Ranks() as plot:
            return diagram(plot)
        case HeatMap():
            raise TypeError("a map of errors is a table on the page")
