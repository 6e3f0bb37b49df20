"""Decoding one image file to RGB, with an error that names the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from nsbench.errors import CorruptImage
from nsbench.files import check_regular

# The formats of the sets. Pillow would open fifty more, one of which starts Ghostscript, whatever a file's suffix says.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
BITS, PHOTOMETRIC = 258, 262  # tags of a TIFF: bits of a value, and whether 0 is white
ELONGATED = (
    300  # times as long as wide: resized to a shorter side of 512 px it would have as many pixels as Pillow takes
)
# What Pillow raises for broken files of these formats.
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, OverflowError, MemoryError),
    *(struct.error, zlib.error, NotImplementedError, RecursionError, Image.DecompressionBombError),
)


def decode(source: Path | IO[bytes], name: str | None = None) -> Image.Image:
    """An image file as 8-bit RGB; grey, palette, CMYK and 16-bit images are converted, alpha is dropped.

    As torchvision does, EXIF rotation is not applied. Raises CorruptImage, which names the file, also for grey values
    of which nobody knows what white is.
    """
    try:
        with Image.open(_regular(source), formats=FORMATS) as image:
            _bounded(image)
            _check_range(image)
            return _eight_bit(image).convert("RGB")
    except BROKEN as error:
        name = name or str(source)
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be decoded ({_reason(error)})"
        raise CorruptImage(f"{name}: {reason}; {_remedy(error)}") from error


def probe(source: IO[bytes], name: str) -> tuple[int, int]:
    """(width, height) of an image that can be decoded to its end; JPEGs are decoded at an eighth, which is quicker.

    Raises CorruptImage, as `decode` would.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            _bounded(image)
            _check_range(image)
            size = image.size
            image.draft("L", (max(1, size[0] // 8), max(1, size[1] // 8)))
            image.load()
            return size
    except BROKEN as error:
        raise CorruptImage(f"{name}: cannot be decoded ({_reason(error)}); {_remedy(error)}") from error


def _bounded(image: Image.Image) -> None:
    """Pillow only warns up to twice its limit; a picture beyond it is a decompression bomb here."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels are more than {limit:,}")
    if max(image.size) > ELONGATED * min(image.size):
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} pixels: resized it would be a thousand times as large"
        )


def _check_range(image: Image.Image) -> None:
    """Raises NoRange for grey values that are not 0 to 255 or 0 to 65535: they would become black or white."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    bits, inverted = tags.get(BITS, (0,))[0], tags.get(PHOTOMETRIC) == 0
    wide = image.mode == "I" and image.format != "PNG"  # old versions of Pillow open PNGs of 16 bits as I
    if image.mode == "F" or wide or (image.mode.startswith("I;") and (bits == 12 or inverted)):
        raise NoRange


class NoRange(ValueError):
    """Grey values without a range that is known."""

    def __init__(self) -> None:
        super().__init__("its grey values are not 8 or 16 bits without a sign, so nobody knows what is white")


def _regular(source: Path | IO[bytes]) -> Path | IO[bytes]:
    return check_regular(source) if isinstance(source, Path) else source


def _eight_bit(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    # Pillow's own conversion cuts 16-bit grey off at 255 and gives a white picture.
    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def _remedy(error: BaseException) -> str:
    what = "save it with 8 bits" if isinstance(error, NoRange) else "copy it again"
    return f"{what} or remove it from the set"


def _reason(error: BaseException) -> str:
    return "no image format that is known" if isinstance(error, UnidentifiedImageError) else str(error)
