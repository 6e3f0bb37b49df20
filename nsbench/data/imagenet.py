"""An ImageNet tree: one folder with val/<wnid>, train/<wnid> and whichever of the shifted sets exist beside them.

Each set is found by its usual folder names. Labels are positions in the sorted list of the 1000 wnids.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from nsbench.corruptions import CORRUPTIONS, SEVERITIES, check
from nsbench.data import layouts, wnids
from nsbench.data.corrupted import CorruptedSplit
from nsbench.data.decode import decode
from nsbench.data.source import DataSource, Split, digest_of
from nsbench.errors import DataError, MissingSplit
from nsbench.progress import SILENT, Progress

FOLDERS: dict[str, tuple[str, ...]] = {  # split -> folder names; case, "_" and "-" do not matter
    "train": ("train",),
    "clean": ("val",),
    "v2": ("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency", "imagenetv2", "imagenet-v2"),
    "a": ("imagenet-a",),
    "r": ("imagenet-r",),
    "sketch": ("sketch", "imagenet-sketch"),
    "stylized": ("stylized", "imagenet-style", "imagenet-stylized", "stylized-imagenet"),
    "damagenet": ("damagenet",),
}
C_FOLDERS = ("imagenet-c",)  # <corruption>/<severity>/<wnid>
CORRUPTED = tuple(f"c/{corruption}/{severity}" for corruption in CORRUPTIONS for severity in SEVERITIES)


class FolderSplit(Split):
    """Image files under one folder, decoded one at a time."""

    def __init__(self, name: str, folder: Path, entries: list[layouts.Entry]) -> None:
        self.name, self.folder = name, folder
        self.classes = wnids.subset(name)
        self.ids = np.array([entry.id for entry in entries])
        self.labels = np.array([entry.label for entry in entries], dtype=np.int64)
        self.sizes = np.array([entry.size for entry in entries], dtype=np.int64)

    def load(self, index: int) -> Image.Image:
        return decode(self.folder / str(self.ids[index]))

    @cached_property
    def digest(self) -> str:
        """Over the sorted lines (id, label, byte size). File contents are not read: a same-sized edit goes unseen."""
        lines = sorted(zip(self.ids.tolist(), self.labels.tolist(), self.sizes.tolist(), strict=True))
        return digest_of("files", *(f"{image_id} {label} {size}" for image_id, label, size in lines))


class ImageNetTree(DataSource):
    """The sets of ImageNet-1k under one folder. Raises DataError where the folder holds none of them."""

    name = "imagenet"
    title = "ImageNet"
    class_names = wnids.wnids()
    default_recipe = "paper"

    def __init__(self, root: str | Path) -> None:
        self.root: Path = Path(root)
        self._splits: dict[str, Split] = {}
        self._folders = _find_sets(self.root)

    def splits(self) -> list[str]:
        plain = [name for name in FOLDERS if name in self._folders]
        if "c" in self._folders:
            return plain + [name for name in CORRUPTED if self._official_c(name).is_dir()]
        return plain + (list(CORRUPTED) if "clean" in self._folders else [])

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        """One split, scanned once. Images are read when they are loaded; C is made from val where it is not here."""
        if name not in self._splits:
            self._splits[name] = self._corrupted(name) if name.startswith("c/") else self._plain(name)
        return self._splits[name]

    def _plain(self, name: str) -> Split:
        if name not in FOLDERS:
            raise _unknown(name)
        if name not in self._folders:
            raise MissingSplit(f"{self.root}: no '{name}' set; looked for a folder {' or '.join(FOLDERS[name])}")
        folder = self._folders[name]
        return FolderSplit(name, folder, _reader(name)(folder))

    def _corrupted(self, name: str) -> Split:
        corruption, _, severity = name.removeprefix("c/").partition("/")
        if not severity.isdecimal():
            raise _unknown(name)
        check(corruption, int(severity))
        if "c" not in self._folders:
            return CorruptedSplit(self.split("clean"), corruption, int(severity))
        folder = self._official_c(name)
        if not folder.is_dir():
            raise MissingSplit(f"{folder}: is absent; copy it, or move {self._folders['c']} away to make C from val")
        return FolderSplit(name, folder, layouts.wnid_folders(folder))

    def _official_c(self, name: str) -> Path:
        return self._folders["c"] / name.removeprefix("c/")


def _unknown(name: str) -> MissingSplit:
    known = ", ".join(FOLDERS)
    return MissingSplit(f"imagenet has no split '{name}'; known: {known}, c/<corruption>/<severity>")


def _reader(name: str) -> Callable[[Path], list[layouts.Entry]]:
    readers = {"v2": layouts.numbered_or_wnid_folders, "damagenet": layouts.flat_or_wnid_folders}
    return readers.get(name, lambda folder: layouts.wnid_folders(folder, wnids.subset(name)))


def _find_sets(root: Path) -> dict[str, Path]:
    """Split name (and "c") -> folder, for the sets that are here."""
    if not root.is_dir():
        raise DataError(f"{root}: {'is not a folder' if root.exists() else 'does not exist'}; give an ImageNet tree")
    split_of = {folder: split for split, folders in {**FOLDERS, "c": C_FOLDERS}.items() for folder in folders}
    found: dict[str, Path] = {}
    with os.scandir(root) as items:
        folders = sorted(item.name for item in items if item.is_dir())
    for folder in folders:
        split = split_of.get(folder.lower().replace("_", "-"))
        if split is None:
            continue
        if split in found:
            raise DataError(f"{root}: both {found[split].name} and {folder} could be '{split}'; move one of them away")
        found[split] = root / folder
    if not found:
        hint = f" It looks like one set: give its parent, {root.resolve().parent}" if _looks_like_a_set(folders) else ""
        raise DataError(f"{root}: holds no set; expected val/<wnid>/*.JPEG, imagenet-a, sketch or the like.{hint}")
    return found


def _looks_like_a_set(folders: list[str]) -> bool:
    return any(folder in wnids.label_of() for folder in folders)
