"""Helpers of the corruption tests: the draws of `imagecorruptions`, behind the interface of `nsbench`'s own draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nsbench.corruptions import fast, reference
from nsbench.corruptions.glass import glass_blur


class OriginalDraws:
    """The numbers that the original draws after the same seed, in its order."""

    def __init__(self, seed: int) -> None:
        bits = np.random.MT19937(seed)
        self.state, self.generator = np.random.RandomState(bits), np.random.Generator(bits)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.state.uniform(size=shape)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.state.normal(size=shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        return self.state.randint(low, high, size=shape)

    def flips(self, shape: tuple[int, ...], share: float) -> tuple[np.ndarray, np.ndarray]:
        return self.generator.random(shape) <= share, self.generator.random(shape) <= 0.5

    def poisson(self, values: np.ndarray, rate: float) -> np.ndarray:
        return self.state.poisson(values / 255.0 * rate)


def ours(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Our formula with the original's draws."""
    return fast.FUNCTIONS[name](image_HWC.copy(), severity, OriginalDraws(seed))


def original(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """The original function; for glass_blur the form without a loop, which test_corruptions compares with the loop."""
    if name == "glass_blur":
        return glass_blur(image_HWC, severity, OriginalDraws(seed).integers)
    reference.seed_draws(seed)
    function = getattr(reference.module(), name)
    return np.asarray(function(Image.fromarray(image_HWC), severity)).astype(np.uint8)


def photographs(shared_data: Path, count: int, size: tuple[int, int] = (224, 224)) -> list[np.ndarray]:
    """Real images, spread over the classes, as (H, W, 3) uint8."""
    files = sorted((shared_data / "imagenet" / "val").glob("*/*.JPEG"))
    chosen = files[:: max(1, len(files) // count)][:count]
    return [np.asarray(Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)) for path in chosen]
