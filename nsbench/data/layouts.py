"""How ImageNet-like sets lie on disk, and how each layout gives labels.

- folders of classes: <wnid>/<image>, or <number>/<image> with 0 to 999 read as numbers (ImageNet-V2)
- flat: <stem>.png beside `val.txt` with lines "<stem>.JPEG <label>" (DAmageNet)

Nothing is followed out of a set's folder: links inside it must lead to places inside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from nsbench.data.wnids import label_of
from nsbench.errors import DataError

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
LABEL_FILE = "val.txt"


class Entry(NamedTuple):
    """One image of a set."""

    id: str  # path inside the set, with "/": "n01440764/ILSVRC2012_val_00000293.JPEG"
    label: int
    size: int  # bytes


def class_folders(folder: Path, label: Callable[[str], int | None], expected: str) -> list[Entry]:
    """All images of <class>/<image>, ordered by label, then by name.

    `label` gives the label of a folder name, or None where it is no class; `expected` says what a class folder is
    called. Raises DataError for a folder that is no class, a class folder without images, and an empty set.
    """
    entries: list[Entry] = []
    empty: list[str] = []
    for item in sorted(_visible(folder), key=lambda item: item.name):
        if not item.is_dir():
            continue  # README.txt and the like
        number = label(item.name)
        if number is None:
            raise DataError(f"{item.path}: is no class folder; expected {expected}. Move it out of {folder}")
        images = _images(folder, Path(item.path))
        if not images:
            empty.append(item.name)
        entries += [Entry(f"{item.name}/{image.name}", number, image.stat().st_size) for image in images]
    if empty:
        more = ", ..." if len(empty) > 3 else ""
        raise DataError(
            f"{folder}: {len(empty)} class folder(s) hold no image ({', '.join(empty[:3])}{more}); "
            "half copied? Copy them again, or remove the folders to leave these classes out"
        )
    if not entries:
        raise DataError(f"{folder}: holds no class folder; expected {expected}")
    return sorted(entries, key=lambda entry: (entry.label, entry.id))


def wnid_folders(folder: Path, classes: tuple[int, ...] | None = None) -> list[Entry]:
    """<wnid>/<image>, with every class inside `classes` where that is given."""
    entries = class_folders(folder, label_of().get, "one of the 1000 wnids, such as n01440764")
    allowed = set(label_of().values() if classes is None else classes)
    foreign = next((entry for entry in entries if entry.label not in allowed), None)
    if foreign is not None:
        raise DataError(
            f"{folder / foreign.id.split('/')[0]}: is none of the {len(allowed)} classes of this set; "
            "its images would count as errors always. Remove the folder, or get the official set"
        )
    return entries


def numbered_or_wnid_folders(folder: Path) -> list[Entry]:
    """ImageNet-V2: folders 0 to 999 are labels, not strings to sort; wnid folders are taken too."""
    kinds = {item.name.isdecimal() for item in _visible(folder) if item.is_dir()}
    if kinds == {True, False}:
        raise DataError(f"{folder}: mixes numbered and other folders; keep either 0 to 999 or wnids")
    if kinds == {True}:
        return class_folders(folder, _number, "a number from 0 to 999")
    return wnid_folders(folder)


def flat_with_labels(folder: Path) -> list[Entry]:
    """<stem>.png files with labels from val.txt, ordered by name; other lines of val.txt may lack their image."""
    labels = read_labels(folder / LABEL_FILE)
    images = _images(folder, folder)
    if not images:
        raise DataError(f"{folder}: holds {LABEL_FILE} but no image; half copied? Copy the images again")
    unlabelled = next((image.name for image in images if Path(image.name).stem not in labels), None)
    if unlabelled is not None:
        raise DataError(f"{folder / unlabelled}: has no line in {folder / LABEL_FILE}; complete the list")
    return [Entry(image.name, labels[Path(image.name).stem], image.stat().st_size) for image in images]


def flat_or_wnid_folders(folder: Path) -> list[Entry]:
    """DAmageNet: flat beside val.txt as published, or sorted into wnid folders."""
    return flat_with_labels(folder) if (folder / LABEL_FILE).is_file() else wnid_folders(folder)


def read_labels(path: Path) -> dict[str, int]:
    """Lines "ILSVRC2012_val_00000001.JPEG 65" -> {stem: label}, labels counted from 0 in sorted-wnid order."""
    labels: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, text = line.strip().rpartition(" ")
        label = _number(text)
        if not name or label is None:
            raise DataError(f"{path}:{number}: '{line[:60]}' is not '<image name> <label from 0 to 999>'; correct it")
        labels[Path(name.strip()).stem] = label
    return labels


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= 4 and int(text) < len(label_of()) else None


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            yield from (item for item in items if not item.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check the disk and your rights") from error


def _images(top: Path, folder: Path) -> list[os.DirEntry[str]]:
    """Image files of one folder, by name. A link that leads out of `top`, or nowhere, is refused."""
    if folder != top and folder.is_symlink():
        _check_link(top, folder)
    images = [item for item in _visible(folder) if item.name.lower().endswith(IMAGE_SUFFIXES)]
    for item in images:
        if item.is_symlink():
            _check_link(top, Path(item.path))
    return sorted((item for item in images if item.is_file()), key=lambda item: item.name)


def _check_link(top: Path, link: Path) -> None:
    target = link.resolve()
    if not target.is_relative_to(top.resolve()):
        raise DataError(f"{link}: is a link out of {top}; copy what it points to, or link the set's folder as a whole")
    if not target.exists():
        raise DataError(f"{link}: is a link to nothing; copy the file again")
