"""`shapes10`, the embedded data source: ten shapes on textured grounds, 48 x 48, rendered on first use.

Every split means what its ImageNet namesake means: `v2` is drawn anew under mildly shifted conditions, `a` holds
natural pictures that a fixed classifier gets wrong (6 classes), `r` renditions (6 classes, 4 of them in `a`), `sketch`
black lines on white, `stylized` pictures whose texture contradicts their shape, `damagenet` adversarial pictures made
beforehand on another network, and `c/<corruption>/<severity>` the first 500 images (in stratified order) of `clean`,
corrupted. Image `i` of a split is a function of the split's name and `i`: other processors draw the same bytes, apart
from c/frost, where OpenCV resizes with other roundings (single grey levels), and c/motion_blur from severity 3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nsbench.data.kept import mapped_array
from nsbench.data.source import DataSource, Split, SurrogateName
from nsbench.errors import DataError, MissingSplit
from nsbench.progress import SILENT, Progress
from nsbench.shapes10 import cache, make
from nsbench.shapes10.shapes import CLASS_NAMES
from nsbench.shapes10.splits import DRAWN, foreground

__all__ = ["DISCRETISER", "EmbeddedSplit", "Shapes10"]

DISCRETISER = Path(__file__).parent / "weights" / "shapes10_discretiser.safetensors"  # see discretiser.py


class EmbeddedSplit(Split):
    """A split in the cache. Images stay in the file, mapped into memory; a pickled copy carries only ids and labels."""

    origin = "embedded"
    discretiser = DISCRETISER
    masks_digest = "rendered"  # the split's own digest changes with whatever they are made of

    def __init__(
        self, name: str, path: Path, records: np.ndarray, digest: str, classes: tuple[int, ...] | None
    ) -> None:
        self._records: np.ndarray | None = records
        self._digest = digest
        self.name, self.path, self.classes = name, path, classes
        self.ids, self.labels = np.array(records["id"]), np.array(records["label"])
        self.masks = "shapes10's renderer" if name in DRAWN else ""

    @property
    def masked(self) -> np.ndarray | None:
        return np.ones(len(self), dtype=bool) if self.name in DRAWN else None

    def mask(self, index: int) -> Image.Image:
        return Image.fromarray(foreground(self.name, int(str(self.ids[index]).rpartition("/")[2])))

    @property
    def images(self) -> np.ndarray:
        """All images, (n, 48, 48, 3) uint8, mapped from the file."""
        if self._records is None:
            try:
                self._records = mapped_array(self.path)
            except cache.BROKEN as problem:
                raise DataError(f"{self.path} is no longer readable ({problem}); run the command again") from problem
        return self._records["image"]

    def load(self, index: int) -> Image.Image:
        return Image.fromarray(np.array(self.images[index]))

    @property
    def digest(self) -> str:
        return self._digest

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_records": None}


class Shapes10(DataSource):
    """The embedded source. `split` renders what is not in the cache yet."""

    name = "shapes10"
    title = "shapes10 (embedded)"
    class_names = CLASS_NAMES
    default_model = "vit_shapes10"
    surrogate = SurrogateName("vit_shapes10")
    default_recipe = "shapes10"
    crop_pct = 1.0

    @property
    def root(self) -> Path:  # type: ignore[override]  # a property, since NSBENCH_CACHE may change
        return cache.folder()

    def splits(self) -> list[str]:
        return make.split_names()

    def split(self, name: str, progress: Progress = SILENT) -> EmbeddedSplit:
        if name not in make.split_names():
            raise MissingSplit(
                f"shapes10 has no split '{name}'; known: {', '.join(make.PLAIN_SPLITS)}, c/<corruption>/<severity> "
                f"with severity 1 to 5 and corruption one of {', '.join(make.corruption_names())}"
            )
        records, digest = make.ensure(name, progress)
        return EmbeddedSplit(name, make.path_of(name), records, digest, make.CLASSES.get(name))
