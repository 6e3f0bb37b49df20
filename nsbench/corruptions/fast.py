"""Our own corruptions of one image: closed forms, tables and OpenCV instead of loops and conversions.

Each is one function of the image, the setting of its severity and a stream of draws. Fed with the stream of
`imagecorruptions`, they give its images (tests/corruptions/test_corruptions_agree.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nsbench.corruptions import blur, digital, noise, settings, weather
from nsbench.corruptions.draws import Draws
from nsbench.files import keep_freed_memory

Corruption = Callable[[np.ndarray, Any, Draws], np.ndarray]
FUNCTIONS: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        noise.gaussian_noise, noise.shot_noise, noise.impulse_noise, noise.speckle_noise,
        blur.defocus_blur, blur.glass_blur, blur.motion_blur, blur.zoom_blur, blur.gaussian_blur,
        weather.snow, weather.frost, weather.fog, weather.brightness, weather.spatter,
        digital.contrast, digital.elastic_transform, digital.pixelate, digital.jpeg_compression, digital.saturate,
    )
}  # fmt: skip

OF_CIFAR: dict[str, Corruption] = FUNCTIONS | {
    "frost": weather.near_frost,
    "elastic_transform": digital.affine_elastic_transform,
    "pixelate": digital.box_pixelate,
}


def corrupt(image_HWC: np.ndarray, name: str, severity: int, seed: int, scale: str = "imagenet") -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W, 3) uint8, as a function of the arguments alone."""
    functions = OF_CIFAR if scale == "cifar" else FUNCTIONS
    setting = settings.SCALES[scale][name][severity - 1]
    return functions[name](np.ascontiguousarray(image_HWC), setting, Draws(seed))


keep_freed_memory()
