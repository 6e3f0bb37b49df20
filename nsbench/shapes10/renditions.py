"""Other hands: nine renditions (split r), line drawings (sketch), and paintings whose texture contradicts the shape.

Renditions follow ImageNet-R's kinds (Hendrycks et al. 2021, arXiv 2006.16241), line drawings ImageNet-Sketch (Wang et
al. 2019), paintings Stylized-ImageNet (Geirhos et al. 2019). Everything is drawn from the same distance fields as
the natural pictures, so each of them is recognised by its outline. Pictures are (n, 3, 48, 48) float64 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nsbench.shapes10.patterns import smooth_noise, textures
from nsbench.shapes10.render import SIZE, WHITE, X, Y, column, coverage, distance, layers, over, planes
from nsbench.shapes10.scenes import Scene

PAPER = np.array([0.975, 0.965, 0.94])
INK = planes(np.array([0.07, 0.07, 0.09]))


def paint_rendition(scene: Scene, indices: np.ndarray) -> np.ndarray:
    """The nine hands in turn, so that every class meets every one of them."""
    kinds = (indices // 6) % len(HANDS)
    picture = np.empty((len(indices), 3, SIZE, SIZE))
    for kind in np.unique(kinds):
        members = kinds == kind
        picture[members] = HANDS[kind](scene.of(members))
    return picture


def outline(scene: Scene) -> np.ndarray:
    """One coloured line on tinted paper."""
    bend_x, bend_y = _wobble(scene, 1.6)
    line = coverage(np.abs(distance(scene, bend_x, bend_y)) - 0.9)
    return over(_sheet(scene, 0.12), planes(0.75 * scene.fill[:, 1]), line)


def pixel_art(scene: Scene) -> np.ndarray:
    """16 x 16 large pixels, a few flat colours, a dark rim."""
    away = distance(scene)[:, 1::3, 1::3]
    checked = (X + Y)[1::3, 1::3] // 3 % 2
    picture = planes(scene.ground[:, 0]) * (1 - 0.06 * checked)
    picture = np.where((away < 1.2)[:, None], planes(0.35 * scene.fill[:, 1]), picture)
    bright = (Y + X)[1::3, 1::3] < -4
    surface = np.where(bright, planes(scene.fill[:, 0] * 0.75 + 0.25), planes(scene.fill[:, 1]))
    return np.where((away < -1.4)[:, None], surface, picture).repeat(3, axis=2).repeat(3, axis=3)


def cartoon(scene: Scene) -> np.ndarray:
    """Rays, a thick black line, two tones and a glint."""
    away, radius = distance(scene), column(scene.radius)
    x, y = X - column(scene.centre[:, 0]), Y - column(scene.centre[:, 1])
    rays = np.clip(0.5 + 3.0 * np.sin(12 * np.arctan2(y, x) + column(scene.gradient_angle)), 0.0, 1.0)
    vivid = np.clip(scene.ground[:, 0] * 0.8 + 0.25, 0.0, 1.0)
    picture = over(planes(vivid), planes(0.5 + 0.5 * vivid), 0.7 * rays)
    picture = over(picture, INK, coverage(away - 1.9))
    picture = over(picture, planes(np.clip(scene.fill[:, 0] * 1.1, 0, 1)), coverage(away))
    lower = distance(scene, -0.22 * radius, -0.26 * radius)
    picture = over(picture, planes(0.68 * scene.fill[:, 1]), coverage(away) * coverage(-lower))
    glint = np.hypot((x + 0.32 * radius) / 1.6, y + 0.4 * radius) - 0.11 * radius
    return over(picture, WHITE, 0.85 * coverage(away + 1.5) * coverage(glint))


def embossed(scene: Scene) -> np.ndarray:
    """A relief pressed into grey or tinted paper."""
    drawn = layers(scene)
    height = np.clip(0.5 - drawn.distance / 3.5, 0.0, 1.0) + 0.06 * drawn.fine
    down, across = np.gradient(height, axis=(1, 2))
    lit = across * column(np.cos(scene.light_angle)) + down * column(np.sin(scene.light_angle))
    tint = 0.62 + 0.18 * (scene.fill[:, 0] - scene.fill[:, 0].mean(axis=1, keepdims=True))
    relief: np.ndarray = planes(tint) * (1.0 + 0.1 * (drawn.coarse[:, None] - 0.5)) - 1.15 * lit[:, None]
    return relief


def neon(scene: Scene) -> np.ndarray:
    """A glowing tube in the dark."""
    away = np.abs(distance(scene) + 1.0)
    glow = planes(np.clip(scene.fill[:, 0] * 1.5 - 0.35, 0.02, 1.0))
    wall = 0.06 + planes(0.1 * scene.ground[:, 1]) * (0.7 + 0.3 * np.sin(Y * np.pi / 4))
    light = wall + glow * (0.85 * np.exp(-away / 1.3) + 0.35 * np.exp(-away / 6.0))[:, None]
    return over(light, WHITE, 0.9 * coverage(away - 0.5))


def stained_glass(scene: Scene) -> np.ndarray:
    """Panes of uneven colour between leads; the shape's edge is one of them."""
    sites = (np.arange(7) - 3) * 8.0
    site_x = (sites[None, None, :] + 7 * (scene.lattice[:, 0, :7, :7] - 0.5)).reshape(-1, 49, 1, 1)
    site_y = (sites[None, :, None] + 7 * (scene.lattice[:, 1, :7, :7] - 0.5)).reshape(-1, 49, 1, 1)
    reach = np.hypot(X - site_x, Y - site_y)
    pane = reach.argmin(axis=1)
    nearest = np.partition(reach, 1, axis=1)
    away = distance(scene)
    tone = np.take_along_axis(scene.lattice[:, 1].reshape(len(away), -1), pane.reshape(len(away), -1), axis=1)
    tone = 0.78 + 0.5 * tone.reshape(pane.shape)[:, None]
    picture = over(planes(scene.ground[:, 0]), planes(scene.fill[:, 0]), coverage(away))
    picture = np.clip(picture * tone, 0, 1)
    picture = over(picture, INK, 0.75 * coverage((nearest[:, 1] - nearest[:, 0]) / 2 - 0.5))
    return over(picture, INK, coverage(np.abs(away) - 1.0))


