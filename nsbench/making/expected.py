"""What the published sets consist of: images in all and in each class, and what must hold for their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

# sha256 over the sorted lines "<stem> <label>\n" of the 50,000 validation images (list: Sizhe-Chen/DAmageNet on GitHub)
VAL_LABELS = "bc8e35f70611cfcdbecfd23cf734b88feaf17e6bd0ce84eec8a365676ad56d94"
VAL_IMAGES = 50_000
READY_SIDE = 224  # pixels of C, Stylized and DAmageNet, which are never resized


@dataclass(frozen=True)
class Expected:
    """A complete set."""

    images: int
    classes: int = 1000
    per_class: int | None = None  # where every class has the same number
    ready: bool = False  # 224 x 224 and used as it is
    of_val: bool = False  # made from the validation images and named like them
    adversarial: bool = False  # chosen or made so that classifiers fail: low accuracy says nothing about labels


EXPECTED = {
    "train": Expected(1_281_167),
    "clean": Expected(VAL_IMAGES, per_class=50, of_val=True),
    "v2": Expected(10_000, per_class=10),
    "v2-threshold-0.7": Expected(10_000, per_class=10),
    "v2-top-images": Expected(10_000, per_class=10),
    "a": Expected(7_500, classes=200, adversarial=True),
    "r": Expected(30_000, classes=200),
    "sketch": Expected(50_889),
    "stylized": Expected(50_000, per_class=50, ready=True, of_val=True),
    "damagenet": Expected(50_000, per_class=50, ready=True, of_val=True, adversarial=True),
    "c": Expected(50_000, per_class=50, ready=True, of_val=True),  # each corruption at each severity
}


def expected(split: str) -> Expected:
    """What `split` should hold; "c/fog/3" is a "c"."""
    return EXPECTED[split.partition("/")[0]]


def is_published_val(labels: Mapping[str, int]) -> bool | None:
    """Whether the labels, by image id, are those of the published list; None for other or fewer images."""
    if len(labels) != VAL_IMAGES or not all(name.startswith("ILSVRC2012_val_") for name in labels):
        return None
    text = "".join(f"{name} {label}\n" for name, label in sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest() == VAL_LABELS
