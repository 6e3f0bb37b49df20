"""Ready images for models of another input size: corrupted, stylised and attacked pictures of 224 pixels, say.

Such sets are part of a benchmark as they are. A model of 384 pixels sees them only enlarged, which smooths noise, so this
is done when it is asked for and every figure says "resized from 224 px". Corruptions that are made in memory are made at
the model's size, and say that.
"""

from __future__ import annotations

from PIL import Image

from nsbench.data.corrupted import CorruptedSplit
from nsbench.data.source import Split, Wrapped, digest_of, first_size
from nsbench.errors import DataError


class ResizedSplit(Wrapped):
    """`base`, whose images are square and of one size, with `side` pixels (bicubic)."""

    def __init__(self, base: Split, before: int, side: int) -> None:
        super().__init__(base)
        self.before, self.after = before, side
        self.side, self.resized_from = side, before

    def load(self, index: int) -> Image.Image:
        image = self.base.load(index)
        if image.size != (self.before, self.before):
            raise DataError(
                f"{self.ids[index]}: is {image.width}x{image.height} pixels among images of {self.before}x{self.before}; "
                "was the set resized by somebody? Get it anew"
            )
        return image.resize((self.after, self.after), Image.Resampling.BICUBIC)

    def mask(self, index: int) -> Image.Image:
        return super().mask(index).resize((self.after, self.after), Image.Resampling.NEAREST)

    @property
    def digest(self) -> str:
        """Until 2026-12-01 what the labels mean, and at which size corruptions were made, was lost here."""
        lost = [one for one in (self.set_classes, self.also_right, self.made_at) if one is not None]
        return digest_of("resized", self.base.digest, self.before, self.after, "bicubic", *(["whole"] if lost else []))


def for_model(split: Split, preprocess: str, side: int, resize: bool) -> Split:
    """The images of a condition as a model of `side` pixels takes them; `preprocess` "none": they are ready.

    Raises DataError for ready images of another size that may not be resized.
    """
    if preprocess != "none":
        return split
    if isinstance(split, CorruptedSplit):
        return split.at(side)
    before = split.side or _side(split)
    if before in (None, side):
        return split
    if not resize:
        raise DataError(
            f"'{split.name}' holds ready images of {before}x{before} pixels, which are never resized silently, and the "
            f"model takes {side}x{side}: evaluate them enlarged or reduced with --resize-ready, in a column that says so, "
            "or take a model of that size"
        )
    return ResizedSplit(split, int(before or side), side)


def _side(split: Split) -> int | None:
    """Of the first image; None where it is not square: such a set is refused when it is read."""
    width, height = first_size(split) or (0, 1)
    return width if width == height else None
