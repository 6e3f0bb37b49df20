"""What the label numbers of a set mean, where the set itself does not say.

Folders called by wnids and tables with class names say it. Bare numbers do not: 0 to 199 in a copy of ImageNet-A may be
ImageNet's classes, tench to a kind of spider, or the set's own 200 as some loader counted its folders. One of the two
readings gives an accuracy near 0 %. So numbers that fill 0 to K-1 with K below 1000 are asked about, unless names lie
beside the pictures (classnames.txt, info.json) or a config file states the meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nsbench.data import wnids
from nsbench.errors import DataError
from nsbench.files import read_regular

ALIKE = 0.9  # share of the 1000 class names that must agree: spellings differ a little from copy to copy
IMAGENET = "imagenet"  # in a config file: the numbers are ImageNet's own, 0 to 999
NAME_FILES = ("classnames.txt", "info.json")
NAME_KEYS = ("class_names", "classnames", "classes", "label_names", "names")


def meaning(class_names: Sequence[str], where: Path) -> dict[int, int]:
    """Class number of a file -> label: by wnids, or by ImageNet's English names. Raises DataError for other names."""
    order = wnids.label_of()
    if all(name in order for name in class_names):
        return {number: order[name] for number, name in enumerate(class_names)}
    if len(class_names) == len(order):
        alike = sum(_first(ours) == _first(theirs) for ours, theirs in zip(wnids.names(), class_names, strict=True))
        if alike >= ALIKE * len(order):
            return {label: label for label in order.values()}
    found = [_english().get(_first(name)) for name in class_names]
    known = [label for label in found if label is not None]
    if len(known) == len(class_names) == len(set(known)):
        return dict(enumerate(known))
    raise DataError(
        f"{where}: its {len(class_names)} classes ({', '.join(class_names[:2])}, ...) are neither wnids nor "
        "the 1000 names in their usual order; save the set with wnids as class names"
    )


def names_beside(folder: Path) -> tuple[list[str], Path] | None:
    """Class names in the order of their numbers, of a file beside shards or tables. Raises DataError where it is broken."""
    for name in NAME_FILES:
        path = folder / name
        if not path.exists():
            continue
        try:
            text = read_regular(path).decode("utf-8")
            names = _listed(json.loads(text)) if path.suffix == ".json" else text.splitlines()
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as class names ({error}); correct it or move it away") from error
        stated = [name.strip() for name in names or () if name.strip()]
        if stated:
            return stated, path
    return None


def settled(
    labels: np.ndarray, name: str, place: Path, own: tuple[int, ...] | None, stated: Sequence[int] | str | None
) -> np.ndarray:
    """(n,) labels 0 to 999 of a set whose `labels` are bare numbers.

    `own`: the classes that the set is scored over, where they are fewer. `stated`: what a config file says: the labels
    of the classes in the order of their numbers, or a word. Raises DataError where two readings remain.
    """
    count = int(labels.max()) + 1 if len(labels) else 0
    if stated == IMAGENET or not _is_dense(labels, count):
        return labels
    if isinstance(stated, Sequence) and not isinstance(stated, str) and len(stated) == count:
        renumbered: np.ndarray = np.array(stated, dtype=np.int64)[labels]
        return renumbered
    if stated is not None:
        return labels  # "present", or a list of other length: ImageNet's numbers, held against it
    own_order = (
        f'{name} = "{name}"' if own is not None and len(own) == count else f"{name} = [the {count} wnids in order]"
    )
    raise DataError(
        f"{place}: its labels are the numbers 0 to {count - 1} without class names: ImageNet's own (0 is "
        f"{wnids.wnids()[0]}), or {count} classes counted in an order of their own? One of the two gives accuracies near "
        f'chance. State it in a config file, [classes] {name} = "{IMAGENET}" or {own_order}; or put the names, in order, '
        f"into {NAME_FILES[0]} beside the pictures"
    )


def check_members(labels: np.ndarray, own: tuple[int, ...] | None, place: Path, names: Sequence[str] = ()) -> None:
    """Raises DataError for a label that the set is not scored over: its images would count as errors always.

    `names`: of the classes; ImageNet's wnids where none are given.
    """
    if own is None:
        return
    foreign = np.setdiff1d(labels, own)
    if len(foreign):
        count = int(np.isin(labels, foreign).sum())
        raise DataError(
            f"{place}: {count:,} images are of {len(foreign)} class(es) that are none of this set's {len(own)}, such as "
            f"{(names or wnids.wnids())[int(foreign[0])]}; they would count as errors always. "
            "Are its labels numbered otherwise? Get the official set, or correct its labels"
        )


def _is_dense(labels: np.ndarray, count: int) -> bool:
    """All of 0 to count - 1, and fewer than ImageNet has."""
    return 0 < count < len(wnids.wnids()) and len(np.unique(labels)) == count


def _listed(content: object) -> list[str]:
    """Class names in a JSON record of whatever form."""
    if isinstance(content, list) and all(isinstance(one, str) for one in content):
        return list(content)
    if isinstance(content, Mapping):
        for key in NAME_KEYS:
            if found := _listed(content.get(key)):
                return found
        numbered = {
            int(key): value for key, value in content.items() if str(key).isdecimal() and isinstance(value, str)
        }
        if numbered and sorted(numbered) == list(range(len(numbered))) and len(numbered) == len(content):
            return [numbered[number] for number in range(len(numbered))]
    return []


def _english() -> dict[str, int]:
    """First English name -> label, of those names that only one class has."""
    found: dict[str, int] = {}
    twice = set()
    for label, name in enumerate(wnids.names()):
        first = _first(name)
        twice.update({first} & found.keys())
        found[first] = label
    return {name: label for name, label in found.items() if name not in twice}


def _first(name: str) -> str:
    return name.split(",")[0].strip().lower().replace("_", " ")
