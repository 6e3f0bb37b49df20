"""ImageNet-C made in memory from the clean images.

The official set was made as Resize(256), CenterCrop(224), corrupt, save as JPEG of quality 85, without a seed. Here
the JPEG step is left out and the draws are seeded. Figures from the two differ by about 5 points on average, so a
split says which it is (`origin`), and results from the two are never put in one column silently.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from nsbench.corruptions import CORRUPTIONS, SEVERITIES, check_corruption, corrupt, engine_version
from nsbench.data.source import Split, Wrapped, digest_of, first_size
from nsbench.errors import MissingSplit

RESIZE, CROP = 256, 224  # pixels
SEED = 0  # fixed: the corrupted set is data, and the same for every run
CIFAR_SIDE = 32  # pixels of the images that CIFAR-10-C's severities are for
ENGINE = "nsbench"  # which of the two engines makes the images, where none is asked for


class CorruptedSplit(Wrapped):
    """`base` with every image resized, cropped to `side` x `side` and corrupted when it is loaded.

    With the scale "cifar" the images of 32 x 32 pixels are corrupted as those of CIFAR-10-C are, and then enlarged.
    """

    origin = "generated-memory"

    def __init__(
        self,
        base: Split,
        corruption: str,
        severity: int,
        engine: str = ENGINE,
        side: int = CROP,
        scale: str = "imagenet",
    ) -> None:
        check_corruption(corruption, severity, engine, scale)
        super().__init__(base)
        self.without_masks()
        self.scale, self.side = scale, side
        kind = type(self).origin
        self.origin = f"{kind}, severities of CIFAR-10-C" if scale == "cifar" else kind
        self.corruption, self.severity, self.engine = corruption, severity, engine
        self.made_at = CIFAR_SIDE if scale == "cifar" else side if side != CROP else None
        self.resized_from = CIFAR_SIDE if scale == "cifar" and side != CIFAR_SIDE else None
        self.name = f"c/{corruption}/{severity}"

    def at(self, side: int) -> CorruptedSplit:
        """The same corruption of images of another size: their noise has the same strength in each pixel, their blur the
        same width in pixels."""
        return CorruptedSplit(self.base, self.corruption, self.severity, self.engine, side, self.scale)

    def load(self, index: int) -> Image.Image:
        image, image_id, side = self.base.load(index), str(self.ids[index]), self.side or CROP
        if self.scale == "cifar":
            corrupted = self._corrupted(np.asarray(image), image_id)
            return corrupted.resize((side, side), Image.Resampling.BICUBIC)
        return self._corrupted(np.asarray(resize_and_crop(image, side)), image_id)

    def _corrupted(self, image_HWC: np.ndarray, image_id: str) -> Image.Image:
        made_HWC = corrupt(
            image_HWC,
            self.corruption,
            self.severity,
            seed=SEED,
            image_id=image_id,
            engine=self.engine,
            scale=self.scale,
        )
        return Image.fromarray(made_HWC)

    @cached_property
    def digest(self) -> str:
        """Over the base's digest and everything that shapes the pixels."""
        own = digest_in_memory(self.base.digest, self.corruption, self.severity, self.engine, self.made_at)
        return own if self.scale == "imagenet" else digest_of(self.scale, own, self.side)


def corrupted_of_own_classes(clean: Split, name: str, engine: str) -> CorruptedSplit:
    """`c/<corruption>/<severity>` of a source that has no such set: with the severities of CIFAR-10-C for pictures of
    32 x 32 pixels, of ImageNet-C for others. Raises as `parsed` does, and UsageError for an engine without them."""
    small = first_size(clean) == (CIFAR_SIDE, CIFAR_SIDE)
    return CorruptedSplit(clean, *parsed(name), engine, scale="cifar" if small else "imagenet")


def corrupted_names() -> list[str]:
    """Of the fifteen corruptions at five severities: "c/gaussian_noise/1", ..."""
    return [f"c/{corruption}/{severity}" for corruption in CORRUPTIONS for severity in SEVERITIES]


def parsed(name: str) -> tuple[str, int]:
    """ "c/fog/3" -> ("fog", 3). Raises MissingSplit, UnknownName or UsageError."""
    corruption, _, severity = name.removeprefix("c/").partition("/")
    if not severity.isdecimal():
        raise MissingSplit(f"there is no split '{name}'; give c/<corruption>/<severity from 1 to 5>")
    check_corruption(corruption, int(severity))
    return corruption, int(severity)


def digest_in_memory(clean: str, corruption: str, severity: int, engine: str, made_at: int | None = None) -> str:
    """The digest of a part of C that is made of clean images with this digest; `made_at`: its side, if not 224."""
    size = (made_at,) if made_at else ()
    how = (corruption, severity, SEED, RESIZE, CROP, engine_version(corruption, engine))
    return digest_of("corrupted", clean, *how, *size)


def resize_and_crop(image: Image.Image, side: int = CROP) -> Image.Image:
    """torchvision's Resize(256) (shorter side, bilinear) and CenterCrop(224), or the same of another `side`."""
    from torchvision.transforms.functional import center_crop, resize

    cropped: Image.Image = center_crop(resize(image, [round(RESIZE * side / CROP)]), [side])
    return cropped
