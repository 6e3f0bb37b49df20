"""Digital: contrast, elastic_transform, pixelate, jpeg_compression and saturate. (H, W, 3) uint8 in and out."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from nsbench.corruptions import settings
from nsbench.corruptions.draws import Draws
from nsbench.corruptions.noise import truncated


def contrast(image_HWC: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    kept = settings.CONTRAST[severity - 1]
    means = np.array(cv2.mean(image_HWC)[:3]) / 255
    grey = np.clip((np.arange(256)[:, None] / 255 - means) * kept + means, 0, 1) * 255
    return cv2.LUT(image_HWC, grey[None].astype(np.uint8))


def elastic_transform(image_HWC: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    height, width = image_HWC.shape[:2]
    shift_x, shift_y = (_displacement(draws.uniform((height, width)), severity) for _ in range(2))
    x, y = _grid(height, width)
    image = image_HWC.astype(np.float32)
    return truncated(cv2.remap(image, x + shift_x, y + shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def _displacement(uniform_HW: np.ndarray, severity: int) -> np.ndarray:
    """Smoothed uniform noise; its range follows the height alone, as in the original."""
    height, width = uniform_HW.shape
    down, across = (settings.gaussian_weights(0.01 * size, truncate=3) for size in (height, width))
    reach = 0.005 * height * settings.ELASTIC_TRANSFORM[severity - 1]
    noise = ((2 * uniform_HW - 1) * reach).astype(np.float32)
    return cv2.sepFilter2D(noise, -1, across, down, borderType=cv2.BORDER_REFLECT)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def pixelate(image_HWC: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    height, width = image_HWC.shape[:2]
    scale = settings.PIXELATE[severity - 1]
    coarse = Image.fromarray(image_HWC).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    return np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(image_HWC: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=settings.JPEG_COMPRESSION[severity - 1])
    return np.asarray(Image.open(file))


def saturate(image_HWC: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Changing S of HSV at equal hue and value multiplies each channel's distance from the largest by S' / S."""
    red, green, blue = cv2.split(image_HWC)
    largest, smallest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    index = np.bitwise_or(largest.astype(np.uint16) << np.uint16(8), smallest)
    stretch = stretched(severity).take(index)
    value = largest.astype(np.float32)
    channels = [value - (value - channel) * stretch for channel in (red, green, blue)]
    # Grey has no hue; HSV calls it red, so that added saturation takes from green and blue.
    offset = settings.SATURATE[severity - 1][1]
    if offset:
        grey = largest == smallest
        for channel in channels[1:]:
            channel[grey] = value[grey] * np.float32(1 - offset)
    return truncated(cv2.merge(channels))


@lru_cache(maxsize=5)
def stretched(severity: int) -> np.ndarray:
    """(65536,) float32: S' / S at 256 x (largest channel) + (smallest channel); 1 for grey."""
    factor, offset = settings.SATURATE[severity - 1]
    largest, smallest = np.divmod(np.arange(65536), 256)
    saturation = np.maximum(largest - smallest, 0) / np.maximum(largest, 1)
    new = np.clip(saturation * factor + offset, 0, 1)
    return np.where(saturation > 0, new / np.where(saturation > 0, saturation, 1), 1).astype(np.float32)
