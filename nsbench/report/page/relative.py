"""Relative mCE of a stored row: how much more a model errs under corruption than on the same images without it.

The same figure as `corruption_error.corruption_errors` gives, from what the leaderboard has read already, so that a
thousand rows take no longer than a look.
"""

from __future__ import annotations

import numpy as np

from nsbench.leaderboard.outcomes import ImageSet, Reader
from nsbench.results import Result
from nsbench.statistics import ALEXNET_ERROR, SEVERITIES
from nsbench.statistics.corruption_error import ALEXNET_CLEAN_ERROR


class RelativeErrors:
    """Asks each pair of image sets once where the images of one are in the other."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._places: dict[tuple[int, int], np.ndarray | None] = {}

    def of(self, corrupted: Result, clean: Result) -> float | None:
        """Relative mCE in percent; None unless all 75 conditions are there, and clean outcomes of all their images."""
        accuracy = {condition["name"]: condition["accuracy"] for condition in corrupted.conditions}
        one, two = self.reader.per_image(corrupted), self.reader.per_image(clean)
        if isinstance(one, str) or isinstance(two, str) or not two.accuracy:
            return None
        places = self._in(one.images, two.images)
        if places is None or any(f"{c}/{s}" not in accuracy for c in ALEXNET_ERROR for s in SEVERITIES):
            return None
        clean_error = 1 - float(two.values[places].mean()) / 100
        return 100 * float(
            np.mean(
                [
                    (1 - sum(accuracy[f"{c}/{s}"] for s in SEVERITIES) / (100 * len(SEVERITIES)) - clean_error)
                    / (alexnet - ALEXNET_CLEAN_ERROR)
                    for c, alexnet in ALEXNET_ERROR.items()
                ]
            )
        )

    def _in(self, images: ImageSet, others: ImageSet) -> np.ndarray | None:
        """Positions of `images` in `others`, by id, else by id without its suffix; None where one is not there."""
        key = id(images), id(others)
        if key not in self._places:
            exact = {image_id: place for place, image_id in enumerate(others.ids.tolist())}
            stems = {_stem(image_id): place for image_id, place in exact.items()}
            found = [exact.get(one, stems.get(_stem(one))) for one in images.ids.tolist()]
            self._places[key] = None if None in found else np.array(found)
        return self._places[key]


def _stem(image_id: bytes) -> bytes:
    folder, slash, name = image_id.rpartition(b"/")
    return folder + slash + (name.rpartition(b".")[0] or name)
