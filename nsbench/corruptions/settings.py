"""Settings of the corruptions at severities 1 to 5 (Hendrycks and Dietterich 2019): ImageNet-C's and CIFAR-10-C's.

ImageNet-C's are as in imagecorruptions. Lengths are in pixels, noise levels in [0, 1] pixel units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

Settings = Mapping[str, tuple[Any, ...]]  # of a corruption, one for each of the five severities

IMAGENET: Settings = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
    "shot_noise": (60, 25, 12, 5, 3),  # photons of a white pixel
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of values replaced
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),  # standard deviation, relative to the value
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),  # radius, sigma of the disk's soft edge
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),  # sigma, largest shift, rounds
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # radius, sigma
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),  # end of the factors, step
    "gaussian_blur": (1, 2, 3, 4, 6),  # sigma
    "snow": (  # mean, deviation, zoom of the flakes, threshold, radius and sigma of their motion, share of the image
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),  # weight of the image, of the ice
    "fog": ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),  # thickness, decay of the height map's detail
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value of HSV
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),  # factor and offset of the saturation of HSV
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # what is left of the distance from the mean
    "elastic_transform": (12.5, 16.25, 21.25, 25.0, 30.0),  # factor of the smoothed displacements
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # scale
    "jpeg_compression": (25, 18, 15, 10, 7),  # quality
    "spatter": (  # mean, deviation, sigma of the drops, threshold, strength (water) or sigma (mud), 1 for mud
        (0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
}  # fmt: skip
CIFAR: Settings = {  # for 32 x 32 pixels: hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": (  # shares of the side: displacement, its sigma, shift of the affine map's corners
        (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    ),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": (80, 65, 58, 50, 40),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
}  # fmt: skip
SCALES: Mapping[str, Settings] = {"imagenet": IMAGENET, "cifar": CIFAR}


def zoom_factors(end: float, step: float) -> list[float]:
    return [float(factor) for factor in np.arange(1, end, step)]


def zoomed_part(size: int, factor: float) -> tuple[int, int, int]:
    """One side of a centred crop that is zoomed to fill `size`: its start, its length, its length when zoomed."""
    length = math.ceil(size / factor)
    return (size - length) // 2, length, round(length * factor)


def gaussian_weights(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """(2r + 1,) weights of a normalised Gaussian, cut off at r = truncate x sigma as in scipy and scikit-image."""
    radius = int(truncate * sigma + 0.5)
    weights: np.ndarray = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    weights = weights / weights.sum()
    return weights


@lru_cache(maxsize=10)
def disk(radius: float, sigma: float) -> np.ndarray:
    """(k, k) float32 weights of a disk with a soft edge, without its empty margin; k is odd."""
    import cv2

    reach = max(8, int(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    weights: np.ndarray = (x**2 + y**2 <= radius**2).astype(np.float32)
    weights /= weights.sum()
    side = 3 if radius <= 8 else 5
    weights = cv2.GaussianBlur(weights, (side, side), sigma)
    empty = int(np.argmax(weights.any(axis=0)))
    return weights[empty : weights.shape[0] - empty, empty : weights.shape[1] - empty]


def motion(radius: int, sigma: float, angle: float, height: int, width: int) -> list[tuple[int, int, float]]:
    """The steps (dy, dx, weight) of a one-sided motion blur; `angle` in degrees. out[y, x] += weight x[y - dy, x - dx].

    Steps that leave the image are dropped without replacement, as in the original: small images get darker.
    """
    down, across = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    taps = []
    for step, weight in enumerate(_motion_weights(radius, sigma)):
        dy, dx = -math.ceil(step * down - 0.5), -math.ceil(step * across - 0.5)
        if abs(dy) >= height or abs(dx) >= width:
            break
        taps.append((dy, dx, weight))
    return taps


@lru_cache(maxsize=16)
def _motion_weights(radius: int, sigma: float) -> list[float]:
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    return [float(weight) for weight in weights / weights.sum()]