def halftone(scene: Scene) -> np.ndarray:
    """Two screens of printer's dots: sparse ones outside, dense ones inside."""
    away = distance(scene)
    dots = np.hypot((X + Y) % 6 - 3, (X - Y) % 6 - 3)
    inside = coverage(away)
    towards = (X * np.cos(-2.2) + Y * np.sin(-2.2)) / SIZE
    darkness = 0.9 + 0.5 * (1 - inside) * -1 - 0.5 * towards * inside
    spots = np.clip(0.5 + 3.4 * darkness - dots, 0.0, 1.0)
    paper = 0.35 * scene.ground[:, 0] + 0.65 * PAPER
    picture = over(planes(paper), planes(0.85 * scene.fill[:, 1]), 0.3 * inside)
    return over(picture, planes(0.8 * scene.fill[:, 1]), spots * (0.35 + 0.65 * inside))


def watercolour(scene: Scene) -> np.ndarray:
    """Wet edges, uneven pigment, a wash behind."""
    bend_x, bend_y = _wobble(scene, 2.6)
    away, drawn = distance(scene, bend_x, bend_y), layers(scene)
    wash = np.clip(1.3 * drawn.coarse - 0.2, 0, 1) * 0.5
    picture = over(_sheet(scene, 0.0), planes(0.5 + 0.5 * scene.ground[:, 0]), wash)
    pigment = np.clip(0.5 - away / 1.8, 0, 1) * (0.45 + 0.4 * drawn.coarse + 0.2 * drawn.fine)
    rim = 0.35 * np.exp(-((away + 1.0) ** 2) / 1.5)
    return over(picture, planes(scene.fill[:, 1] * 0.9), np.clip(pigment + rim, 0, 1))


def chalk(scene: Scene) -> np.ndarray:
    """Chalk on a blackboard: a rough line and loose hatching."""
    bend_x, bend_y = _wobble(scene, 1.8)
    away, drawn = distance(scene, bend_x, bend_y), layers(scene)
    board = planes(np.array([0.13, 0.19, 0.17])) + 0.07 * (drawn.coarse[:, None] - 0.3)
    rough = 0.45 + 0.55 * _pixel_noise(scene)
    hatch = np.clip(0.4 + np.sin((X + Y) * 1.1 + 3 * drawn.coarse), 0, 1) * coverage(away + 1.5) * 0.45
    colour = planes(0.45 + 0.55 * scene.fill[:, 0])
    return over(over(board, colour, hatch * rough), colour, coverage(np.abs(away) - 0.8) * rough)


