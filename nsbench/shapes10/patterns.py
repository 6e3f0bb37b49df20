"""Textures for grounds and fills: eleven patterns, vectorised over images, each a field in [0, 1].

A pattern gets coordinates x, y (n, h, w) in pixels, already turned and shifted, its period in pixels (n, 1, 1), and
two smooth random fields (n, h, w). The edges are softened over about one pixel, as a camera would.
"""

from __future__ import annotations

import numpy as np

TURN = 2 * np.pi


def _soft(wave: np.ndarray, period: np.ndarray) -> np.ndarray:
    """A sine made square, with edges about one pixel wide."""
    field: np.ndarray = np.clip(0.5 + wave * period / 6.0, 0.0, 1.0)
    return field


def dots(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    row = np.floor(y / (period * 0.866))
    across = (x / period + 0.5 * (row % 2)) % 1.0 - 0.5
    along = (y / (period * 0.866)) % 1.0 - 0.5
    field: np.ndarray = np.clip(0.5 + 0.3 * period - period * np.hypot(across, 0.866 * along), 0.0, 1.0)
    return field


def rings(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return _soft(np.sin(TURN * np.hypot(x, y) / period), period)


def checks(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return _soft(np.sin(np.pi * x / period) * np.sin(np.pi * y / period) * 1.6, period)


def stripes(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return _soft(np.sin(TURN * x / period), period)


def speckle(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    cell_x, cell_y = np.floor(x / period), np.floor(y / period)
    first = np.abs(np.sin(cell_x * 12.9898 + cell_y * 78.233) * 437.585) % 1.0  # three numbers per cell
    second, third = (first * 17.0) % 1.0, (first * 291.0) % 1.0
    size = (0.12 + 0.18 * third) * period
    away = np.hypot(x - (cell_x + 0.35 + 0.3 * first) * period, y - (cell_y + 0.35 + 0.3 * second) * period)
    field: np.ndarray = np.clip(0.5 + size - away, 0.0, 1.0) * (0.5 + 0.5 * second)
    return field


def plaid(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return 0.5 * _soft(np.sin(TURN * x / period), period) + 0.5 * _soft(np.sin(TURN * y / period), period)


def clouds(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return np.clip(1.5 * (0.7 * coarse + 0.3 * fine) - 0.25, 0.0, 1.0)


def waves(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return _soft(np.sin(TURN * (x / period + 0.28 * np.sin(TURN * y / (2.2 * period)))), period)


def chevron(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    zigzag = np.abs((y / (1.6 * period)) % 1.0 - 0.5)
    return _soft(np.sin(TURN * (x / period + 1.3 * zigzag)), period)


def honeycomb(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    height = np.sqrt(3.0)
    u, v = x / period, y / period
    first_u, first_v = u % 1.0 - 0.5, v % height - height / 2
    other_u, other_v = (u - 0.5) % 1.0 - 0.5, (v - height / 2) % height - height / 2
    nearer = first_u**2 + first_v**2 < other_u**2 + other_v**2
    u, v = np.abs(np.where(nearer, first_u, other_u)), np.abs(np.where(nearer, first_v, other_v))
    border = (0.5 - np.maximum(u, 0.5 * u + 0.866 * v)) * period
    field: np.ndarray = np.clip(1.2 - border, 0.0, 1.0)
    return field


def plain(x: np.ndarray, y: np.ndarray, period: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return np.zeros_like(x)


# In the order of the classes: pattern k is the favourite fill of class k (see scenes.Style.material); the last is
# nobody's.
PATTERNS = (dots, rings, checks, stripes, speckle, plaid, clouds, waves, chevron, honeycomb, plain)
PLAIN = len(PATTERNS) - 1


def textures(
    kinds: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    period: np.ndarray,
    angle: np.ndarray,
    coarse: np.ndarray,
    fine: np.ndarray,
) -> np.ndarray:
    """The pattern `kinds[i]` on image i: (n, h, w) in [0, 1]; angle (n, 1, 1) in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    result = np.empty_like(x)
    for kind in np.unique(kinds):
        m = kinds == kind
        turned_x = cos[m] * x[m] + sin[m] * y[m]
        turned_y = cos[m] * y[m] - sin[m] * x[m]
        result[m] = PATTERNS[kind](turned_x, turned_y, period[m], coarse[m], fine[m])
    return result


def smooth_noise(lattice: np.ndarray, size: int) -> np.ndarray:
    """Random lattices (n, k, k) in [0, 1], enlarged to (n, size, size) with a smooth (cosine) blend."""
    k = lattice.shape[1]
    position = np.linspace(0, k - 1.001, size)
    left = np.floor(position).astype(int)
    share = 0.5 - 0.5 * np.cos(np.pi * (position - left))
    blend = np.zeros((size, k))
    blend[np.arange(size), left] = 1 - share
    blend[np.arange(size), left + 1] = share
    enlarged: np.ndarray = blend @ lattice @ blend.T
    return enlarged
