"""Where the images of a source with classes of its own are, and which classes they have."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsbench.data import wnids
from nsbench.data.archives import SUFFIXES, open_archive
from nsbench.data.find import find_sets, read_pieces
from nsbench.data.hub import snapshot
from nsbench.data.layouts import open_tree
from nsbench.data.numbering import NAME_FILES, names_beside
from nsbench.data.parts import EVALUATION, SHARDS, TABLES, TRAIN, chosen, pieces
from nsbench.data.tables import class_names_of
from nsbench.data.trees import FolderTree, Tree
from nsbench.data.webdataset import is_shard
from nsbench.errors import DataError, UsageError
from nsbench.progress import SILENT

OWN = "folder"  # folder:PATH, whose classes are its own whatever they are called
NAMES = NAME_FILES[0]
LOOK = 5  # folders that are opened to see whether they are classes
Part = Tree | tuple[Path, ...]  # class folders, or the tables or shards that hold the images


@dataclass(frozen=True)
class Parts:
    """Where the images are. Without `clean`, a share of `train` is evaluated and the rest is trained on."""

    train: Part | None
    clean: Part | None


def find_parts(root: Path, follow_links: bool = False) -> Parts:
    """Where the images under `root` are. Raises DataError where there are none, or where two parts could be meant."""
    if os.path.isdir(root):
        return _of_tree(FolderTree(snapshot(root), follow_links))
    if os.path.isfile(root) and root.name.lower().endswith(SUFFIXES):
        return _of_tree(open_archive(root))
    if os.path.isfile(root) and root.suffix.lower() == TABLES:
        return Parts((root,), None)
    what = "is neither a folder nor an archive (.tar, .zip)" if os.path.exists(root) else "does not exist"
    raise UsageError(f"{root}: {what}; give a folder of class folders, or one with train and val")


def _of_tree(tree: Tree) -> Parts:
    while True:
        folders, files = tree.folders(), [file.name for file in tree.files()]
        parts = [folder for folder in folders if folder.lower() in (*TRAIN, *EVALUATION)]
        if parts:
            return _divided({part: _part(tree, part) for part in parts}, tree.place())
        ends = tuple(end for end in (TABLES, *SUFFIXES, ".arrow") if any(file.lower().endswith(end) for file in files))
        if ends and isinstance(tree, FolderTree):
            return _of_files(tree, [file for file in files if file.lower().endswith(ends[0])])
        if len(folders) != 1 or tree.images(folders[0]):
            break
        tree = tree.at(folders[0])
    if not any(tree.images(folder) for folder in folders[:LOOK]):
        raise DataError(
            f"{tree.place()}: holds no class folder; expected <class>/<image>, or train and val with such folders in them"
        )
    return Parts(tree, None)


def _part(tree: Tree, folder: str) -> Part:
    if isinstance(tree, FolderTree):
        inside = pieces("clean" if folder.lower() in EVALUATION else "train", tree.path / folder)
        if inside != (tree.path / folder,):
            return inside
    return tree.at(folder)


def _of_files(tree: FolderTree, files: Sequence[str]) -> Parts:
    """Tables, shards, or archives of class folders, whose names may say their part: train-00000-of-00002.parquet."""
    words: dict[str, list[Path]] = {}
    for file in files:
        match = re.match(rf"(?:.*[-_.])?({'|'.join((*TRAIN, *EVALUATION))})(?=[-_.])", file.lower())
        words.setdefault(match[1] if match else "", []).append(tree.path / file)
    if "" in words:
        if len(words) > 1:
            raise DataError(f"{words[''][0]}: says no part in its name, and others do; call it train-... or test-...")
        return Parts(_files(words[""]), None)
    return _divided({word: _files(paths) for word, paths in words.items()}, tree.path)


def _files(paths: Sequence[Path]) -> Part:
    """Tables or shards as they are; one archive of class folders as the tree that it holds."""
    if paths[0].name.lower().endswith(SUFFIXES) and not is_shard(paths[0]):
        if len(paths) > 1:
            raise DataError(f"{paths[1]}: is a second archive of the same part; put both into one, or unpack them")
        return open_tree(paths[0])
    return tuple(paths)


def _divided(parts: dict[str, Part], where: Path) -> Parts:
    training = next((part for part in parts if part.lower() in TRAIN), None)
    if not any(part.lower() in EVALUATION for part in parts):
        return Parts(parts[str(training)], None)
    return Parts(parts[training] if training else None, parts[chosen("clean", list(parts), where)])


def classes_of(parts: Parts, root: Path) -> tuple[str, ...]:
    """In the order of the labels. Raises DataError where the parts differ, or where two orders are meant by people."""
    stated = names_beside(root if root.is_dir() else root.parent)
    found = [_classes_in(part, root) for part in (parts.train, parts.clean) if part is not None]
    names = tuple(stated[0]) if stated else found[0]
    for others in found:
        if stated and all(map(str.isdecimal, others)):
            continue  # bare numbers, which the stated names count
        if foreign := [name for name in others if name not in names]:
            what = f"in {stated[1]}" if stated else "to train on"
            raise DataError(
                f"{root}: the class {foreign[0]} is evaluated and is none of the {len(names)} {what}; correct it"
            )
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{root}: {len(names)} classes, {len(set(names))} different ones: give at least two")
    numbers = isinstance(parts.train or parts.clean, Tree) and all(map(str.isdecimal, names))
    if numbers and not stated and list(names) != sorted(names, key=int):
        raise DataError(
            f"{root}: its class folders are numbers, which torchvision orders as words ({', '.join(names[:3])}, ...) and "
            f"others as numbers: put them, in the order of the model's outputs, into {NAMES} in this folder"
        )
    return names


def _classes_in(part: Part, root: Path) -> tuple[str, ...]:
    if isinstance(part, Tree):
        return tuple(sorted(part.folders()))
    if part[0].suffix.lower() == SHARDS:
        stated = names_beside(part[0].parent)
        if stated:
            return tuple(stated[0])
        labels = read_pieces("clean", part, SILENT).labels
        return tuple(map(str, range(int(labels.max()) + 1)))
    return class_names_of(part)


def _imagenet_sets(root: Path) -> Collection[str]:
    """What has the name of one of ImageNet's sets; nothing where nothing has."""
    try:
        return find_sets(root) if os.path.isdir(root) else ()
    except DataError:
        return ()


def has_own_classes(root: Path, follow_links: bool = False) -> bool:
    """Whether these are images of other classes than ImageNet's, as far as their names say it."""
    if not {"train", "clean"}.issuperset(_imagenet_sets(root)):
        return False
    try:
        parts = find_parts(root, follow_links)
        found = [_classes_in(part, root) for part in (parts.train, parts.clean) if part is not None]
    except (DataError, UsageError):
        return False
    names = [name for classes in found for name in classes]
    if len(names) < 2 or any(map(str.isdecimal, names)) or any(name in wnids.label_of() for name in names):
        return False
    english = {name.partition(",")[0].strip().lower() for name in wnids.names()}
    in_tables = not isinstance(parts.train or parts.clean, Tree)  # these may call ImageNet's classes by their names
    return not (in_tables and all(name.partition(",")[0].strip().lower() in english for name in names))
