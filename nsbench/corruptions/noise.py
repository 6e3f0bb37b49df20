"""Noises: gaussian, shot, impulse and speckle. (H, W, 3) uint8 in and out; draws from `Draws` or its like."""

from __future__ import annotations

import cv2
import numpy as np

from nsbench.corruptions.draws import Draws


def truncated(values: np.ndarray) -> np.ndarray:
    """Float grey levels to uint8; like the original, cut and not rounded. May work in place."""
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def gaussian_noise(image_HWC: np.ndarray, setting: float, draws: Draws) -> np.ndarray:
    noise = draws.normal(image_HWC.shape)
    noise *= np.float32(255 * setting)
    noise += image_HWC
    return truncated(noise)


def shot_noise(image_HWC: np.ndarray, photons: int, draws: Draws) -> np.ndarray:
    grey = (np.clip(np.arange(max(256, photons + 1)) / photons, 0, 1) * 255).astype(np.uint8)
    counts_HWC = draws.poisson(image_HWC, photons)
    if counts_HWC.dtype == np.uint8:
        return cv2.LUT(counts_HWC, grey[:256])
    noisy_HWC: np.ndarray = grey.take(np.minimum(counts_HWC, len(grey) - 1))
    return noisy_HWC


def impulse_noise(image_HWC: np.ndarray, setting: float, draws: Draws) -> np.ndarray:
    hit, salt = draws.flips(image_HWC.shape, setting)
    noisy_HWC: np.ndarray = salt.view(np.uint8) * np.uint8(255)
    noisy_HWC ^= image_HWC  # a choice by bits takes a tenth of np.where's time
    noisy_HWC *= hit.view(np.uint8)
    noisy_HWC ^= image_HWC
    return noisy_HWC


def speckle_noise(image_HWC: np.ndarray, setting: float, draws: Draws) -> np.ndarray:
    noise = draws.normal(image_HWC.shape)
    noise *= np.float32(setting)
    noise += np.float32(1)
    noise *= image_HWC
    return truncated(noise)
