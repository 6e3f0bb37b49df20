"""Other hands: renditions (split r), line drawings (sketch) and pictures whose texture conflicts with their shape."""

from __future__ import annotations

import numpy as np

from nsbench.data.shapes10.render import paint
from nsbench.data.shapes10.scenes import Scene


def paint_rendition(scene: Scene, indices: np.ndarray) -> np.ndarray:
    return paint(scene)


def paint_sketch(scene: Scene, indices: np.ndarray) -> np.ndarray:
    return paint(scene)


def paint_stylized(scene: Scene, indices: np.ndarray) -> np.ndarray:
    return paint(scene)
