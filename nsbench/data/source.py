"""What a data source promises: splits by name, stable image ids, labels, an optional class subset and a digest.

Splits have the same names in every source: train, clean, v2, a, r, sketch, stylized, damagenet,
c/<corruption>/<severity> and transfer/<eps in 1/255>. A suite never knows which source it runs on; a result always
does.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nsbench.errors import CorruptImage, ModelError, UsageError
from nsbench.files import WEIGHT_SUFFIXES, expanded
from nsbench.progress import SILENT, Progress
from nsbench.randomness import stratified_order

if TYPE_CHECKING:
    import torch


# Models that come with their weights, so that no checkpoint has to follow
WITH_WEIGHTS = ("robustbench:", "hf-hub:", "local-dir:", "torchvision:", "transformers:")


@dataclass(frozen=True)
class SurrogateName:
    """Which model transfer sets are made on, and the file of its weights where it needs one."""

    name: str
    checkpoint: Path | None = None

    @classmethod
    def parse(cls, spec: str, folder: Path = Path()) -> SurrogateName:
        """`spec`: NAME or NAME:CHECKPOINT (relative to `folder`).

        A name that begins with one of WITH_WEIGHTS has colons of its own: a checkpoint behind it is told by its suffix.
        """
        if not spec.startswith(WITH_WEIGHTS):
            name, _, checkpoint = spec.partition(":")
        elif spec.count(":") > 1 and spec.endswith(WEIGHT_SUFFIXES):
            name, _, checkpoint = spec.rpartition(":")
        else:
            name, checkpoint = spec, ""
        if not name:
            raise UsageError(
                f"surrogate '{spec}': give NAME or NAME:CHECKPOINT, such as vit_tiny_patch16_224:vit_tiny.safetensors"
            )
        return cls(name, folder / expanded(checkpoint) if checkpoint else None)


@dataclass(frozen=True)
class SetClasses:
    """The classes of a set that are coarser than those of its source, or fewer."""

    names: tuple[str, ...]  # in the order of the set's labels
    of: tuple[int | None, ...]  # by class of the source: the set's class that it belongs to; None: to none
    by: str  # how the probabilities of several become one: "sum", "mean" or "max"


class Split(ABC):
    """Images with labels. Small and picklable: data loader workers get a copy."""

    name: str  # "clean", "c/fog/3", ...
    ids: np.ndarray  # (n,) str, stable: they survive a move of the data and any subset
    labels: np.ndarray  # (n,) int64, index into the source's classes
    classes: tuple[int, ...] | None = None  # predictions are limited to these; None: all classes
    # "official", "embedded", "generated-jpeg", "generated-png", "generated-memory" or "attacked on ..."
    origin: str = "official"
    surrogate_digest: str | None = None  # of the weights that the images were attacked on, where they were
    side: int | None = None  # pixels of every image, where they are square and it is known without opening one
    resized_from: int | None = None  # side of ready images before they were resized for a model
    made_at: int | None = None  # side at which corruptions were made, where it is not the official 224
    also_right: Mapping[str, tuple[int, ...]] | None = None  # by id: labels that are right beside the image's own
    set_classes: SetClasses | None = (
        None  # what labels and predictions are of, where these are not the source's classes
    )
    unread: tuple[str, ...] = ()  # pictures that lie among the set's and are not read: see `unread`
    discretiser: Path | None = (
        None  # weights of a vector-quantised autoencoder of such images, where they come with one
    )

    masks: str = ""  # where masks of the foreground come from, where there are some
    masks_digest: str = ""  # changes whenever they do

    @abstractmethod
    def load(self, index: int) -> Image.Image:
        """Image `index` as RGB. Raises CorruptImage with the file's name."""

    @property
    def masked(self) -> np.ndarray | None:
        """(n,) bool: which images have a mask of their foreground; None: this split has no masks."""
        return None

    def mask(self, index: int) -> Image.Image:
        """The foreground of image `index`, one of the masked: a grey picture of its size, 255 inside."""
        raise NotImplementedError(f"{self.name}: has no masks")

    @property
    @abstractmethod
    def digest(self) -> str:
        """16 hex digits that change whenever the images, ids or labels do."""

    def prepare(  # noqa: B027  (nearly every split has all its images)
        self,
        indices: np.ndarray,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        workers: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        """Make those of these images that do not exist yet, before any is loaded; nearly every split has them all."""

    def __len__(self) -> int:
        return len(self.ids)

    def limited(self, n: int | None) -> Split:
        """A stable, nested, class-stratified subset of at most n images; the split itself where it is smaller."""
        if n is None or n >= len(self):
            return self
        return Subset(self, np.sort(stratified_order(self.ids, self.labels)[:n]))


class Wrapped(Split):
    """A split made of another one: whatever it does not say itself is the other's, fields of later days included."""

    def __init__(self, base: Split) -> None:
        self.base = base
        for name in Split.__annotations__:
            setattr(self, name, getattr(base, name))

    def without_masks(self) -> None:
        """Its pictures show another part of the image than the other's masks do."""
        self.masks, self.masks_digest = "", ""

    @property
    def masked(self) -> np.ndarray | None:
        return self.base.masked if self.masks else None

    def mask(self, index: int) -> Image.Image:
        return self.base.mask(index) if self.masks else super().mask(index)

    def prepare(
        self,
        indices: np.ndarray,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        workers: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        self.base.prepare(indices, device=device, batch_size=batch_size, workers=workers, progress=progress)


class Subset(Wrapped):
    """Some images of a split, in the split's order, which its digest does not depend on."""

    def __init__(self, base: Split, indices: np.ndarray) -> None:
        super().__init__(base)
        self.indices = indices
        self.ids, self.labels = base.ids[indices], base.labels[indices]

    def load(self, index: int) -> Image.Image:
        return self.base.load(int(self.indices[index]))

    @property
    def masked(self) -> np.ndarray | None:
        known = self.base.masked
        return None if known is None else known[self.indices]

    def mask(self, index: int) -> Image.Image:
        return self.base.mask(int(self.indices[index]))

    def prepare(
        self,
        indices: np.ndarray,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        workers: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        self.base.prepare(
            self.indices[indices], device=device, batch_size=batch_size, workers=workers, progress=progress
        )

    @cached_property
    def digest(self) -> str:
        return digest_of(self.base.digest, *np.sort(self.ids))


class DataSource(ABC):
    """A named collection of splits over one set of classes."""

    name: str  # folder name in the results: "shapes10", "imagenet"
    title: str  # for people
    class_names: Sequence[str]
    default_model: str | None = None  # used when no --model is given
    default_recipe: str = "paper"
    surrogate: SurrogateName | None = None  # the model that transfer sets are made on
    crop_pct: float | None = None  # the crop's share of its images, for a model of one's own that does not say it
    root: Path | None = None

    def has_meaning(self, split: str) -> bool:
        """Whether a split of this name means something for the source's classes, be it here or not."""
        return True

    @abstractmethod
    def splits(self) -> list[str]:
        """Names of the splits that are here now."""

    @abstractmethod
    def split(self, name: str, progress: Progress = SILENT) -> Split:
        """One split, made on first use where the source makes its own. Raises MissingSplit."""


class Remembered(DataSource):
    """A source whose splits are opened once, for whoever asks for them thousands of times."""

    def __init__(self, base: DataSource) -> None:
        self.base, self._known = base, dict[str, Split]()
        self.name, self.title, self.class_names = base.name, base.title, base.class_names
        self.default_model, self.default_recipe = base.default_model, base.default_recipe
        self.surrogate, self.crop_pct, self.root = base.surrogate, base.crop_pct, base.root

    def has_meaning(self, split: str) -> bool:
        return self.base.has_meaning(split)

    def splits(self) -> list[str]:
        return self.base.splits()

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        if name not in self._known:
            self._known[name] = self.base.split(name, progress)
        return self._known[name]


SMALL = 96  # pixels: sets of so small square pictures are shown to models whole
LOOK = 16  # images that are tried to learn the size


def first_size(split: Split) -> tuple[int, int] | None:
    """Width and height of the first image that can be read; None where none of the first few can."""
    for index in range(min(LOOK, len(split))):
        try:
            return split.load(index).size
        except CorruptImage:  # it is named where the images are evaluated
            continue
    return None


def require_its_classes(source: DataSource, name: str, count: int, further: str = "") -> None:
    """Raises ModelError where the model `name` has another number of outputs than the source has classes."""
    if count != len(source.class_names):
        raise ModelError(
            f"model '{name}' has {count} classes, {source.title} has {len(source.class_names)}; "
            f"choose a model and a data source that belong together{further}"
        )


def crop_of_small(split: Split) -> float | None:
    """1.0 where the first image is small and square, for a model that says nothing of its crop."""
    width, height = first_size(split) or (0, SMALL)
    return 1.0 if width == height <= SMALL else None


def digest_of(*parts: object) -> str:
    """16 hex digits over printable parts."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]
