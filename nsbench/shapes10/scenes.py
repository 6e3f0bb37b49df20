"""What is in a picture: each image's parameters, drawn from (split, index) alone.

A `Style` is the distribution of a split; `draw` makes the parameters of many images at once, every one of them from
its own generator, so an image does not depend on which others are rendered with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nsbench.randomness import generator
from nsbench.shapes10.palette import oklch
from nsbench.shapes10.patterns import PLAIN
from nsbench.shapes10.shapes import CLASS_NAMES

DRAWS = 72  # uniform numbers per image; more than are used, so that a later field does not move the earlier ones
OCCLUDERS, CLUTTER = 2, 9  # at most so many per image


@dataclass(frozen=True)
class Style:
    """The distribution of one split. Lengths in pixels of the 48 x 48 picture, angles in degrees."""

    rotation: float = 30.0  # to either side; arrows and crescents turn all the way round
    radius: tuple[float, float] = (10.5, 19.0)
    shift: float = 5.0  # of the centre, beside what keeps the shape inside
    contrast: tuple[float, float] = (0.55, 1.0)  # of shape to ground in lightness; 1: as the palette wants
    texture: tuple[float, float] = (0.15, 0.75)  # strength of the ground's texture
    fill: tuple[float, float] = (0.2, 0.9)  # strength of the shape's texture
    material: float = 0.4  # how often a shape wears the favourite pattern of its class
    conflict: bool = False  # the favourite pattern of another class, always
    outlined: float = 0.3  # how often a line runs round the shape
    occluded: float = 0.0  # how often something lies before the shape
    cluttered: float = 0.0  # how often small things lie about
    camouflaged: float = 0.0  # how often the shape wears the ground's own pattern


@dataclass
class Scene:
    """Parameters of n images; arrays of length n, colours (n, 3) in sRGB [0, 1]."""

    labels: np.ndarray
    centre: np.ndarray  # (n, 2) pixels from the middle, y down
    radius: np.ndarray
    angle: np.ndarray  # radians
    squeeze: np.ndarray  # width over height, near 1
    variant: np.ndarray  # proportions of the shape, [0, 1]
    ground: np.ndarray  # (n, 3, 3): two ends of a gradient, and the texture's colour
    fill: np.ndarray  # (n, 3, 3): likewise
    line: np.ndarray  # colour of the outline
    ground_pattern: np.ndarray
    ground_strength: np.ndarray
    ground_period: np.ndarray
    ground_angle: np.ndarray
    fill_pattern: np.ndarray
    fill_strength: np.ndarray
    fill_period: np.ndarray
    fill_angle: np.ndarray
    gradient_angle: np.ndarray
    light_angle: np.ndarray
    shadow: np.ndarray  # strength, [0, 1]
    shadow_length: np.ndarray
    bevel: np.ndarray  # strength of the lit edge
    gloss: np.ndarray  # strength of the soft highlight
    outline: np.ndarray  # width; 0: none
    grain: np.ndarray  # standard deviation of the sensor's noise
    occluders: np.ndarray  # (n, OCCLUDERS, 4): side angle, distance, width, is it there
    clutter: np.ndarray  # (n, CLUTTER, 5): x, y, size, kind, is it there
    lattice: np.ndarray  # (n, 2, 13, 13) for smooth noise
    seeds: np.ndarray  # (n,) for the noise of single pixels

    def of(self, members: np.ndarray) -> Scene:
        """The parameters of some of the images, by (n,) booleans or by indices."""
        return Scene(**{name: values[members] for name, values in vars(self).items()})


def draw(split: str, indices: np.ndarray, labels: np.ndarray, style: Style) -> Scene:
    """The parameters of images `indices` of a split."""
    uniform, lattice, seeds = _random_numbers(split, indices)
    columns = iter(uniform.T)

    def between(low: float, high: float) -> np.ndarray:
        drawn: np.ndarray = low + (high - low) * next(columns)
        return drawn

    def chance(probability: float) -> np.ndarray:
        happens: np.ndarray = next(columns) < probability
        return happens

    n = len(indices)
    radius = between(*style.radius)
    turn = between(-1, 1)
    free = np.isin(labels, [CLASS_NAMES.index("arrow"), CLASS_NAMES.index("crescent")])
    angle = np.where(free, np.pi * turn, np.radians(style.rotation) * turn)
    room = np.maximum(23.0 - radius, 0.0)
    reach = np.minimum(room + 0.12 * radius, style.shift + 0.35 * room)
    centre = np.stack([reach * between(-1, 1), reach * between(-1, 1)], axis=1)
    ground, fill, line = _colours(between, chance, style, n)
    patterns = _patterns(between, chance, style, labels)
    outline = np.where(chance(style.outlined), between(1.0, 2.0), 0.0)
    return Scene(
        labels=labels, centre=centre, radius=radius, angle=angle, squeeze=between(0.9, 1.1), variant=between(0, 1),
        ground=ground, fill=fill, line=line, **patterns,
        gradient_angle=between(0, 2 * np.pi), light_angle=np.radians(between(-160, -110)),
        shadow=between(0.15, 0.55), shadow_length=between(0.06, 0.2) * radius, bevel=between(0, 0.16) * chance(0.6),
        gloss=between(0.03, 0.2), outline=outline, grain=between(0.0, 0.016),
        occluders=_occluders(between, chance, style), clutter=_clutter(lattice, chance(style.cluttered)),
        lattice=lattice[:, :2], seeds=seeds,
    )  # fmt: skip


def _random_numbers(split: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    uniform = np.empty((len(indices), DRAWS))
    lattice = np.empty((len(indices), 3, 13, 13))
    seeds = np.empty(len(indices), dtype=np.int64)
    for row, index in enumerate(indices):
        random = generator(0, "shapes10", split, int(index))
        uniform[row] = random.random(DRAWS)
        lattice[row] = random.random((3, 13, 13))
        seeds[row] = random.integers(2**62)
    return uniform, lattice, seeds


def _colours(
    between: Callable[[float, float], np.ndarray], chance: Callable[[float], np.ndarray], style: Style, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A palette per image: a quiet ground that is light, middle or dark, and a livelier shape that stands out."""
    kind = between(0, 1)  # which kind of ground
    spread = between(0, 1)
    light, dark = kind < 0.45, kind > 0.75
    ground_light = np.where(light, 0.82 + 0.13 * spread, np.where(dark, 0.22 + 0.14 * spread, 0.5 + 0.2 * spread))
    ground_chroma = np.where(light, 0.06, np.where(dark, 0.07, 0.09)) * between(0.35, 1.15)
    spread, up = between(0, 1), chance(0.6)
    wanted = np.where(
        light, 0.45 + 0.22 * spread, np.where(dark, 0.66 + 0.22 * spread, np.where(up, 0.88, 0.24) + 0.07 * spread)
    )
    fill_light = ground_light + between(*style.contrast) * (wanted - ground_light)
    fill_chroma = between(0.1, 0.19)
    hue = between(0, 1)
    scheme = between(0, 1)  # complementary, triadic or neighbouring hues
    offset = np.where(scheme < 0.45, 0.5, np.where(scheme < 0.8, 1 / 3, 0.13)) * np.where(chance(0.5), 1, -1)
    fill_hue = hue + offset + between(-0.04, 0.04)
    drift = between(-0.07, 0.07)
    step = between(0.05, 0.12)
    ground_step = np.where(light, -1, 1) * step
    fill_step = np.where(fill_light > ground_light, -1, 1) * 0.13
    ground = np.stack([
        oklch(ground_light + 0.4 * step, ground_chroma, hue - drift),
        oklch(ground_light - 0.4 * step, ground_chroma, hue + drift),
        oklch(ground_light + 1.3 * ground_step, ground_chroma * 1.3, hue + 2 * drift),
    ], axis=1)  # fmt: skip
    fill = np.stack([
        oklch(fill_light + 0.05, fill_chroma, fill_hue),
        oklch(fill_light - 0.05, fill_chroma, fill_hue + 0.5 * drift),
        oklch(fill_light + np.where(chance(0.75), fill_step, -0.8 * fill_step), fill_chroma * 0.9, fill_hue + drift),
    ], axis=1)  # fmt: skip
    line_light = np.where(chance(0.7), np.where(fill_light > 0.5, 0.25, 0.93), np.where(ground_light > 0.5, 0.2, 0.95))
    return ground, fill, oklch(line_light, np.full(n, 0.05), fill_hue)


