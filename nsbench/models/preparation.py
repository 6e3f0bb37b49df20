"""How images are prepared for a model, as a caller or a checkpoint says it. No torch here: the command line reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from nsbench.errors import UsageError

Triple = tuple[float, float, float]
INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic", 1: "lanczos"}  # by Pillow's number, as Hugging Face writes
SIZES = range(8, 4097)  # pixels


def share(size: int, resized: int) -> float:
    """The crop's share of the resized image, for which timm's floor(size / share) is `resized`."""
    found = size / resized
    while math.floor(size / found) < resized:
        found = math.nextafter(found, 0)
    return found


@dataclass(frozen=True)
class Preparation:
    """How images are prepared for a model. None: nothing is said of it."""

    mean: Triple | None = None
    std: Triple | None = None
    size: int | None = None  # side of the input, pixels
    crop_pct: float | None = None
    interpolation: str | None = None
    crop_mode: str | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for what no image can be prepared by."""
        for name, triple in (("mean", self.mean), ("std", self.std)):
            if triple is not None and not (len(triple) == 3 and all(map(math.isfinite, triple))):
                raise UsageError(f"{name} {triple}: give three numbers, for red, green and blue in [0, 1]")
        if self.std is not None and min(self.std) <= 0:
            raise UsageError(f"std {self.std}: give three numbers above 0")
        if self.size is not None and self.size not in SIZES:
            raise UsageError(f"image size {self.size}: give {SIZES.start} to {SIZES.stop - 1} pixels")
        if self.crop_pct is not None and not 0.1 <= self.crop_pct <= 2:
            raise UsageError(f"crop_pct {self.crop_pct}: give the crop's share of the resized image, such as 0.9")
        if self.interpolation is not None and self.interpolation not in INTERPOLATIONS.values():
            raise UsageError(f"interpolation '{self.interpolation}' is none of {', '.join(INTERPOLATIONS.values())}")

    def said(self) -> dict[str, Any]:
        """The fields that say something."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
