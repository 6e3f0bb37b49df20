"""Weather: snow, frost, fog, brightness and spatter. (H, W, 3) uint8 in and out; draws from `Draws` or its like."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from nsbench.corruptions import settings
from nsbench.corruptions.blur import mixed, moved, smoothed
from nsbench.corruptions.draws import Draws
from nsbench.corruptions.exact import rolled
from nsbench.corruptions.noise import truncated
from nsbench.corruptions.reference import package_folder
from nsbench.errors import NsbenchError

if TYPE_CHECKING:
    import torch

Numbers = TypeVar("Numbers", np.ndarray, "torch.Tensor")

TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")  # the sixth is never drawn


def snow(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    mean, deviation, zoom, threshold, radius, sigma, share = setting
    height, width = image_HWC.shape[:2]
    layer: np.ndarray = draws.normal((height, width)).astype(np.float32, copy=False)
    layer *= np.float32(deviation)
    layer += np.float32(mean)
    flakes = _enlarged(layer, zoom)
    flakes *= flakes >= np.float32(threshold)
    np.clip(flakes, 0, 1, out=flakes)
    flakes = moved(flakes, int(radius), sigma, -135 + 90 * float(draws.uniform((1,))[0]))[:height, :width]
    flakes *= np.float32(255)
    np.round(flakes, out=flakes)
    image = image_HWC.astype(np.float32)
    whitened: np.ndarray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    whitened *= np.float32(1.5)
    whitened += np.float32(127.5)
    snowy: np.ndarray = cv2.merge([whitened] * 3)
    cv2.max(image, snowy, dst=snowy)
    cv2.addWeighted(image, share, snowy, 1 - share, 0, dst=snowy)
    snowy += cv2.merge([flakes + flakes[::-1, ::-1]] * 3, dst=image)
    return truncated(snowy)


def _enlarged(layer: np.ndarray, factor: float) -> np.ndarray:
    """As `blur.zoomed`, but not cut (the motion that follows sees one or two rows beyond the image), and exact.

    OpenCV before version 5 rounds coordinates to 1/32 pixel, which the threshold that follows would make visible.
    """
    height, width = layer.shape
    (top, in_rows, rows), (left, in_columns, columns) = (settings.zoomed_part(size, factor) for size in (height, width))
    above, share = _between(in_rows, rows)
    layer = np.ascontiguousarray(layer[top : top + in_rows, left : left + in_columns])
    layer = mixed(layer[above], layer[above + 1], share[:, None])
    before, share = _between(in_columns, columns)
    return mixed(layer.take(before, 1), layer.take(before + 1, 1), share)


@lru_cache(maxsize=16)
def _between(length: int, zoomed_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation that keeps both ends: the value before each new place, and the share of the next one."""
    place = np.arange(zoomed_length) * ((length - 1) / (zoomed_length - 1))
    before = np.minimum(place.astype(np.intp), length - 2)
    return before, (place - before).astype(np.float32)


