"""Helpers of the corruption tests: the draws of `imagecorruptions`, behind the interface of `nsbench`'s own draws."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
from PIL import Image

from nsbench.corruptions import fast, reference
from nsbench.corruptions.glass import glass_blur
from nsbench.corruptions.settings import CIFAR, IMAGENET


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


def ours_of_cifar(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    return fast.OF_CIFAR[name](image_HWC.copy(), CIFAR[name][severity - 1], OriginalDraws(seed))


def ours(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Our formula with the original's draws."""
    return fast.FUNCTIONS[name](image_HWC.copy(), IMAGENET[name][severity - 1], OriginalDraws(seed))


def original_of_cifar(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """The original's function with the settings of CIFAR-10-C in place of its own; for those that share a formula."""
    source = inspect.getsource(getattr(reference.module(), name))
    changed, count = re.subn(r"c = \[.*?\]\[\s*severity - 1\]", "c = SETTINGS[severity - 1]", source, flags=re.DOTALL)
    assert count == 1
    settings = [np.arange(1, *one) for one in CIFAR[name]] if name == "zoom_blur" else CIFAR[name]
    names = {**vars(reference.module()), "SETTINGS": settings}
    exec(changed, names)
    reference.seed_draws(seed)
    return np.asarray(names[name](Image.fromarray(image_HWC), severity)).astype(np.uint8)


def original(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """The original function; for glass_blur the form without a loop, which test_corruptions compares with the loop."""
    if name == "glass_blur":
        return glass_blur(image_HWC, IMAGENET[name][severity - 1], OriginalDraws(seed).integers)
    reference.seed_draws(seed)
    function = getattr(reference.module(), name)
    return np.asarray(function(Image.fromarray(image_HWC), severity)).astype(np.uint8)


def photographs(shared_data: Path, count: int, size: tuple[int, int] = (224, 224)) -> list[np.ndarray]:
    """Real images, spread over the classes, as (H, W, 3) uint8."""
    files = sorted((shared_data / "imagenet" / "val").glob("*/*.JPEG"))
    chosen = files[:: max(1, len(files) // count)][:count]
    return [np.asarray(Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)) for path in chosen]
