"""A split that is made of another one hands on everything that it does not say itself."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import nsbench.making.transfer
import nsbench.training.views  # noqa: F401
from nsbench.data.corrupted import CorruptedSplit
from nsbench.data.sized import ResizedSplit
from nsbench.data.source import SetClasses, Split, Subset, Wrapped, digest_of
from nsbench.making.transfer import DamageNetSplit, TransferSplit

MODEL = SimpleNamespace(input_size=32, preprocessing="", mean=(), std=())
SURROGATE = SimpleNamespace(name="net", digest="0123", model=MODEL)
HOW = {  # how one of `base` is made, and the fields that it says itself
    Subset: (lambda base: Subset(base, np.arange(2)), {"ids", "labels"}),
    ResizedSplit: (lambda base: ResizedSplit(base, 8, 32), {"side", "resized_from"}),
    CorruptedSplit: (
        lambda base: CorruptedSplit(base, "fog", 1),
        {"name", "side", "resized_from", "made_at", "origin", "masks", "masks_digest"},
    ),
    TransferSplit: (
        lambda base: TransferSplit(base, SURROGATE, 8),
        {"name", "side", "origin", "surrogate_digest", "masks", "masks_digest"},
    ),
    DamageNetSplit: (
        lambda base: DamageNetSplit(base, SURROGATE),
        {"name", "side", "origin", "surrogate_digest", "masks", "masks_digest"},
    ),
}


class Full(Split):
    """Three pictures with something in every field."""

    def __init__(self) -> None:
        self.name, self.ids, self.labels = "full", np.array(["a", "b", "c"]), np.array([3, 4, 3])
        self.classes, self.origin, self.surrogate_digest = (3, 4), "generated-png", "beef"
        self.side, self.resized_from, self.made_at = 8, 6, 7
        self.also_right = {"a": (4,)}
        self.set_classes = SetClasses(("x", "y"), (0, 1, None, 0, 1), "sum")
        self.unread, self.discretiser = ("loose.png",), Path("weights")
        self.masks, self.masks_digest = "drawn", "cafe"

    def load(self, index: int) -> Image.Image:
        return Image.new("RGB", (8, 8), (index, 0, 0))

    @property
    def masked(self) -> np.ndarray:
        return np.array([True, False, True])

    def mask(self, index: int) -> Image.Image:
        return Image.new("L", (8, 8), 255)

    @property
    def digest(self) -> str:
        return digest_of("full")


def subclasses(kind: type) -> set[type]:
    return {kind, *(one for below in kind.__subclasses__() for one in subclasses(below))}


def test_every_split_of_another_split_is_of_this_kind() -> None:
    made_of_one = {
        one
        for one in subclasses(Split)
        if one.__module__.startswith("nsbench.") and "base" in inspect.signature(one).parameters
    }
    assert made_of_one - {Wrapped} == set(HOW)
    assert all(issubclass(one, Wrapped) for one in made_of_one)


def test_the_full_split_is_full() -> None:
    """So that a field of a later day is tested as well."""
    full = Full()
    assert set(Split.__annotations__) == set(vars(full))


@pytest.mark.parametrize("kind", HOW, ids=lambda kind: kind.__name__)
def test_what_a_split_does_not_say_itself_is_the_other_s(kind: type[Wrapped]) -> None:
    base = Full()
    make, own = HOW[kind]
    made = make(base)
    for field in Split.__annotations__:
        if field not in own:
            assert getattr(made, field) is getattr(base, field), field
        else:
            assert getattr(made, field) is not getattr(base, field), field


def test_masks_go_with_pictures_that_show_the_whole_image() -> None:
    base = Full()
    assert Subset(base, np.array([1, 2])).masked.tolist() == [False, True]
    resized = ResizedSplit(base, 8, 32)
    assert resized.masked.tolist() == [True, False, True]
    assert resized.mask(0).size == (32, 32)
    for cropped in (CorruptedSplit(base, "fog", 1), TransferSplit(base, SURROGATE, 8)):
        assert cropped.masked is None
        with pytest.raises(NotImplementedError):
            cropped.mask(0)


def test_only_what_was_lost_before_is_another_set() -> None:
    base = Full()
    base.set_classes = base.also_right = base.made_at = None
    resized, transfer = ResizedSplit(base, 8, 32), TransferSplit(base, SURROGATE, 8)
    assert resized.digest == digest_of("resized", base.digest, 8, 32, "bicubic")
    among = transfer.digest
    base.made_at = 7
    assert ResizedSplit(base, 8, 32).digest != resized.digest
    base.classes = None
    prepared = (base.digest, "0123", "", (), ())
    assert TransferSplit(base, SURROGATE, 8).digest == digest_of("transfer", 1, *prepared, "mifgsm", 10, 8) != among
