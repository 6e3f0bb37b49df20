"""A figure's SVG as the page shows it: ground, ink and lines are dark where the page is, and it says how wide it is."""

from __future__ import annotations

import re

from nsbench.laboratory.figures import EDGE, FAINT, INK, LINE, PALETTE, SOFT

GROUND = "#ffffff"  # as matplotlib writes white; what lies on coloured cells is drawn in another one
DARK_GROUND = "#1a1c20"
DARK = {  # the page's colours, see page.css
    INK: "#ecedef",
    SOFT: "#a3a9b4",
    LINE: "#2d3037",
    EDGE: "#4c515b",
    FAINT: "#747b88",
    **dict(
        zip(
            PALETTE,
            ("#56a8dc", "#ee8234", "#2cc197", "#dd93bd", "#e69f00", "#7cc6f2", "#f0e442", "#c5c9d1"),
            strict=True,
        )
    ),
}
PIXELS = {"pt": 4 / 3, "px": 1.0}


def at_night(svg: str) -> str:
    """The same drawing with a style of its own for dark screens; text is a path with a fill, as all else."""
    rules = [f"svg{{fill:{DARK[INK]}}}"]  # of text for which matplotlib states no colour, which is black
    rules += [f'path[style*="fill: {GROUND}"]{{fill:{DARK_GROUND}!important}}']
    for light, dark in DARK.items():
        rules += [f'[style*="{what}: {light}"]{{{what}:{dark}!important}}' for what in ("fill", "stroke")]
    style = f"<style>@media screen and (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda found: found[1] + style, svg, count=1)


def natural_width(svg: str) -> int | None:
    """In CSS pixels, as the drawing states it."""
    found = re.search(r'<svg\b[^>]*\swidth="([0-9.]+)(pt|px)"', svg)
    return round(float(found[1]) * PIXELS[found[2]]) if found else None
