"""Training images: the same for every method of a comparison, whatever the method, the workers or the device.

Every draw is a function of (recipe's seed, stream, position in the stream, image id), so a method that uses more
random numbers than another one still gets the same images in the same order with the same crops.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp, posterize
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.data.transforms_factory import transforms_imagenet_train
from torchvision.transforms import Compose

from nsbench.data import Split
from nsbench.data.loading import Batch
from nsbench.data.source import digest_of
from nsbench.errors import DataError
from nsbench.models import Model
from nsbench.models.preprocessing import unit
from nsbench.randomness import derive_seed, generator, global_generators_kept
from nsbench.training.recipe import Recipe


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Inside, the global generators, which timm's augmentation uses, start from `seed`; afterwards as before.

    Those of the CPU and of `device` alone: `torch.manual_seed` turns to every kind of device that there might be and
    formats the stack for each, which costs more than most images' augmentation.
    """
    with global_generators_kept(device):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if device is not None and device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class Augmented(Split):
    """A stream of `length` augmented training images: epoch after epoch, each in an order of its own.

    Neither the order in which the images lie in their folder, archive or shards matters, nor which of these it is.
    """

    def __init__(self, train: Split, recipe: Recipe, model: Model, *, stream: str, length: int) -> None:
        if not len(train):
            raise DataError("the training split holds no images, and this method trains; give a source with some")
        self.train, self.seed, self.name = train, recipe.seed, stream
        self.indices = np.argsort(train.ids, kind="stable")[_order(len(train), length, recipe.seed, stream)]
        self.ids, self.labels = train.ids[self.indices], train.labels[self.indices]
        self.transform = _transform(recipe, model)

    def load(self, index: int) -> Image.Image:
        image = self.train.load(int(self.indices[index]))
        with seeded(derive_seed(self.seed, self.name, "augment", index, self.ids[index])):
            augmented: Image.Image = self.transform(image)
        return augmented

    @property
    def digest(self) -> str:
        return digest_of(self.train.digest, self.name, self.seed, len(self))


def _order(size: int, length: int, seed: int, stream: str) -> np.ndarray:
    """Places among `size` images in the order of their ids, `length` of them: shuffled epochs one after the other."""
    epochs = [generator(seed, stream, "order", epoch).permutation(size) for epoch in range(-(-length // size))]
    return np.concatenate(epochs)[:length]


def _transform(recipe: Recipe, model: Model) -> Compose:
    """Crop, flip, RandAugment or colour jitter, by timm: a picture of the model's input size."""
    interpolation = model.preprocessing.interpolation if recipe.interpolation == "checkpoint" else "random"
    crop, colour, _to_tensor = transforms_imagenet_train(
        model.input_size,
        scale=recipe.crop_scale,
        ratio=recipe.crop_ratio,
        hflip=recipe.flip,
        color_jitter=recipe.color_jitter or None,
        auto_augment=recipe.randaugment or None,
        interpolation=interpolation,
        mean=model.mean,
        normalize=False,
        separate=True,
    )
    steps = [*crop.transforms, *colour.transforms]
    for step in steps:
        at_every_strength(getattr(step, "ops", []))  # of RandAugment
    return Compose(steps)


def at_every_strength(operations: list[AugmentOp]) -> list[AugmentOp]:
    """timm's operations, of which posterizing would fail at a strength that Pillow refuses."""
    for operation in operations:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return operations


def _posterize(image: Image.Image, bits: int, **keywords: object) -> Image.Image:
    """timm's, for a strength that leaves no bit: black, as Pillow painted it before it refused."""
    return image.point([0] * 256 * len(image.getbands())) if bits < 1 else posterize(image, bits, **keywords)


def pixels(batch: Batch, device: torch.device) -> torch.Tensor:
    """Images (B, 3, H, W) in [0, 1] on the device."""
    return unit(batch.images, device)


def erase(images_BCHW: torch.Tensor, recipe: Recipe, model: Model, rows: np.ndarray | None = None) -> torch.Tensor:
    """timm's random erasing in "pixel" mode: rectangles of standard normal noise, after normalisation.

    `rows`: the images are these of a step's batch, for all of which it is drawn.
    """
    if not recipe.random_erasing:
        return images_BCHW
    eraser = RandomErasing(recipe.random_erasing, mode="pixel", device="cpu")  # draws the same for every device
    number = len(images_BCHW) if rows is None else recipe.batch_size * (len(images_BCHW) // len(rows))
    canvas_BCHW = images_BCHW.new_full((number, *images_BCHW.shape[1:]), float("nan"))  # NaN: not erased
    drawn_BCHW = eraser(canvas_BCHW)
    if rows is not None:  # view after view of them
        drawn_BCHW = drawn_BCHW.unflatten(0, (-1, recipe.batch_size))[:, rows].flatten(0, 1)
    return torch.where(drawn_BCHW.isnan(), images_BCHW, drawn_BCHW * model.std_3HW + model.mean_3HW)


def mix(
    images_BCHW: torch.Tensor, labels_B: torch.Tensor, recipe: Recipe, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup or CutMix by timm, one draw a batch, with soft targets (B, K); labels as they are where both are off."""
    if not (recipe.mixup or recipe.cutmix):
        return images_BCHW, labels_B
    mixup = Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        label_smoothing=recipe.label_smoothing,
        num_classes=num_classes,
    )
    mixed: tuple[torch.Tensor, torch.Tensor] = mixup(images_BCHW.clone(), labels_B)
    return mixed