def frost(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    height, width = image_HWC.shape[:2]
    return _frosted(image_HWC, setting, ice_texture(_which(draws), height, width), draws)


def near_frost(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    """As CIFAR-10-C has it: the textures at a fifth of their size."""
    return _frosted(image_HWC, setting, small_ice_texture(_which(draws)), draws)


def _which(draws: Draws) -> int:
    return int(draws.integers(0, len(TEXTURES), (1,))[0])


def _frosted(image_HWC: np.ndarray, setting: tuple[Any, ...], ice: np.ndarray, draws: Draws) -> np.ndarray:
    height, width = image_HWC.shape[:2]
    weight, ice_weight = setting
    top = int(draws.integers(0, ice.shape[0] - height, (1,))[0])
    left = int(draws.integers(0, ice.shape[1] - width, (1,))[0])
    part = ice[top : top + height, left : left + width]
    # OpenCV rounds: just under half a level less makes it cut. Exact results are multiples of 1/20 of a level.
    return cv2.addWeighted(image_HWC, weight, part, ice_weight, -0.499)


@lru_cache(maxsize=10)
def ice_texture(number: int, height: int, width: int) -> np.ndarray:
    """(H', W', 3) uint8 RGB, at least 1.1 times the image's size. The five textures come with `imagecorruptions`."""
    texture = _texture(number)
    scale = 1.1 * max(1, height / texture.shape[0], width / texture.shape[1])
    size = tuple(int(np.ceil(side * scale)) for side in (texture.shape[1], texture.shape[0]))
    return cv2.cvtColor(cv2.resize(texture, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_BGR2RGB)


@lru_cache(maxsize=5)
def small_ice_texture(number: int) -> np.ndarray:
    """(H', W', 3) uint8 RGB."""
    return cv2.cvtColor(cv2.resize(_texture(number), (0, 0), fx=0.2, fy=0.2), cv2.COLOR_BGR2RGB)


def _texture(number: int) -> np.ndarray:
    path = package_folder() / "frost" / TEXTURES[number]
    texture = cv2.imread(str(path))
    if texture is None:
        raise NsbenchError(f"{path}: cannot be read; install imagecorruptions again")
    return texture


def fog(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    thickness, decay = setting
    height, width = image_HWC.shape[:2]
    size = plasma_size(height, width)
    heights = plasma(draws.uniform((size * size - 1,)), size, decay, rolled, np.empty)
    lowest, highest = heights.min(), heights.max()
    clouds = heights[:height, :width] - lowest
    clouds /= highest - lowest
    brightest = int(image_HWC.max()) / 255
    dimming = brightest / (brightest + thickness)
    clouds *= 255 * thickness * dimming
    return truncated(cv2.scaleAdd(image_HWC.astype(np.float32), dimming, cv2.merge([clouds.astype(np.float32)] * 3)))


def plasma_size(height: int, width: int) -> int:
    """Side of the height map: the next power of two."""
    return 1 << (max(height, width) - 1).bit_length()


def plasma(
    uniform: Numbers,
    size: int,
    decay: float,
    roll: Callable[[Numbers, int, int], Numbers],
    empty: Callable[[tuple[int, ...]], Numbers],
) -> Numbers:
    """Diamond-square heights (..., size, size) on a torus, from (..., size**2 - 1) numbers in [0, 1).

    NumPy arrays or tensors, with their own `roll`, and float64 arrays from their own `empty`.
    """
    noise, used, wobble = 2 * uniform - 1, 0, 100.0
    heights = empty((*uniform.shape[:-1], 1, 1))
    heights[...] = 0
    while (side := heights.shape[-1]) < size:
        count = 3 * side * side
        bumps = wobble * wobble * noise[..., used : used + count]
        heights = finer(heights, bumps.reshape(*uniform.shape[:-1], 3, side, side), roll, empty)
        used, wobble = used + count, wobble / decay
    return heights


def finer(
    corners: Numbers,
    bumps: Numbers,
    roll: Callable[[Numbers, int, int], Numbers],
    empty: Callable[[tuple[int, ...]], Numbers],
) -> Numbers:
    """Twice as many heights each way: new ones in the centres of squares, then above and beside the centres."""
    rows = roll(corners, -1, -2)
    rows += corners
    centres = roll(rows, -1, -1)
    centres += rows
    _displace(centres, bumps[..., 0, :, :])
    above = roll(centres, 1, -2)
    above += centres
    above += corners
    above += roll(corners, -1, -1)
    _displace(above, bumps[..., 1, :, :])
    beside = roll(centres, 1, -1)
    beside += centres
    beside += rows
    _displace(beside, bumps[..., 2, :, :])
    heights = empty((*corners.shape[:-2], 2 * corners.shape[-2], 2 * corners.shape[-1]))
    heights[..., ::2, ::2], heights[..., 1::2, 1::2] = corners, centres
    heights[..., ::2, 1::2], heights[..., 1::2, ::2] = above, beside
    return heights


def _displace(sums_of_four: Numbers, bumps: Numbers) -> None:
    """Averages with bumps, in place."""
    sums_of_four *= 0.25
    sums_of_four += bumps


def brightness(image_HWC: np.ndarray, setting: float, draws: Draws) -> np.ndarray:
    """Raising V of HSV at equal hue and saturation multiplies all three channels by V' / V."""
    red, green, blue = cv2.split(image_HWC)
    value = cv2.max(cv2.max(red, green), blue).astype(np.uint16) << np.uint16(8)
    brighter_HWC: np.ndarray = brightened(setting).take(cv2.merge([value] * 3) | image_HWC)
    return brighter_HWC


@lru_cache(maxsize=5)
def brightened(added: float) -> np.ndarray:
    """(65536,) uint8: the new grey level of a channel, at 256 x (the pixel's largest channel) + (this channel)."""
    value, channel = np.divmod(np.arange(65536), 256)
    raised = np.clip(value / 255 + added, 0, 1)
    # Channel == value is written apart: a rounding error under a whole number would cost a grey level.
    grey = np.where(channel >= value, raised, raised * channel / np.maximum(value, 1))
    return (grey * 255).astype(np.uint8)


def spatter(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    mean, deviation, sigma, threshold, strength, mud = setting
    # Double precision: edges and thresholds would turn small differences into large ones.
    liquid = smoothed(draws.normal(image_HWC.shape[:2]).astype(np.float64) * deviation + mean, sigma, cv2.CV_64F)
    liquid[liquid < threshold] = 0
    image = image_HWC.astype(np.float32)
    if not mud:
        wet = _water((liquid * 255).astype(np.uint8)) * np.float32(strength)
        return truncated(image + wet[..., None] * np.array([175, 238, 238], np.float32))
    dirt = smoothed((liquid > threshold).astype(np.float32), strength)
    dirt[dirt < 0.8] = 0
    dirt = dirt[..., None]
    return truncated(image * (1 - dirt) + dirt * np.array([63, 42, 20], np.float32))


def _water(liquid: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1]: drops with a light from one side."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, relief)
    drops = liquid * cv2.blur(relief, (3, 3)).astype(np.float32)
    return drops / max(float(drops.max()), 1e-6)
