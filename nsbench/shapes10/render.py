"""From parameters to pictures: ground, shadow, shape, light, things in front, grain. All in float64; the one
rounding to 8 bits is at the end (`quantise`). Pictures are (n, 3, 48, 48), sRGB in planes, and fields (n, 48, 48): NumPy
is slow where the last axis has three numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nsbench.shapes10.patterns import smooth_noise, textures
from nsbench.shapes10.scenes import Scene
from nsbench.shapes10.shapes import distances

SIZE = 48
_AXIS = np.arange(SIZE) - (SIZE - 1) / 2
WHITE = np.ones((3, 1, 1))
X, Y = np.broadcast_to(_AXIS, (SIZE, SIZE)), np.broadcast_to(_AXIS[:, None], (SIZE, SIZE))


@dataclass
class Layers:
    """What every way of drawing needs: where the shape is, and two smooth random fields."""

    distance: np.ndarray  # (n, h, w) signed distance to the shape's edge in pixels, negative inside
    slope: tuple[np.ndarray, np.ndarray]  # its derivatives down and across
    coarse: np.ndarray  # (n, h, w) smooth noise in [0, 1]
    fine: np.ndarray


def column(values: np.ndarray) -> np.ndarray:
    """One number per image, against fields."""
    return values[:, None, None]


def planes(colours: np.ndarray) -> np.ndarray:
    """Colours (n, 3) or (3,), against pictures."""
    return colours[..., None, None]


def distance(scene: Scene, dx: np.ndarray | float = 0.0, dy: np.ndarray | float = 0.0) -> np.ndarray:
    """Signed distance in pixels, of the scene's shape moved by (dx, dy) pixels; fields of (n, h, w) bend it."""
    x = X - column(scene.centre[:, 0]) - dx
    y = Y - column(scene.centre[:, 1]) - dy
    cos, sin = column(np.cos(scene.angle)), column(np.sin(scene.angle))
    radius, squeeze = column(scene.radius), column(np.sqrt(scene.squeeze))
    across, up = (cos * x + sin * y) / (radius * squeeze), (sin * x - cos * y) * squeeze / radius
    pixels: np.ndarray = distances(scene.labels, across, up, column(scene.variant)) * radius
    return pixels


def layers(scene: Scene, dx: np.ndarray | float = 0.0, dy: np.ndarray | float = 0.0) -> Layers:
    away = distance(scene, dx, dy)
    down, across = np.gradient(away, axis=(1, 2))
    coarse = smooth_noise(scene.lattice[:, 0, :6, :6], SIZE)
    return Layers(away, (down, across), coarse, smooth_noise(scene.lattice[:, 1], SIZE))


def coverage(away: np.ndarray) -> np.ndarray:
    """Share of each pixel inside an edge: one everywhere inside, zero outside, a ramp of one pixel between."""
    return np.clip(0.5 - away, 0.0, 1.0)


