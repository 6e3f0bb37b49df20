"""Settings of the corruptions at severities 1 to 5 (Hendrycks and Dietterich 2019; values as in imagecorruptions).

Lengths are in pixels, noise levels in [0, 1] pixel units; each entry is a tuple over the five severities.
"""

from __future__ import annotations

import math

import numpy as np

GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
SHOT_NOISE = (60, 25, 12, 5, 3)  # photons of a white pixel
IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values replaced
SPECKLE_NOISE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation, relative to the value
DEFOCUS_BLUR = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, sigma of the disk's soft edge
GLASS_BLUR = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, largest shift, rounds
MOTION_BLUR = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius, sigma
ZOOM_BLUR = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # end of the zoom factors, step
GAUSSIAN_BLUR = (1, 2, 3, 4, 6)  # sigma
SNOW = (  # mean, deviation, zoom of the flakes, threshold, radius and sigma of their motion, share of the image
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)  # fmt: skip
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weight of the image, of the ice
FOG = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # thickness, decay of the height map's detail
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV
SATURATE = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))  # factor and offset of the saturation of HSV
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of the distance from the mean
ELASTIC_TRANSFORM = (12.5, 16.25, 21.25, 25.0, 30.0)  # factor of the smoothed displacements
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # scale
JPEG_COMPRESSION = (25, 18, 15, 10, 7)  # quality
SPATTER = (  # mean, deviation, sigma of the drops, threshold, strength (water) or sigma (mud), 1 for mud
    (0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
    (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1),
)  # fmt: skip


def zoom_factors(severity: int) -> list[float]:
    end, step = ZOOM_BLUR[severity - 1]
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


def disk(severity: int) -> np.ndarray:
    """(k, k) float32 weights of a disk with a soft edge, without its empty margin; k is odd."""
    import cv2

    radius, sigma = DEFOCUS_BLUR[severity - 1]
    reach = max(8, radius)
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
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    dys = [-math.ceil(step * math.sin(math.radians(angle)) - 0.5) for step in steps]
    dxs = [-math.ceil(step * math.cos(math.radians(angle)) - 0.5) for step in steps]
    taps = []
    for dy, dx, weight in zip(dys, dxs, weights, strict=True):
        if abs(dy) >= height or abs(dx) >= width:
            break
        taps.append((dy, dx, float(weight)))
    return taps
