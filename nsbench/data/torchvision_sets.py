"""Data sets in the form that torchvision reads: `torchvision:CIFAR10:ROOT`. Nothing is downloaded.

torchvision checks the published MD5 of CIFAR's pickles before it opens them. Images have no file names there: the id is the
part and the position, "test/00012".
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nsbench.data.corrupted import ENGINE, corrupted_names, corrupted_of_own_classes
from nsbench.data.source import DataSource, Split, SurrogateName, crop_of_small, digest_of
from nsbench.errors import CorruptImage, DataError, NotPartOfSource, UnknownName
from nsbench.progress import SILENT, Progress

PARTS: dict[str, dict[str, dict[str, object]]] = {  # set -> our split -> what torchvision calls it
    **{
        name: {"train": {"train": True}, "clean": {"train": False}}
        for name in ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST")
    },
    **{
        name: {"train": {"split": "train"}, "clean": {"split": "test"}}
        for name in ("SVHN", "STL10", "Flowers102", "Food101", "GTSRB", "DTD", "FGVCAircraft", "StanfordCars")
    },
    "OxfordIIITPet": {"train": {"split": "trainval"}, "clean": {"split": "test"}},
    "Imagenette": {"train": {"split": "train"}, "clean": {"split": "val"}},
}
TARGETS = ("targets", "labels", "_labels", "y")  # what torchvision's classes call their labels
LOOKED_AT = 64  # images whose pixels are in the digest, where they are not all in one array


class TorchvisionSplit(Split):
    """One part of a set."""

    def __init__(self, source: str, name: str, images: Any) -> None:
        self.source, self.name, self.images = source, name, images
        self.labels = np.asarray(_targets(images), dtype=np.int64)
        part = "train" if name == "train" else "test"
        self.ids = np.array([f"{part}/{index:06}" for index in range(len(images))])

    def load(self, index: int) -> Image.Image:
        try:
            image: Image.Image = self.images[index][0]
            return image.convert("RGB")
        except (OSError, ValueError, SyntaxError, IndexError) as error:
            raise CorruptImage(
                f"{self.source} {self.ids[index]}: cannot be read ({error}); get the set again"
            ) from error

    @cached_property
    def digest(self) -> str:
        return digest_of("torchvision", self.source, self.name, *self.labels.tolist(), self._content())

    def _content(self) -> str:
        """Over all pixels where they are one array, else over some images."""
        held = getattr(self.images, "data", None)
        if held is not None and hasattr(held, "shape"):
            return hashlib.sha256(np.ascontiguousarray(np.asarray(held)).tobytes()).hexdigest()
        chosen = np.unique(np.linspace(0, len(self) - 1, LOOKED_AT).astype(int)).tolist()
        return hashlib.sha256(b"".join(self.load(index).tobytes() for index in chosen)).hexdigest()


class TorchvisionSource(DataSource):
    """A set of torchvision. Raises UnknownName, or DataError where it does not lie under `root`."""

    default_recipe = "paper"

    def __init__(self, name: str, root: Path, engine: str = ENGINE, surrogate: SurrogateName | None = None) -> None:
        if name not in PARTS:
            raise UnknownName("torchvision set", name, PARTS)
        self.set, self.root, self.engine, self.surrogate = name, root, engine, surrogate
        self.name, self._splits = name.lower(), dict[str, Split]()
        images = self._images("clean")
        named = getattr(images, "classes", None)
        count = int(np.max(_targets(images))) + 1
        self.class_names = tuple(map(str, named)) if named and len(named) >= count else tuple(map(str, range(count)))
        self.title = f"{name} ({len(self.class_names)} classes)"

    @cached_property
    def crop_pct(self) -> float | None:  # type: ignore[override]  # worked out of the pictures
        return crop_of_small(self.split("clean"))

    def has_meaning(self, split: str) -> bool:
        return split in PARTS[self.set] or split.startswith("c/")

    def splits(self) -> list[str]:
        return [*PARTS[self.set], *corrupted_names()]

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        if not self.has_meaning(name):
            raise NotPartOfSource(f"'{name}' is not part of {self.title}")
        if name not in self._splits:
            if name.startswith("c/"):
                self._splits[name] = corrupted_of_own_classes(self.split("clean", progress), name, self.engine)
            else:
                self._splits[name] = TorchvisionSplit(self.set, name, self._images(name))
        return self._splits[name]

    def _images(self, split: str) -> Any:
        from torchvision import datasets

        try:
            return getattr(datasets, self.set)(str(self.root), download=False, **PARTS[self.set][split])
        except (RuntimeError, OSError, ValueError, LookupError, ImportError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"torchvision:{self.set}:{self.root}: cannot be opened ({why}); get it once with torchvision.datasets."
                f"{self.set}('{self.root}', download=True)"
            ) from error


def _targets(images: Any) -> Any:
    for name in TARGETS:
        if hasattr(images, name):
            return getattr(images, name)
    return [label for _, label in (images[index] for index in range(len(images)))]