def _patterns(
    between: Callable[[float, float], np.ndarray],
    chance: Callable[[float], np.ndarray],
    style: Style,
    labels: np.ndarray,
) -> dict[str, np.ndarray]:
    """Which textures ground and shape wear. A favourite pattern per class is the false friend of many a model."""
    ground = np.minimum((between(0, 1) * (PLAIN + 2)).astype(int), PLAIN)
    other = np.minimum((between(0, 1) * (PLAIN + 4)).astype(int), PLAIN)
    fill = np.where(chance(style.material), labels, other)
    if style.conflict:
        fill = (labels + 1 + other % 9) % 10
    same = chance(style.camouflaged)
    return {
        "ground_pattern": ground,
        "ground_strength": between(*style.texture),
        "ground_period": between(5.0, 12.0),
        "ground_angle": between(0, np.pi),
        "fill_pattern": np.where(same, ground, fill),
        "fill_strength": between(*style.fill),
        "fill_period": between(4.5, 8.5),
        "fill_angle": between(0, np.pi),
    }


def _occluders(
    between: Callable[[float, float], np.ndarray], chance: Callable[[float], np.ndarray], style: Style
) -> np.ndarray:
    there = chance(style.occluded)
    second = chance(0.5)
    bands = [
        [between(0, np.pi), between(-0.55, 0.55), between(0.13, 0.22), there],
        [between(0, np.pi), between(-0.55, 0.55), between(0.1, 0.18), there & second],
    ]
    return np.array(bands, dtype=np.float64).transpose(2, 0, 1)


def _clutter(lattice: np.ndarray, there: np.ndarray) -> np.ndarray:
    numbers = lattice[:, 2].reshape(len(lattice), -1)[:, : CLUTTER * 5].reshape(-1, CLUTTER, 5).copy()
    numbers[:, :, 4] = there[:, None] & (numbers[:, :, 4] < 0.8)
    return numbers
