"""What every entry of a baseline must hold to, however its file came about: figures that follow from its outcomes."""

from __future__ import annotations

import math

import numpy as np

from nsbench.regression.entry import TOLERANCE, Definition, Entry
from nsbench.regression.noise import Noise


def check_sound(entry: Entry) -> None:
    """Raises ValueError, naming the suite, for an entry that `nsbench baseline record` cannot have written."""
    what = _odd_images(entry) or _odd_definition(entry.definition) or _odd_noise(entry.noise)
    if not what and not abs(float(entry.values.mean()) - entry.score) <= TOLERANCE:
        what = f"says {entry.score:.4f}, and its outcomes give {float(entry.values.mean()):.4f}"
    if what:
        raise ValueError(f"{entry.key}: {what}")


def _odd_images(entry: Entry) -> str:
    ids = entry.images.ids
    if not len(ids) or not len(entry.right_CN):
        return "holds no image"
    return "" if len(np.unique(ids)) == len(ids) and (np.sort(ids) == ids).all() else "its images are not in order"


def _odd_definition(definition: Definition) -> str:
    conditions = definition.measured.get("conditions")
    if not isinstance(conditions, list) or not all(map(_is_condition, conditions)):
        return "does not say what it measured"
    return "" if all(map(math.isfinite, definition.weights)) else "its weights are no numbers"


def _is_condition(value: object) -> bool:
    """[name, split, attack or None, ...]"""
    if not isinstance(value, list) or len(value) < 3:
        return False
    name, split, attack = value[:3]
    return isinstance(name, str) and isinstance(split, str) and isinstance(attack, str | None)


def _odd_noise(noise: Noise) -> str:
    least = 0.0 if noise.lost is None else -math.inf
    sound = 0 <= (noise.lost or 0) <= noise.flipped <= noise.images
    sound = sound and least <= noise.mean < math.inf and abs(noise.mean) < math.inf and 0 <= noise.sd < math.inf
    return "" if sound else "its noise is impossible"
