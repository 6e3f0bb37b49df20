"""The fifteen corruptions of ImageNet-C and its four extra ones (Hendrycks and Dietterich 2019, arXiv 1903.12261).

Two engines make them. `imagecorruptions` is the reference: the package of that name, repaired in a private copy
(`reference.py`), with our vectorised forms of its loops, which make the same bytes (`glass.py`, `exact.py`).
`nsbench` is our own (`fast.py`, and `tensors.py` for batches of torch tensors): the same formulas, many times faster;
for the same draws its images are those of the reference, within one grey level. Its draws are other ones, so a set is
made by one engine or the other. Nothing heavy is imported before the first image. Our own also has the scale of
CIFAR-10-C, whose severities (and three of its corruptions) are made for 32 x 32 pixels.

`imagecorruptions` differs from the script that made the official ImageNet-C in elastic_transform, which it rewrote
for images of any size (no affine part; much milder at severities 1 and 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from nsbench.errors import DataError, UnknownName, UsageError
from nsbench.randomness import derive_seed

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "CORRUPTIONS", "ENGINES", "EXTRA_CORRUPTIONS", "REFERENCE", "SCALES", "SEVERITIES",
    "check_corruption", "corrupt", "corrupt_batch", "engine_version",
]  # fmt: skip

CORRUPTIONS: tuple[str, ...] = (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
EXTRA_CORRUPTIONS: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # no part of mCE
SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)
REFERENCE = "imagecorruptions"
ENGINES: tuple[str, ...] = ("nsbench", REFERENCE)
VERSION = 1  # of our own engine: raise it whenever a change can move a pixel
SCALES: tuple[str, ...] = ("imagenet", "cifar")  # severities of ImageNet-C; of CIFAR-10-C, by our own engine
SMALLEST_SIDE = 32  # pixels; below it some kernels are wider than the image


def corrupt(
    image_HWC: np.ndarray,
    name: str,
    severity: int,
    *,
    seed: int,
    image_id: str,
    engine: str = REFERENCE,
    scale: str = "imagenet",
) -> np.ndarray:
    """One corrupted image, (H, W, 3) uint8 in and out, any size from 32 x 32; 32 x 32 at the scale "cifar".

    All draws come from (seed, name, severity, image_id): the result is the same in every batch, thread and process,
    and NumPy's global random state is neither read nor moved.
    """
    check_corruption(name, severity, engine, scale)
    if image_HWC.dtype != "uint8" or image_HWC.ndim != 3 or image_HWC.shape[2] != 3:
        raise DataError(f"{image_id}: corruptions take (H, W, 3) uint8, not {image_HWC.shape} {image_HWC.dtype}")
    _check_size(image_HWC.shape[0], image_HWC.shape[1], image_id)
    _check_scale(image_HWC.shape[:2], scale, image_id)
    key = derive_seed(seed, *_of_scale(scale), name, severity, image_id)
    if engine == REFERENCE:
        from nsbench.corruptions import reference

        return reference.corrupt(image_HWC, name, severity, key)
    from nsbench.corruptions import fast

    return fast.corrupt(image_HWC, name, severity, key, scale)


@overload
def corrupt_batch(
    images: np.ndarray,
    name: str,
    severity: int,
    *,
    seed: int,
    ids: Sequence[str],
    engine: str = REFERENCE,
    scale: str = "imagenet",
) -> np.ndarray: ...


@overload
def corrupt_batch(
    images: torch.Tensor,
    name: str,
    severity: int,
    *,
    seed: int,
    ids: Sequence[str],
    engine: str = REFERENCE,
    scale: str = "imagenet",
) -> torch.Tensor: ...


def corrupt_batch(
    images: np.ndarray | torch.Tensor,
    name: str,
    severity: int,
    *,
    seed: int,
    ids: Sequence[str],
    engine: str = REFERENCE,
    scale: str = "imagenet",
) -> np.ndarray | torch.Tensor:
    """B corrupted images of one size: a NumPy array (B, H, W, 3) or a torch tensor (B, 3, H, W), uint8, in and out.

    Each is what `corrupt` makes of it alone; tensors that our own engine corrupts stay on their device and may differ
    from that by one grey level. There, jpeg_compression and spatter are computed on the CPU.
    """
    import numpy as np

    check_corruption(name, severity, engine, scale)
    channels = 3 if isinstance(images, np.ndarray) else 1
    _check_batch(tuple(images.shape), channels, str(images.dtype).removeprefix("torch."), ids)
    if isinstance(images, np.ndarray):
        if not len(images):
            return images.copy()
        return np.stack([
            corrupt(image, name, severity, seed=seed, image_id=image_id, engine=engine, scale=scale)
            for image, image_id in zip(images, ids, strict=True)
        ])  # fmt: skip
    if engine == REFERENCE:
        images_BHWC: np.ndarray = images.permute(0, 2, 3, 1).cpu().numpy()
        made_BHWC = corrupt_batch(images_BHWC, name, severity, seed=seed, ids=ids, engine=engine, scale=scale)
        return images.new_tensor(made_BHWC.transpose(0, 3, 1, 2))
    from nsbench.corruptions import tensors

    _check_scale(tuple(images.shape[2:]), scale, str(ids[0]) if len(ids) else "")
    keys = [derive_seed(seed, *_of_scale(scale), name, severity, image_id) for image_id in ids]
    return tensors.corrupt_batch(images, name, severity, keys, scale)


def _of_scale(scale: str) -> tuple[str, ...]:
    """A part of a draw's key; none for ImageNet-C's, whose figures it would move."""
    return () if scale == "imagenet" else (scale,)


def _check_scale(size: tuple[int, ...], scale: str, image_id: str) -> None:
    if scale == "cifar" and tuple(size) != (SMALLEST_SIDE, SMALLEST_SIDE):
        raise DataError(f"{image_id}: {size[1]} x {size[0]} pixels; the severities of CIFAR-10-C are for 32 x 32")


def _check_batch(shape: tuple[int, ...], channels: int, dtype: str, ids: Sequence[str]) -> None:
    """`channels` is the place of the colours: 3 of an array (B, H, W, 3), 1 of a tensor (B, 3, H, W)."""
    if len(shape) != 4 or shape[channels] != 3 or dtype != "uint8":
        expected = "(B, H, W, 3)" if channels == 3 else "(B, 3, H, W)"
        raise DataError(f"a batch to corrupt must be {expected} uint8, not {shape} {dtype}")
    if len(ids) != shape[0]:
        raise DataError(f"corrupt_batch got {shape[0]} images and {len(ids)} ids; give one id for each image")
    if len(ids):
        height, width = (size for axis, size in enumerate(shape) if axis not in (0, channels))
        _check_size(height, width, str(ids[0]))


def _check_size(height: int, width: int, image_id: str) -> None:
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"{image_id}: {width} x {height} pixels is too small to corrupt; "
            f"give images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}"
        )


def check_corruption(name: str, severity: int, engine: str = REFERENCE, scale: str = "imagenet") -> None:
    """Refuse a corruption, severity, engine or scale that does not exist."""
    if scale not in SCALES:
        raise UnknownName("scale of corruptions", scale, SCALES)
    if scale != "imagenet" and engine == REFERENCE:
        raise UsageError(f"corruption engine {REFERENCE}: it has the severities of ImageNet-C alone; take 'nsbench'")
    if name not in CORRUPTIONS + EXTRA_CORRUPTIONS:
        raise UnknownName("corruption", name, CORRUPTIONS + EXTRA_CORRUPTIONS)
    if severity not in SEVERITIES:
        raise UsageError(f"corruption severity {severity}: must be one of {', '.join(map(str, SEVERITIES))}")
    if engine not in ENGINES:
        raise UnknownName("corruption engine", engine, ENGINES)


def engine_version(name: str, engine: str = REFERENCE) -> str:
    """What makes this corruption, with its version: a part of the digest of every set made from it."""
    from importlib.metadata import version

    check_corruption(name, 1, engine)
    if engine != REFERENCE:
        return f"nsbench corruptions {VERSION}"
    repaired = f"imagecorruptions {version('imagecorruptions')} repaired"
    return f"nsbench glass_blur 1 (equals {repaired})" if name == "glass_blur" else repaired
