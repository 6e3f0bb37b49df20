"""What each image adds to a figure: by the score's composition, from the stored per-image outcomes.

That the mean over images equals the stored score is checked, so no table is made of other outcomes than its figures.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from nsbench.errors import ResultError
from nsbench.results import Result
from nsbench.results.parquet_reading import Images
from nsbench.results.reader import OutcomesReader
from nsbench.types import Composition

TOLERANCE = 1e-6  # of a percentage point: rounding of sums in another order
IMAGES = 4096  # whose weighted outcomes are held for all conditions at once
NOT_MADE_OF = "its suite does not say what its score is made of"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in one order. Results on the same images share one object: see `Reader.shared`."""

    ids: np.ndarray  # (n,) str, sorted
    labels: np.ndarray  # (n,) int64
    key: bytes  # digest of both


@dataclass(frozen=True, eq=False)
class PerImage:
    """One result, image by image: `values.mean()` is the score, in its unit."""

    images: ImageSet
    values: np.ndarray  # (n,) float32, in the order of `images`
    accuracy: bool  # every value is 0 or 100: a wrong or a right prediction


@dataclass
class Reader(OutcomesReader):
    """Reads outcomes once and keeps what each image adds; sets of images are kept once for all results."""

    _sets: dict[bytes, ImageSet] = field(default_factory=dict)  # by key
    _sorted: dict[int, tuple[Images, ImageSet, np.ndarray]] = field(default_factory=dict)  # by id(images)
    _values: dict[int, tuple[Result, PerImage | str]] = field(default_factory=dict)  # by id(result)

    def per_image(self, result: Result) -> PerImage | str:
        """What each image adds to the score, or why that cannot be said. Cached."""
        if id(result) not in self._values:
            try:
                self._values[id(result)] = result, self._per_image(result)
            except ResultError as error:
                self._values[id(result)] = result, str(error)
        return self._values[id(result)][1]

    def take(self, result: Result, one: PerImage | str) -> None:
        """What `per_image` gives for a result, known from elsewhere."""
        self._values[id(result)] = result, one

    def shared(self, ids: np.ndarray, labels: np.ndarray) -> ImageSet:
        """The one set of these images; `ids` are sorted."""
        key = hashlib.sha256("\0".join(ids.tolist()).encode() + labels.tobytes()).digest()
        return self._sets.setdefault(key, ImageSet(ids, labels, key))

    def held(self, key: bytes) -> ImageSet | None:
        """The set of images of this key, where this reader has met it."""
        return self._sets.get(key)

    def _per_image(self, result: Result) -> PerImage:
        made_of = result.score.made_of
        if made_of is None:
            raise ResultError(NOT_MADE_OF)
        images, values = self._weighted(result, made_of)
        if abs(float(values.mean()) - result.score.value) > TOLERANCE:
            raise ResultError(f"its score is {result.score.value:.6f}, and its outcomes give {values.mean():.6f}")
        right_or_wrong = made_of.is_accuracy and set(made_of.weights.values()) <= {0.0, 100.0}
        return PerImage(images, values.astype(np.float32), right_or_wrong)

    def _weighted(self, result: Result, made_of: Composition) -> tuple[ImageSet, np.ndarray]:
        """Sum over conditions of weight x (1 where the image's outcome counts), in the order of the image set."""
        file = self.right(result)
        evaluated = {name for one in file for name in one.conditions}
        if absent := [name for name in made_of.weights if name not in evaluated]:
            raise ResultError(f"its score counts condition '{absent[0]}', which was not evaluated")
        counted: list[tuple[Images, np.ndarray]] = []
        for one in file:
            places = {name: place for place, name in enumerate(one.conditions)}
            weights = {name: weight for name, weight in made_of.weights.items() if weight and name in places}
            if weights:
                right_CN = one.right_CN[[places[name] for name in weights]]
                counts_CN = right_CN if made_of.counts == "right" else ~right_CN
                counted.append((one.images, _summed(np.array([*weights.values()]), counts_CN)))
        if not counted:
            raise ResultError("its score counts no condition")
        orders = [(*self._order(images), total) for images, total in counted]
        if len({id(images) for images, _, _ in orders}) > 1:
            raise ResultError("its conditions are on different images")
        return orders[0][0], np.sum([total[order] for _, order, total in orders], axis=0)

    def _order(self, stored: Images) -> tuple[ImageSet, np.ndarray]:
        """The set of these images, and the order that sorts their ids."""
        if id(stored) not in self._sorted:
            order = np.argsort(stored.ids)
            self._sorted[id(stored)] = stored, self.shared(stored.ids[order], stored.labels[order]), order
        return self._sorted[id(stored)][1:]


def _summed(weights_C: np.ndarray, counts_CN: np.ndarray) -> np.ndarray:
    """(n,) sum of weight x count over conditions, in their order, for so many images at a time."""
    total_N = np.empty(counts_CN.shape[1])
    for start in range(0, len(total_N), IMAGES):
        part = slice(start, start + IMAGES)
        total_N[part] = (weights_C[:, None] * counts_CN[:, part]).sum(axis=0)
    return total_N
