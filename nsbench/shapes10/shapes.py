"""The ten shapes as signed distance functions, vectorised over images.

Each takes x, y of shape (n, h, w), in units of the shape's own radius with y pointing up, and a variant of shape
(n, 1, 1) in [0, 1] that changes its proportions; it returns distances (n, h, w), negative inside. The formulas
follow Inigo Quilez, "2D distance functions". A distance gives an anti-aliased edge, a soft shadow, a bevel and
an outline at once, in float64, so two machines draw the same picture.
"""

from __future__ import annotations

import numpy as np

CLASS_NAMES = ("disk", "ring", "square", "triangle", "star", "cross", "heart", "crescent", "arrow", "hexagon")


def disk(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    away: np.ndarray = np.hypot(x, y) - (0.84 + 0.08 * variant)
    return away


def ring(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    width = 0.14 + 0.1 * variant
    away: np.ndarray = np.abs(np.hypot(x, y) - (0.96 - width)) - width
    return away


def square(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    corner = 0.02 + 0.1 * variant
    return _box(x, y, 0.77 - corner, 0.77 - corner) - corner


def triangle(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    corner = 0.02 + 0.08 * variant
    return _pointed(x, y + 0.12, 3, 1.1 - 1.6 * corner, 0.55 - 0.8 * corner) - corner


def star(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    return _pointed(x, y, 5, 1.0, 0.42 + 0.1 * variant) - 0.03


def cross(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    arm = 0.2 + 0.1 * variant
    away: np.ndarray = np.minimum(_box(x, y, arm, 0.88), _box(x, y, 0.88, arm)) - 0.03
    return away


def heart(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    size = 1.6 + 0.16 * variant
    x, y = np.abs(x) / size, y / size + 0.54
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2) / 4
    along = 0.5 * np.maximum(x + y, 0.0)
    side = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - along) ** 2 + (y - along) ** 2)) * np.sign(x - y)
    away: np.ndarray = np.where(x + y > 1, lobe, side) * size
    return away


def crescent(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    outer, inner = 0.94, 0.76
    shift = 0.46 + 0.16 * variant
    x, y = x + 0.2, np.abs(y)
    tip_x = (outer**2 - inner**2 + shift**2) / (2 * shift)
    tip_y = np.sqrt(outer**2 - tip_x**2)
    beyond_tip = x * tip_y - y * tip_x > shift * np.maximum(tip_y - y, 0.0)
    between_arcs = np.maximum(np.hypot(x, y) - outer, inner - np.hypot(x - shift, y))
    away: np.ndarray = np.where(beyond_tip, np.hypot(x - tip_x, y - tip_y), between_arcs)
    return away


def arrow(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    half = 0.16 + 0.08 * variant
    shaft = _box(x + 0.42, y, 0.55, half)
    ahead, aside = 0.98 - x, np.abs(y)  # the head: tip at x = 0.98, base at x = 0
    slanted = (aside * 0.98 - ahead * 0.72) / np.hypot(0.98, 0.72)
    away: np.ndarray = np.minimum(shaft, np.maximum(slanted, -x - 0.02)) - 0.02
    return away


def hexagon(x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    size = 0.9 + 0.06 * variant
    return _pointed(x, y, 6, size, size * np.cos(np.pi / 6)) - 0.01


def _box(x: np.ndarray, y: np.ndarray, half_width: np.ndarray | float, half_height: np.ndarray | float) -> np.ndarray:
    right, above = np.abs(x) - half_width, np.abs(y) - half_height
    outside = np.hypot(np.maximum(right, 0.0), np.maximum(above, 0.0))
    away: np.ndarray = outside + np.minimum(np.maximum(right, above), 0.0)
    return away


def _pointed(
    x: np.ndarray, y: np.ndarray, points: int, outer: np.ndarray | float, inner: np.ndarray | float
) -> np.ndarray:
    """A star polygon with one point up; `inner` = outer · cos(π / points) makes it a regular polygon."""
    wedge = np.pi / points
    radius = np.hypot(x, y)
    angle = np.abs((np.arctan2(x, y) + wedge) % (2 * wedge) - wedge)  # from the nearest point, in [0, wedge]
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    edge_x, edge_y = inner * np.cos(wedge) - outer, inner * np.sin(wedge)
    share = ((along - outer) * edge_x + across * edge_y) / (edge_x**2 + edge_y**2)
    share = np.clip(share, 0.0, 1.0)
    distance = np.hypot(along - outer - share * edge_x, across - share * edge_y)
    away: np.ndarray = distance * np.sign(edge_y * (along - outer) - edge_x * across)
    return away


SHAPES = (disk, ring, square, triangle, star, cross, heart, crescent, arrow, hexagon)


def distances(labels: np.ndarray, x: np.ndarray, y: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """Signed distances (n, h, w) of each image's own shape, in units of its radius."""
    result = np.empty_like(x)
    for label in np.unique(labels):
        members = labels == label
        result[members] = SHAPES[label](x[members], y[members], variant[members])
    return result