HANDS: tuple[Callable[[Scene], np.ndarray], ...] = (
    outline, pixel_art, cartoon, embossed, neon, stained_glass, halftone, watercolour, chalk,
)  # fmt: skip


def paint_sketch(scene: Scene, indices: np.ndarray) -> np.ndarray:
    """Pencil on white paper: two uneven strokes round the shape, some hatching, a scribbled shadow."""
    first, second = _wobble(scene, 1.5), _wobble(scene, 2.2, other=True)
    away = distance(scene, *first)
    pressure = 0.6 + 0.5 * smooth_noise(scene.lattice[:, 0], SIZE)
    width = 0.35 + 0.5 * column(scene.variant)
    line = coverage(np.abs(away) - width) * pressure
    again = 0.55 * coverage(np.abs(distance(scene, *second)) - 0.3) * pressure
    slant, every = column(scene.fill_angle), 0.65 * column(scene.fill_period)
    bent = X * np.cos(slant) + Y * np.sin(slant) + 2 * second[0]
    strokes = np.clip(1.6 * np.sin(2 * np.pi * bent / every) - 0.5, 0, 1)
    shaded = column(0.25 + scene.shadow) * strokes * pressure * coverage(away + 1.2)
    x, y = X - column(scene.centre[:, 0]), Y - column(scene.centre[:, 1]) - 0.98 * column(scene.radius)
    below = np.exp(-((1.5 * (x - 0.3 * y) / column(scene.radius)) ** 4) - (y / 2.2) ** 2) * (away > 1.0)
    zigzag = np.clip(1.5 * np.sin(X * 1.5 + 0.7 * Y + column(scene.gradient_angle) + 2 * first[0]), 0, 1)
    scribble = 0.6 * below * zigzag * column(scene.shadow > 0.38)
    darkness = 1 - (1 - np.clip(line, 0, 1)) * (1 - np.clip(again, 0, 1)) * (1 - shaded) * (1 - scribble)
    return np.repeat((1.0 - 0.93 * darkness)[:, None], 3, axis=1)


def paint_stylized(scene: Scene, indices: np.ndarray) -> np.ndarray:
    """A painting all over in the favourite pattern of another class, its outline bent, under visible brush strokes."""
    bend_x, bend_y = _wobble(scene, 3.0)
    angle = scene.ground_angle
    texture = textures(
        scene.fill_pattern, X + 2 * bend_x, Y + 2 * bend_y, column(scene.ground_period), column(angle),
        *(smooth_noise(scene.lattice[:, k, :size, :size], SIZE) for k, size in ((0, 6), (1, 13))),
    )  # fmt: skip
    shape = coverage(distance(scene, bend_x, bend_y))
    ground = over(planes(scene.ground[:, 0]), planes(0.5 * (scene.ground[:, 2] + scene.line)), 0.85 * texture)
    body = over(planes(scene.fill[:, 0]), planes(0.6 * scene.fill[:, 2] + 0.4 * scene.ground[:, 1]), 0.85 * texture)
    picture = over(ground, body, shape)
    flow = smooth_noise(scene.lattice[:, 1, :6, :6], SIZE) * 5 + column(angle)
    strokes = np.sin(1.9 * (X * np.cos(flow) + Y * np.sin(flow))) * (0.5 + _pixel_noise(scene))
    brushed: np.ndarray = picture * (1.0 + 0.09 * strokes[:, None])
    return brushed


def _sheet(scene: Scene, tint: float) -> np.ndarray:
    """Paper, tinted with the ground's colour."""
    paper = (1 - tint) * PAPER + tint * scene.ground[:, 0]
    return planes(paper) * (1 + 0.03 * (_pixel_noise(scene)[:, None] - 0.5))


def _wobble(scene: Scene, pixels: float, other: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Two smooth fields (n, h, w) in [-pixels / 2, pixels / 2] that bend a line as a hand does."""
    corner = slice(6, 13) if other else slice(0, 7)
    return (pixels * (smooth_noise(scene.lattice[:, 0, corner, :7], SIZE) - 0.5),
            pixels * (smooth_noise(scene.lattice[:, 1, corner, 6:], SIZE) - 0.5))  # fmt: skip


def _pixel_noise(scene: Scene) -> np.ndarray:
    """Uniform noise (n, h, w) in [0, 1]."""
    generators = (np.random.Generator(np.random.Philox(int(seed))) for seed in scene.seeds)
    return np.stack([random.random((SIZE, SIZE)) for random in generators])
