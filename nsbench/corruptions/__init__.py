"""The fifteen corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261).

Made by the package `imagecorruptions`, repaired in a private copy (`reference.py`), except glass_blur, which is
our own vectorised form of the same thing (`glass.py`). Nothing heavy is imported before the first image.

`imagecorruptions` differs from the script that made the official ImageNet-C in elastic_transform, which it rewrote
for images of any size (no affine part; much milder at severities 1 and 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbench.errors import DataError, UnknownName, UsageError
from nsbench.randomness import derive_seed

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt", "engine"]

CORRUPTIONS: tuple[str, ...] = (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 32  # pixels; below it some kernels are wider than the image


def corrupt(image_HWC: np.ndarray, name: str, severity: int, *, seed: int, image_id: str) -> np.ndarray:
    """One corrupted image, (H, W, 3) uint8 in and out, any size from 32 x 32.

    All draws come from (seed, name, severity, image_id): the result is the same in every batch, thread and process,
    and NumPy's global random state is neither read nor moved.
    """
    check(name, severity)
    if image_HWC.dtype != "uint8" or image_HWC.ndim != 3 or image_HWC.shape[2] != 3:
        raise DataError(f"{image_id}: corruptions take (H, W, 3) uint8, not {image_HWC.shape} {image_HWC.dtype}")
    if min(image_HWC.shape[:2]) < SMALLEST_SIDE:
        raise DataError(
            f"{image_id}: {image_HWC.shape[1]} x {image_HWC.shape[0]} pixels is too small to corrupt; "
            f"give images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}"
        )
    from nsbench.corruptions import reference

    return reference.corrupt(image_HWC, name, severity, derive_seed(seed, name, severity, image_id))


def check(name: str, severity: int) -> None:
    """Refuse a corruption or severity that does not exist."""
    if name not in CORRUPTIONS:
        raise UnknownName("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise UsageError(f"corruption severity {severity}: must be one of {', '.join(map(str, SEVERITIES))}")


def engine(name: str) -> str:
    """What makes this corruption, with its version: a part of the digest of every set made from it."""
    from importlib.metadata import version

    repaired = f"imagecorruptions {version('imagecorruptions')} repaired"
    return f"nsbench glass_blur 1 (equals {repaired})" if name == "glass_blur" else repaired
