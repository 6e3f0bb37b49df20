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
from nsbench.data.source import Split, digest_of
from nsbench.errors import MissingSplit

RESIZE, CROP = 256, 224  # pixels
SEED = 0  # fixed: the corrupted set is data, and the same for every run
ENGINE = "nsbench"  # which of the two engines makes the images, where none is asked for


class CorruptedSplit(Split):
    """`base` with every image resized, cropped to `side` x `side` and corrupted when it is loaded."""

    origin = "generated-memory"

    def __init__(self, base: Split, corruption: str, severity: int, engine: str = ENGINE, side: int = CROP) -> None:
        check_corruption(corruption, severity, engine)
        self.base, self.corruption, self.severity, self.engine = base, corruption, severity, engine
        self.side, self.made_at = side, side if side != CROP else None
        self.name = f"c/{corruption}/{severity}"
        self.ids, self.labels, self.classes, self.unread = base.ids, base.labels, base.classes, base.unread

    def at(self, side: int) -> CorruptedSplit:
        """The same corruption of images of another size: their noise has the same strength in each pixel, their blur the
        same width in pixels."""
        return CorruptedSplit(self.base, self.corruption, self.severity, self.engine, side)

    def load(self, index: int) -> Image.Image:
        image_HWC = np.asarray(resize_and_crop(self.base.load(index), self.made_at or CROP))
        image_id = str(self.ids[index])
        return Image.fromarray(
            corrupt(image_HWC, self.corruption, self.severity, seed=SEED, image_id=image_id, engine=self.engine)
        )

    @cached_property
    def digest(self) -> str:
        """Over the base's digest and everything that shapes the pixels."""
        return digest_in_memory(self.base.digest, self.corruption, self.severity, self.engine, self.made_at)


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
