"""Digital: contrast, elastic_transform, pixelate, jpeg_compression and saturate. (H, W, 3) uint8 in and out."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image

from nsbench.corruptions import settings
from nsbench.corruptions.blur import mixed
from nsbench.corruptions.draws import Draws
from nsbench.corruptions.noise import truncated

STRIP = 64  # rows that are moved together: what they need stays in a processor's cache


def contrast(image_HWC: np.ndarray, kept: float, draws: Draws) -> np.ndarray:
    means = np.array(cv2.mean(image_HWC)[:3]) / 255
    grey = np.clip((np.arange(256)[:, None] / 255 - means) * kept + means, 0, 1) * 255
    return cv2.LUT(image_HWC, grey[None].astype(np.uint8))


def elastic_transform(image_HWC: np.ndarray, factor: float, draws: Draws) -> np.ndarray:
    """The range of the displacements follows the height alone, as in the original."""
    height, width = image_HWC.shape[:2]
    reach, sigmas = 0.005 * height * factor, (0.01 * height, 0.01 * width)
    shift_x, shift_y = (_displacement(draws.uniform((height, width)), reach, sigmas) for _ in range(2))
    return truncated(_moved(image_HWC.astype(np.float32), shift_x, shift_y))


def _moved(image_HWC: np.ndarray, shift_x: np.ndarray, shift_y: np.ndarray) -> np.ndarray:
    """out[y, x] = image[y + shift_y, x + shift_x], bilinear, the image mirrored at its edges.

    OpenCV's `remap` finds the four corners; its own interpolation rounds coordinates to 1/32 pixel before version 5.
    """
    height, width = image_HWC.shape[:2]
    reach = int(max(np.abs(shift_x).max(), np.abs(shift_y).max())) + 2
    padded = cv2.copyMakeBorder(image_HWC, reach, reach, reach, reach, cv2.BORDER_REFLECT)
    corners = [padded[top:, left:] for top in (0, 1) for left in (0, 1)]
    rows, columns = np.floor(shift_y), np.floor(shift_x)
    share_y, share_x = shift_y - rows, shift_x - columns
    rows += np.arange(reach, reach + height)[:, None]
    columns += np.arange(reach, reach + width)
    places = cv2.merge([columns.astype(np.int16), rows.astype(np.int16)])
    moved_HWC = np.empty_like(image_HWC)
    for first in range(0, height, STRIP):
        strip = slice(first, first + STRIP)
        found = [cv2.remap(corner, places[strip], None, cv2.INTER_NEAREST) for corner in corners]  # type: ignore[call-overload]
        across, down = (cv2.merge([share[strip]] * 3) for share in (share_x, share_y))
        above, below = mixed(found[0], found[1], across), mixed(found[2], found[3], across)
        moved_HWC[strip] = mixed(above, below, down)
    return moved_HWC


def affine_elastic_transform(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    """As CIFAR-10-C has it: first an affine map that shifts three corners of the inner part, then displacements."""
    height, width = image_HWC.shape[:2]
    reach, sigma, shift = (share * height for share in setting)
    centre, third = np.array([height // 2, width // 2], np.float32), min(height, width) // 3
    corners = centre + np.array([[third, third], [third, -third], [-third, -third]], np.float32)
    moved = corners + ((2 * draws.uniform((3, 2)) - 1) * shift).astype(np.float32)
    affine = cv2.getAffineTransform(corners, moved)
    image = cv2.warpAffine(image_HWC.astype(np.float32), affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    shift_x, shift_y = (_displacement(draws.uniform((height, width)), reach, (sigma, sigma)) for _ in range(2))
    return truncated(_moved(image, shift_x, shift_y))


def _displacement(uniform_HW: np.ndarray, reach: float, sigmas: tuple[float, float]) -> np.ndarray:
    """Uniform noise in (-reach, reach), smoothed by `sigmas` down and across; not at all where they are 0."""
    noise = ((2 * uniform_HW - 1) * reach).astype(np.float32)
    if not any(sigmas):
        return noise
    down, across = (settings.gaussian_weights(sigma, truncate=3) for sigma in sigmas)
    return cv2.sepFilter2D(noise, -1, across, down, borderType=cv2.BORDER_REFLECT)


def pixelate(image_HWC: np.ndarray, scale: float, draws: Draws) -> np.ndarray:
    height, width = image_HWC.shape[:2]
    coarse = Image.fromarray(image_HWC).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    return np.array(coarse.resize((width, height), Image.Resampling.NEAREST))


def box_pixelate(image_HWC: np.ndarray, scale: float, draws: Draws) -> np.ndarray:
    """As CIFAR-10-C has it: the box filter on the way back, too."""
    height, width = image_HWC.shape[:2]
    small, box = (int(width * scale), int(height * scale)), Image.Resampling.BOX
    return np.array(Image.fromarray(image_HWC).resize(small, box).resize((width, height), box))


def jpeg_compression(image_HWC: np.ndarray, setting: float, draws: Draws) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=setting)
    return np.array(Image.open(file, formats=("JPEG",)))


def saturate(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    """Changing S of HSV at equal hue and value multiplies each channel's distance from the largest by S' / S."""
    red, green, blue = cv2.split(image_HWC)
    largest, smallest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    index = np.bitwise_or(largest.astype(np.uint16) << np.uint16(8), smallest)
    stretch = stretched(*setting).take(index)
    value = largest.astype(np.float32)
    channels = [value - (value - channel) * stretch for channel in (red, green, blue)]
    # Grey has no hue; HSV calls it red, so that added saturation takes from green and blue.
    offset = setting[1]
    if offset:
        grey = largest == smallest
        for channel in channels[1:]:
            channel[grey] = value[grey] * np.float32(1 - offset)
    return truncated(cv2.merge(channels))


@lru_cache(maxsize=5)
def stretched(factor: float, offset: float) -> np.ndarray:
    """(65536,) float32: S' / S at 256 x (largest channel) + (smallest channel); 1 for grey."""
    largest, smallest = np.divmod(np.arange(65536), 256)
    saturation = np.maximum(largest - smallest, 0) / np.maximum(largest, 1)
    new = np.clip(saturation * factor + offset, 0, 1)
    return np.where(saturation > 0, new / np.where(saturation > 0, saturation, 1), 1).astype(np.float32)
