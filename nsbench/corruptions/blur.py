"""Blurs: defocus, glass, motion, zoom and gaussian. (H, W, 3) uint8 in and out; draws from `Draws` or its like."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from nsbench.corruptions import glass, settings
from nsbench.corruptions.draws import Draws
from nsbench.corruptions.noise import truncated


def smoothed(image: np.ndarray, sigma: float, depth: int = cv2.CV_32F) -> np.ndarray:
    """skimage.filters.gaussian: cut off at 4 sigma, the edge's value beyond the edge."""
    weights = settings.gaussian_weights(sigma)
    return cv2.sepFilter2D(image, depth, weights, weights, borderType=cv2.BORDER_REPLICATE)


def gaussian_blur(image_HWC: np.ndarray, setting: float, draws: Draws) -> np.ndarray:
    return truncated(smoothed(image_HWC.astype(np.float32), setting))


def defocus_blur(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    return truncated(cv2.filter2D(image_HWC.astype(np.float32), -1, settings.disk(*setting)))


def glass_blur(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    return glass.glass_blur(image_HWC, setting, draws.integers)


def motion_blur(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    radius, sigma = setting
    angle = -45 + 90 * float(draws.uniform((1,))[0])
    return truncated(moved(image_HWC.astype(np.float32), radius, sigma, angle))


def moved(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """One-sided motion blur of float32 (H, W) or (H, W, 3), with the edge's value beyond the edge."""
    height, width = image.shape[:2]
    taps = settings.motion(radius, sigma, angle, height, width)
    reach_y, reach_x = max(abs(dy) for dy, _, _ in taps), max(abs(dx) for _, dx, _ in taps)
    padded = cv2.copyMakeBorder(image, reach_y, reach_y, reach_x, reach_x, cv2.BORDER_REPLICATE)
    total = np.zeros_like(image)
    for dy, dx, weight in taps:
        top, left = reach_y - dy, reach_x - dx
        cv2.scaleAdd(padded[top : top + height, left : left + width], weight, total, dst=total)
    return total


def zoom_blur(image_HWC: np.ndarray, setting: tuple[Any, ...], draws: Draws) -> np.ndarray:
    # OpenCV 5 moves four channels in half the time that it takes for three.
    image = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2RGBA).astype(np.float32)
    factors = settings.zoom_factors(*setting)
    total = image.copy()
    for factor in factors:
        layer = zoomed(image, factor)
        part = total[: layer.shape[0], : layer.shape[1]]
        cv2.add(part, layer, dst=part)
    total *= np.float32(1 / (len(factors) + 1))
    return cv2.cvtColor(truncated(total), cv2.COLOR_RGBA2RGB)


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """The centre of float32 (H, W) or (H, W, C), enlarged as by scipy.ndimage.zoom(order=1), cut to at most H x W."""
    height, width = image.shape[:2]
    (top, in_rows, rows), (left, in_columns, columns) = (settings.zoomed_part(size, factor) for size in (height, width))
    if (in_rows, in_columns) == (rows, columns):
        return image[top : top + in_rows, left : left + in_columns]
    to_source = np.array([[(in_columns - 1) / (columns - 1), 0, left], [0, (in_rows - 1) / (rows - 1), top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (min(columns, width), min(rows, height))
    return cv2.warpAffine(image, to_source, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def mixed(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Share 0 is the first, 1 the second, which is overwritten."""
    second -= first
    second *= share
    second += first
    return second
