"""Training images with the foreground of each: a mask goes through the same crop, flip and turns as its picture.

Every draw is that of the picture, and the picture's are those that it has without masks. B images of H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp
from torch import Tensor
from torchvision.transforms import ColorJitter, Compose

from nsbench.data import Split
from nsbench.data.loading import Batch
from nsbench.models import Model
from nsbench.randomness import derive_seed
from nsbench.training.augment import Augmented, mix, seeded
from nsbench.training.recipe import Recipe

MOVING = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel")


class Masked(Augmented):
    """The same stream; each picture has its foreground as a fourth channel, 255 inside, and 0 where it has no mask."""

    def __init__(self, train: Split, recipe: Recipe, model: Model, *, stream: str, length: int) -> None:
        super().__init__(train, recipe, model, stream=stream, length=length)
        known = train.masked
        self.known = np.zeros(length, dtype=bool) if known is None else known[self.indices]
        self.of_masks = _of_masks(Augmented(train, recipe, model, stream=stream, length=1).transform)

    def load(self, index: int) -> Image.Image:
        picture = super().load(index)
        mask = self.train.mask(int(self.indices[index])) if self.known[index] else None
        if mask is None:
            picture.putalpha(0)
            return picture
        with seeded(derive_seed(self.seed, self.name, "augment", index, self.ids[index])):  # as in Augmented.load
            moved = self.of_masks(Image.merge("RGB", [mask.convert("L")] * 3))
        picture.putalpha(moved.getchannel(0))
        return picture


def with_masks(batches: Iterator[Batch], split: Masked) -> Iterator[Batch]:
    """Batches of four channels as images and masks (B, 1, H, W) in [0, 1], NaN for images whose mask is not known."""
    for batch in batches:
        masks_B1HW = batch.images[:, 3:].float() / 255
        masks_B1HW[~torch.from_numpy(split.known[batch.indices])] = float("nan")
        yield replace(batch, images=batch.images[:, :3].contiguous(), masks=masks_B1HW)


def mix_masked(
    images_BCHW: Tensor, masks_B1HW: Tensor, labels_B: Tensor, recipe: Recipe, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixup or CutMix of images and masks by the same draw, and the targets; a mixture with NaN is NaN."""
    mixed_BCHW, targets = mix(torch.cat([images_BCHW, masks_B1HW], dim=1), labels_B, recipe, num_classes)
    return mixed_BCHW[:, :3], mixed_BCHW[:, 3:], targets


def _of_masks(transform: Compose) -> Compose:
    """What moves pixels, with the picture's draws; operations of RandAugment on colours are drawn and not applied."""
    steps = [step for step in transform.transforms if not isinstance(step, ColorJitter)]
    for step in steps:
        for operation in getattr(step, "ops", []):
            assert isinstance(operation, AugmentOp)
            if operation.name.removesuffix("Increasing") not in MOVING:
                operation.aug_fn = _as_it_is
            operation.kwargs["fillcolor"] = (0, 0, 0)  # what comes in from outside is no foreground
    return Compose(steps)


def _as_it_is(image: Image.Image, *level: object, **keywords: object) -> Image.Image:
    return image
