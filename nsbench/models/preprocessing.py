"""From a picture to the pixels that a model takes: timm's own evaluation transform, or nothing at all.

Both give uint8 tensors (3, H, W), so loaders move bytes; `unit` divides by 255 on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval

from nsbench.errors import DataError, UsageError

Transform = Callable[[Image.Image], torch.Tensor]


def unit(images: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """uint8 images as float32 in [0, 1], on the device."""
    return images.to(device, non_blocking=True).float() / 255


def in_8_bits(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1], rounded to the 256 levels of an image file; what lies outside is clipped."""
    return (images.clamp(0, 1) * 255).round() / 255


@dataclass(frozen=True)
class Preprocessing:
    """The checkpoint's own resize and crop, as in timm's `pretrained_cfg`."""

    size: int  # side of the model's input, pixels
    crop_pct: float = 0.875  # the crop's share of the resized image
    interpolation: str = "bicubic"
    crop_mode: str = "center"  # timm's "center", "squash" or "border"

    def transform(self, mode: str = "checkpoint") -> Transform:
        """`checkpoint`: timm's evaluation transform. `none`: images are ready and are never resized."""
        if mode == "none":
            return Ready(self.size)
        if mode == "checkpoint":
            transform: Transform = transforms_imagenet_eval(
                self.size,
                crop_pct=self.crop_pct,
                crop_mode=self.crop_mode,
                interpolation=self.interpolation,
                normalize=False,
            )
            return transform
        raise UsageError(f"preprocessing '{mode}' is neither 'checkpoint' nor 'none'")

    def describe(self) -> str:
        """One phrase for a report: "resize 248 bicubic, crop 224"."""
        how = "" if self.crop_mode == "center" else f" {self.crop_mode}"
        return f"resize{how} {math.floor(self.size / self.crop_pct)} {self.interpolation}, crop {self.size}"


@dataclass(frozen=True)
class Ready:
    """Images that have the model's input size already: resizing would weaken an attack or blur a corruption."""

    size: int

    def __call__(self, image: Image.Image) -> torch.Tensor:
        if image.size != (self.size, self.size):
            width, height = image.size
            raise DataError(
                f"an image of {width}x{height} pixels must not be resized, but the model takes "
                f"{self.size}x{self.size}; use a model of that input size or prepare the images anew"
            )
        return _to_bytes(image)


def _to_bytes(image: Image.Image) -> torch.Tensor:
    from timm.data.transforms import MaybePILToTensor

    pixels_3HW: torch.Tensor = MaybePILToTensor()(image)
    return pixels_3HW