def over(below: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`colour`, a picture or planes, painted over `below` with alpha (n, h, w)."""
    painted: np.ndarray = (colour - below) * alpha[:, None]
    painted += below
    return painted


def paint_ground(scene: Scene, drawn: Layers) -> np.ndarray:
    """A gradient with a texture on it, a little darker towards the corners away from the light."""
    along = column(np.cos(scene.gradient_angle)) * X + column(np.sin(scene.gradient_angle)) * Y
    share = np.clip(0.5 + along / (1.3 * SIZE), 0.0, 1.0)
    texture = textures(
        scene.ground_pattern, X + column(7 * scene.centre[:, 1]), Y + column(5 * scene.centre[:, 0]),
        column(scene.ground_period), column(scene.ground_angle), drawn.coarse, drawn.fine,
    )  # fmt: skip
    first, second, third = (planes(scene.ground[:, end]) for end in range(3))
    picture = over(over(first, second, share), third, texture * column(scene.ground_strength))
    towards = (column(np.cos(scene.light_angle)) * X + column(np.sin(scene.light_angle)) * Y) / SIZE
    shade = 1.0 + 0.11 * towards - 0.16 * (X**2 + Y**2) / SIZE**2 + 0.05 * (drawn.coarse - 0.5)
    picture *= shade[:, None]
    return picture


def paint_fill(scene: Scene, drawn: Layers) -> np.ndarray:
    """The shape's own surface: gradient, texture that turns with the shape, lit edge, soft highlight."""
    x, y = X - column(scene.centre[:, 0]), Y - column(scene.centre[:, 1])
    light_x, light_y = column(np.cos(scene.light_angle)), column(np.sin(scene.light_angle))
    towards = (light_x * x + light_y * y) / column(scene.radius)
    texture = textures(
        scene.fill_pattern, x, y, column(scene.fill_period), column(scene.fill_angle + scene.angle),
        drawn.coarse, drawn.fine,
    )  # fmt: skip
    share = np.clip(0.5 - 0.5 * towards, 0.0, 1.0)
    first, second, third = (planes(scene.fill[:, end]) for end in range(3))
    surface = over(over(first, second, share), third, texture * column(scene.fill_strength))
    down, across = drawn.slope
    edge = np.clip(1.0 + drawn.distance / 3.2, 0.0, 1.0)
    lit = column(scene.bevel) * 1.6 * edge * (light_x * across + light_y * down)
    spot = np.exp(-((x - 0.36 * light_x * column(scene.radius)) ** 2 + (y - 0.36 * light_y * column(scene.radius)) ** 2)
                  / (0.5 * column(scene.radius) ** 2))  # fmt: skip
    surface += lit[:, None]
    return over(surface, WHITE, column(scene.gloss) * spot)


def paint(scene: Scene) -> np.ndarray:
    """Pictures (n, 3, 48, 48) in [0, 1], float64."""
    drawn = layers(scene)
    picture = paint_ground(scene, drawn)
    _where_any(scene, scene.clutter[:, :, 4], picture, _paint_clutter)
    away = column(scene.shadow_length)
    behind = distance(scene, -away * column(np.cos(scene.light_angle)), -away * column(np.sin(scene.light_angle)))
    outline = column(scene.outline)
    shadow = np.clip(0.5 - (behind - outline) / (2.0 + 1.2 * away), 0.0, 1.0)
    picture *= 1.0 - (column(scene.shadow) * shadow**2)[:, None]
    picture = over(picture, planes(scene.line), coverage(drawn.distance - outline) * (outline > 0))
    picture = over(picture, paint_fill(scene, drawn), coverage(drawn.distance))
    _where_any(scene, scene.occluders[:, :, 3], picture, _paint_occluders)
    return add_grain(scene, picture)


def _where_any(
    scene: Scene, there: np.ndarray, picture: np.ndarray, paint_on: Callable[[Scene, np.ndarray], np.ndarray]
) -> None:
    """Paint on the images that have any of these things, in place; `there` is (n, things)."""
    members = np.flatnonzero(there.any(axis=1))
    if len(members):
        picture[members] = paint_on(scene.of(members), picture[members])


def _paint_clutter(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """Small pebbles and sticks in the colours of ground and shape, lying about."""
    for k in range(scene.clutter.shape[1]):
        left, top, size, kind, there = (column(scene.clutter[:, k, field_]) for field_ in range(5))
        x, y = X - SIZE * (left - 0.5), Y - SIZE * (top - 0.5)
        turn = 2 * np.pi * size * 7
        along = np.cos(turn) * x + np.sin(turn) * y
        reach = np.clip(along, -4 - 3 * size, 4 + 3 * size) * (kind < 0.5)
        away = np.hypot(x - reach * np.cos(turn), y - reach * np.sin(turn)) - 1.1 - 2.0 * size
        picture *= (1.0 - 0.25 * there * np.clip(0.5 - (away - 0.6) / 2, 0.0, 1.0))[:, None]
        colour = scene.fill[:, k % 3] if k % 2 else scene.ground[:, 2]
        picture = over(picture, planes(colour), coverage(away) * there)
    return picture


def occluded(scene: Scene) -> np.ndarray:
    """(n, h, w): share of each pixel that bands in front of the shape cover."""
    free = np.ones((len(scene.labels), SIZE, SIZE))
    for k in range(scene.occluders.shape[1]):
        free *= 1.0 - coverage(_away_from_band(scene, k)) * column(scene.occluders[:, k, 3])
    covered: np.ndarray = 1.0 - free
    return covered


def _away_from_band(scene: Scene, k: int) -> np.ndarray:
    """Signed distance to the edge of band `k`."""
    turn, where, width, _ = (column(scene.occluders[:, k, field_]) for field_ in range(4))
    radius = column(scene.radius)
    x, y = X - column(scene.centre[:, 0]), Y - column(scene.centre[:, 1])
    away: np.ndarray = np.abs(np.cos(turn) * x + np.sin(turn) * y - where * radius) - width * radius
    return away


def _paint_occluders(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """Bands in front of the shape, in the colour of the ground, with a soft shadow under them."""
    for k in range(scene.occluders.shape[1]):
        there = column(scene.occluders[:, k, 3])
        away = _away_from_band(scene, k)
        picture *= (1.0 - 0.35 * there * np.clip(0.5 - (away - 0.8) / 2.5, 0.0, 1.0))[:, None]
        picture = over(picture, planes(scene.ground[:, 2 - k]), coverage(away) * there)
    return picture


def add_grain(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """The sensor's noise, the same in all three channels."""
    for row, seed in enumerate(scene.seeds):
        noise = np.random.Generator(np.random.Philox(int(seed))).random((2, SIZE, SIZE))
        picture[row] += scene.grain[row] * 2.45 * (noise[0] + noise[1] - 1.0)
    return picture


def quantise(picture: np.ndarray) -> np.ndarray:
    """(n, 3, h, w) in [0, 1] to (n, h, w, 3) of 8 bits, rounded to nearest."""
    levels = np.clip(picture, 0.0, 1.0)
    levels *= 255.0
    levels += 0.5  # positive: the cast below rounds down
    rounded: np.ndarray = np.ascontiguousarray(levels.astype(np.uint8).transpose(0, 2, 3, 1))
    return rounded
