"""Which image a file is, whatever it lies in: the same id in a folder, an archive, shards and tables.

The id decides which images a limit leaves, where an attack starts, how a corruption is drawn, and which outcomes of two
results are paired. So it may depend neither on the container nor on the folders and the format of the copy at hand:
"n01440764/ILSVRC2012_val_00000293.JPEG" of a folder, "ILSVRC2012_val_00000293_n01440764.JPEG" of a Hugging Face table
and "ILSVRC2012_val_00000293.png" of a flat set are all ILSVRC2012_val_00000293.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_CLASS = re.compile(r"(?:^|/)(n\d{8})/")
_CLASS_BEHIND = re.compile(r"(?<=.)_n\d{8}$")


def canonical_ids(names: Sequence[str], classes: Sequence[str] | None = None) -> np.ndarray:
    """(n,) str: the id of each image of a set, from its file's name.

    `names`: with folders and suffix, as the container has them; a name without a picture's suffix and without a class
    folder (a row of a table that keeps no names) is its own id. `classes`: of each image, its wnid; where it is not given
    it is the folder that the name has. The id is the stem of the file without a wnid behind it; where two images of the
    set share one (ImageNet-R counts "art_0" anew in each class), all have their class before it, and where that does not
    tell them apart either, all have their whole name. Ids of ids are the ids themselves.
    """
    stems = [_stem(name) for name in names]
    if _differ(stems):
        return _array(stems)
    of = classes if classes is not None else [_class(name) for name in names]
    within = [
        f"{one}/{stem}" if one and stem != name else stem for name, one, stem in zip(names, of, stems, strict=True)
    ]
    if _differ(within):
        return _array(within)
    whole = [without_suffix(name) for name in names]
    return _array(whole if _differ(whole) else list(names))


def known_as(name: str) -> tuple[str, ...]:
    """The ids that the image of this file may have, which of them depends on the rest of its set."""
    stem, of = _stem(name), _class(name)
    return stem, f"{of}/{stem}", without_suffix(name), name


def without_suffix(name: str) -> str:
    """The name without the suffix of a picture; other endings, "0.25" say, belong to the name."""
    head, dot, suffix = name.rpartition(".")
    return head if head and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def file_stem(image_id: str) -> str:
    """What a file that is made of this image is called, without its suffix; its class is the folder's business."""
    return without_suffix(image_id.rpartition("/")[2])


def _stem(name: str) -> str:
    plain = without_suffix(name)
    if plain == name and not _CLASS.search(name):
        return name
    return _CLASS_BEHIND.sub("", plain.rpartition("/")[2])


def _class(name: str) -> str:
    found = _CLASS.findall(name)
    return str(found[-1]) if found else ""


def _differ(ids: Sequence[str]) -> bool:
    return len(set(ids)) == len(ids)


def _array(ids: Sequence[str]) -> np.ndarray:
    return np.array(ids, dtype=str)
