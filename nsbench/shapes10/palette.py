"""Harmonious colours: drawn in Oklch (Björn Ottosson, 2020), where equal steps look equal, returned as sRGB."""

from __future__ import annotations

import numpy as np

_LMS = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def oklch(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """sRGB (n, 3) in [0, 1]; chroma is lowered step by step until the colour can be shown. Hue in turns."""
    chroma = np.broadcast_to(chroma, lightness.shape).copy()
    for _ in range(12):
        linear = _linear(lightness, chroma, hue)
        outside = ((linear < 0) | (linear > 1)).any(axis=1)
        if not outside.any():
            break
        chroma[outside] *= 0.85
    linear = np.clip(_linear(lightness, chroma, hue), 0.0, 1.0)
    rgb: np.ndarray = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb


def _linear(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    lab = np.stack([lightness, chroma * np.cos(2 * np.pi * hue), chroma * np.sin(2 * np.pi * hue)], axis=1)
    rgb: np.ndarray = ((lab @ _LMS.T) ** 3) @ _RGB.T
    return rgb
