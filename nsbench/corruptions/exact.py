"""Parts of `imagecorruptions` without their loops: the same operations on the same numbers, so the same bytes.

Each stands in for the function of that name in a private copy of the package (`reference.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from nsbench.corruptions.settings import zoomed_part

MOST_TEXTURES = 10


def clipped_zoom(image_HWC: np.ndarray, factor: float) -> np.ndarray:
    """The centre of float (H, W, C), enlarged as scipy.ndimage.zoom(order=1) does, which weighs in double precision.

    As there, a last row or column is black where rounding puts its place a hair beyond the image.
    """
    height, width, channels = image_HWC.shape
    (top, rows, _), (left, columns, _) = zoomed_part(height, factor), zoomed_part(width, factor)
    above, below, share_above, share_below = _between(height, factor)
    before, behind, share_before, share_behind = _between(width, factor, channels)
    part_HWC = image_HWC[top : top + rows, left : left + columns]
    zoomed = np.zeros((len(above), len(before) * channels))
    for line, share_line in ((above, share_above), (below, share_below)):
        weighted_HWC = part_HWC.take(line, 0) * share_line[:, None, None]
        for column, share_column in ((before, share_before), (behind, share_behind)):
            # Rows of numbers, not of pixels: NumPy is slow where the last axis has three.
            taken = weighted_HWC.take(column, 1).reshape(len(line), -1)
            taken *= share_column
            zoomed += taken
    return zoomed.reshape(len(above), len(before), channels).astype(image_HWC.dtype)


@lru_cache(maxsize=200)
def _between(side: int, factor: float, repeated: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each new place along one side: the pixel before and the one behind it, and their shares in float64.

    Each share is `repeated`, as pixels have channels.
    """
    _, length, zoomed = zoomed_part(side, factor)
    place = np.arange(zoomed) * ((length - 1) / (zoomed - 1))
    before = np.floor(place).astype(np.intp)
    first = 1.0 - (place - before)
    inside = place <= length - 1
    shares = [np.where(inside, share, 0.0).repeat(repeated) for share in (first, 1.0 - first)]
    return before, np.minimum(before + 1, length - 1), shares[0], shares[1]


def motion_blur(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """`_motion_blur` of (H, W) or (H, W, C), in double precision: shifts are windows of one padded image."""
    height, width = image.shape[:2]
    steps = 2 * radius + 1
    weights = np.exp(-(np.arange(steps) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    weights = weights / np.sum(weights)
    down, across = steps * np.sin(np.deg2rad(angle)), steps * np.cos(np.deg2rad(angle))
    length = math.hypot(down, across)
    places = [(-math.ceil(i * down / length - 0.5), -math.ceil(i * across / length - 0.5)) for i in range(steps)]
    beyond = ((steps, steps), (steps, steps), (0, 0))[: image.ndim]
    padded = np.pad(image.astype(np.float64), beyond, mode="edge")
    blurred, scaled = np.zeros(image.shape), np.empty(image.shape)
    for (dy, dx), weight in zip(places, weights, strict=True):
        if abs(dy) >= height or abs(dx) >= width:
            break  # as in the original, the weights that are left are lost: small images get darker
        np.multiply(padded[steps - dy :, steps - dx :][:height, :width], weight, out=scaled)
        blurred += scaled
    return blurred


def rolled(array_HW: np.ndarray, shift: int, axis: int) -> np.ndarray:
    """np.roll of (H, W) along one axis; that one takes long for small arrays."""
    if axis in (0, -2):
        return np.concatenate((array_HW[-shift:], array_HW[:-shift]))
    return np.concatenate((array_HW[:, -shift:], array_HW[:, :-shift]), axis=1)


def rgb2hsv(image_HWC: np.ndarray) -> np.ndarray:
    """skimage.color.rgb2hsv of float64 (H, W, 3)."""
    red, green, blue = np.ascontiguousarray(image_HWC.transpose(2, 0, 1))
    value = np.maximum(np.maximum(red, green), blue)
    delta = value - np.minimum(np.minimum(red, green), blue)
    grey = delta == 0
    divisor = np.where(grey, 1, delta)
    hue = np.where(green == value, 2 + (blue - red) / divisor, (green - blue) / divisor)
    hue = np.where(blue == value, 4 + (red - green) / divisor, hue)
    hue /= 6
    hue %= 1
    hue[grey] = 0
    saturation = delta / np.where(value == 0, 1, value)
    return np.stack([hue, saturation, value], axis=-1)


def hsv2rgb(image_HWC: np.ndarray) -> np.ndarray:
    """skimage.color.hsv2rgb of float64 (H, W, 3)."""
    hue, saturation, value = np.ascontiguousarray(image_HWC.transpose(2, 0, 1))
    hue = hue * 6
    sector = np.floor(hue)
    share = hue - sector
    p = value * (1 - saturation)
    q = value * (1 - share * saturation)
    t = value * (1 - (1 - share) * saturation)
    sixth = sector.astype(np.uint8) % 6
    red = np.choose(sixth, (value, q, p, p, t, value))
    green = np.choose(sixth, (t, value, value, q, p, p))
    blue = np.choose(sixth, (p, p, t, value, value, q))
    return np.stack([red, green, blue], axis=-1)


def resize_once() -> Callable[..., np.ndarray]:
    """cv2.resize that keeps its last results, for frost, which enlarges the same five textures again and again."""
    made: dict[tuple[int, tuple[int, int]], tuple[np.ndarray, np.ndarray]] = {}

    def resize(image_HWC: np.ndarray, dsize: tuple[int, int], interpolation: int) -> np.ndarray:
        key = (id(image_HWC), dsize)  # the image is kept with its result, so no other has its id
        kept = made.get(key)
        if kept is None:
            if len(made) >= MOST_TEXTURES:
                made.clear()
            kept = made[key] = (image_HWC, cv2.resize(image_HWC, dsize, interpolation=interpolation))
        return kept[1]

    return resize
