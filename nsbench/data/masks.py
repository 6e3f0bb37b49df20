"""Masks of the foreground of training images, in a folder beside them: `masks = "..."` in a data config.

The layout is that of ImageNet-S (https://github.com/LUSSeg/ImageNet-S): <wnid>/<image>.png, found by the image's id. In
colour the class of a pixel is red + 256 x green, and 0 (other) and 1000 (ignored) are background; in grey or a palette
0 is background and everything else foreground.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nsbench.data.image_ids import known_as
from nsbench.data.source import digest_of
from nsbench.errors import CorruptImage, DataError
from nsbench.files import open_regular

IGNORED = 1000
MAX_BYTES = 1 << 26  # of one mask


@dataclass(frozen=True)
class MaskFiles:
    """Which images of a split have a mask, and where."""

    files: Mapping[int, Path]  # by the image's position in the split
    words: str
    digest: str


def find_masks(folder: Path, ids: Sequence[str]) -> MaskFiles:
    """The masks of these images. Raises DataError where the folder holds none of them."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder of masks; correct the line masks = ... of the data config")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    of_id = {image_id: number for number, image_id in enumerate(ids)}
    found: dict[int, Path] = {}
    for name in names:
        number = next((of_id[one] for one in known_as(name) if one in of_id), None)
        if number is not None:
            found[number] = folder / name
    if not found:
        raise DataError(f"{folder}: holds {len(names)} masks and none of a training image; expected <wnid>/<image>.png")
    sizes = [(ids[k], found[k].stat().st_size) for k in sorted(found)]
    return MaskFiles(found, f"the masks in {folder.name} ({len(found)} of {len(ids)} images)", digest_of(*sizes))


def read_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A grey picture of this width and height, 255 inside. Raises CorruptImage."""
    try:
        with open_regular(path) as file:
            picture = Image.open(io.BytesIO(file.read(MAX_BYTES)), formats=("PNG", "BMP", "TIFF"))
            values = np.asarray(picture if picture.mode in ("1", "L", "P") else picture.convert("RGB")).astype(np.int32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptImage(f"{path}: is no mask that can be read ({error}); copy it again or remove it") from error
    if values.ndim == 3:
        values = values[:, :, 0] + 256 * values[:, :, 1]
        values[values == IGNORED] = 0
    mask = Image.fromarray(np.where(values > 0, 255, 0).astype(np.uint8))
    return mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)
