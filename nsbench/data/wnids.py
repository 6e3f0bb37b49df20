"""The 1000 ImageNet classes in the order that every checkpoint uses: sorted WordNet ids (torchvision, timm).

Labels come from this list and never from whichever folders happen to exist: a tree with a class missing would
otherwise shift all labels after it. The 200 classes of ImageNet-A and of ImageNet-R are those of their folders
(github.com/hendrycks/natural-adv-examples, github.com/hendrycks/imagenet-r); 86 are in both.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def wnids() -> tuple[str, ...]:
    """("n01440764", ...), 1000 of them; the position is the label."""
    return tuple(line.split(" ", 1)[0] for line in _lines("imagenet_wnids.txt"))


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """("tench, Tinca tinca", ...), in the order of the labels."""
    return tuple(line.split(" ", 1)[1] for line in _lines("imagenet_wnids.txt"))


@lru_cache(maxsize=1)
def label_of() -> dict[str, int]:
    """WordNet id -> label, 0 to 999."""
    return {wnid: label for label, wnid in enumerate(wnids())}


@lru_cache(maxsize=2)
def subset(split: str) -> tuple[int, ...] | None:
    """The 200 labels that the split "a" or "r" is scored over; None for every other split."""
    if split not in ("a", "r"):
        return None
    return tuple(int(line) for line in _lines(f"imagenet_{split}_indices.txt"))


def _lines(file: str) -> list[str]:
    return files("nsbench.data").joinpath(file).read_text(encoding="utf-8").splitlines()
