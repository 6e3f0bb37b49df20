"""The splits that are drawn from parameters alone: how many images, which classes, which style, which hand.

`a`, `damagenet` and the corrupted splits are made from these (see `make.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nsbench.files import keep_freed_memory
from nsbench.shapes10.render import column, coverage, distance, occluded, paint, quantise
from nsbench.shapes10.renditions import paint_rendition, paint_sketch, paint_stylized
from nsbench.shapes10.scenes import Scene, Style, draw

CHUNK = 50  # images painted at once: few enough for the processor's cache
ALL = tuple(range(10))
A_CLASSES = (0, 2, 4, 5, 7, 9)  # disk, square, star, cross, crescent, hexagon
R_CLASSES = (2, 3, 4, 5, 6, 9)  # square, triangle, star, cross, heart, hexagon: four in common with A_CLASSES


@dataclass(frozen=True)
class Drawn:
    """A split that is drawn: image `index` is a function of the split's name and `index`."""

    count: int
    style: Style
    classes: tuple[int, ...] = ALL
    hand: Callable[[Scene, np.ndarray], np.ndarray] | None = None  # None: the natural picture


NATURAL = Style()
SHIFTED = replace(
    NATURAL, rotation=36.0, radius=(9.0, 18.5), shift=5.5, contrast=(0.45, 1.0), texture=(0.2, 0.85), material=0.25
)
HARD = replace(
    NATURAL, rotation=38.0, radius=(11.0, 19.0), shift=5.5, contrast=(0.4, 0.9), texture=(0.3, 0.9), material=0.05,
    occluded=0.25, cluttered=0.3, camouflaged=0.25,
)  # fmt: skip
BOLD = replace(NATURAL, radius=(13.0, 19.0), contrast=(0.75, 1.0))

DRAWN: dict[str, Drawn] = {
    "train": Drawn(20_000, NATURAL),
    "clean": Drawn(1_000, NATURAL),
    "v2": Drawn(1_000, SHIFTED),
    "r": Drawn(600, BOLD, R_CLASSES, paint_rendition),
    "sketch": Drawn(1_000, BOLD, hand=paint_sketch),
    "stylized": Drawn(1_000, replace(BOLD, conflict=True, fill=(0.85, 1.0)), hand=paint_stylized),
}
CANDIDATES = Drawn(6_000, HARD, A_CLASSES)  # of split a


def labels_of(drawn: Drawn, indices: np.ndarray) -> np.ndarray:
    """Balanced: the classes in turn."""
    labels: np.ndarray = np.asarray(drawn.classes, dtype=np.int64)[np.asarray(indices) % len(drawn.classes)]
    return labels


def render(split: str, indices: np.ndarray) -> np.ndarray:
    """Images (n, 48, 48, 3) uint8 of a drawn split; "a" gives its candidates."""
    keep_freed_memory()
    drawn = CANDIDATES if split == "a" else DRAWN[split]
    pictures = [np.empty((0, 48, 48, 3), dtype=np.uint8)]
    for start in range(0, len(indices), CHUNK):
        part = np.asarray(indices[start : start + CHUNK])
        scene = draw(split, part, labels_of(drawn, part), drawn.style)
        pictures.append(quantise(drawn.hand(scene, part) if drawn.hand else paint(scene)))
    return np.concatenate(pictures)


def foreground(split: str, index: int) -> np.ndarray:
    """(48, 48) uint8: the shape with its outline in an image of a drawn split, 255 inside, without what lies before it.

    Exact for natural pictures; the hands of renditions and sketches bend edges by a pixel or two.
    """
    drawn, indices = DRAWN[split], np.array([index])
    scene = draw(split, indices, labels_of(drawn, indices), drawn.style)
    inside = coverage(distance(scene) - column(scene.outline)) * (1 - occluded(scene))
    mask: np.ndarray = np.floor(inside[0] * 255 + 0.5).astype(np.uint8)
    return mask
