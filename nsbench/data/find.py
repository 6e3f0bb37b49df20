"""Which sets lie under one root, found by their usual names: folders, archives, shards, tables.

Case, "_" and "-" do not matter. A folder is taken before an archive of the same set: people unpack beside the
download. Two folders for one set are refused, since nobody can tell which one is meant. Kaggle's tree and the cache of
the Hugging Face hub are looked into; what lies inside a set's folder is told in `parts`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsbench.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS, SEVERITIES
from nsbench.data import layouts, wnids
from nsbench.data.archives import COMPRESSED, SUFFIXES, open_archive
from nsbench.data.hub import name_in_cache, repository, snapshot
from nsbench.data.kaggle import class_folder
from nsbench.data.made import marker_of
from nsbench.data.parts import pieces
from nsbench.data.stored import StoredSplit
from nsbench.data.tables import open_tables
from nsbench.data.trees import FolderTree, Tree
from nsbench.data.unread import unread_pictures
from nsbench.data.webdataset import is_shard, open_shards
from nsbench.errors import DataError, UsageError
from nsbench.progress import SILENT, Progress

FOLDERS: dict[str, tuple[str, ...]] = {  # split -> folder names; an archive has the same name and .tar or .zip
    "train": ("train",),
    "clean": ("val", "validation", "ilsvrc2012-img-val"),
    "v2": ("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency", "imagenetv2", "imagenet-v2"),
    "v2-threshold-0.7": ("imagenetv2-threshold0.7-format-val", "imagenetv2-threshold0.7", "imagenetv2-threshold-0.7"),
    "v2-top-images": ("imagenetv2-top-images-format-val", "imagenetv2-top-images"),
    "a": ("imagenet-a",),
    "r": ("imagenet-r",),
    "sketch": ("sketch", "imagenet-sketch"),
    "stylized": ("stylized", "imagenet-style", "imagenet-stylized", "stylized-imagenet"),
    "damagenet": ("damagenet",),
}
C_FOLDERS = ("imagenet-c",)  # <corruption>/<severity>/<wnid>, or blur/<corruption>/..., or archives of these
CORRUPTION_FOLDERS = {*CORRUPTIONS, *EXTRA_CORRUPTIONS}
SPLIT_OF = {folder: split for split, folders in {**FOLDERS, "c": C_FOLDERS}.items() for folder in folders}
SHARDS = re.compile(r"(?:.*[-_.])?(train|val|validation)[-_.]\d+.*\.(?:tar|parquet)")  # val-00003-of-00014.parquet


@dataclass(frozen=True)
class Place:
    """Where one set lies: a folder or an archive, or several shards or tables."""

    paths: tuple[Path, ...]
    labels: Path | None = None  # the label file of a flat set, where it was named

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}"


def find_sets(root: Path) -> dict[str, Place]:
    """Split name (and "c") -> place, for the sets here. DataError where there is none, UsageError for no folder."""
    if not os.path.isdir(root):
        raise UsageError(
            f"{root}: {'is not a folder' if os.path.exists(root) else 'does not exist'}; give an ImageNet tree"
        )
    root = snapshot(root)
    names = [(name, os.path.isdir(root / name)) for name in _listed(root)]
    folders = [name for name, is_folder in names if is_folder]
    places = _named(root, folders, name_in_cache)
    _add_kaggle(root, places)
    archives = [name for name, is_folder in names if not is_folder and name.lower().endswith((*SUFFIXES, *COMPRESSED))]
    for split, place in _named(root, archives, _without_suffix).items():
        places.setdefault(split, place)
    for split, place in {**_numbered_shards(root / "data"), **_numbered_shards(root)}.items():
        places.setdefault(split, place)
    _check_is_tree(root, places)
    if not places:
        inside = any(folder in wnids.label_of() for folder in folders)
        hint = f" It looks like one set: give its parent, {root.resolve().parent}" if inside else ""
        raise DataError(f"{root}: holds no set; expected val/<wnid>/*.JPEG, imagenet-a, sketch or the like.{hint}")
    return places


def _check_is_tree(root: Path, places: dict[str, Place]) -> None:
    """Raises DataError for a root that is called like a shifted set: its train and val would pass for ImageNet's."""
    folder = repository(root)
    name = SPLIT_OF.get(name_in_cache(folder.name).lower().replace("_", "-"))
    if name not in (None, "train", "clean") and places and set(places) <= {"train", "clean"}:
        raise DataError(
            f"{root}: is it the set '{name}', or a tree that holds {' and '.join(places)}? Give its parent, "
            f'{folder.parent}, for the one; for the other a config file, {next(iter(places))} = "..."'
        )


def _listed(folder: Path) -> list[str]:
    """Names of what is not hidden, sorted. Raises DataError for a folder that cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check the disk and your rights") from error


def _named(root: Path, names: list[str], plain: Callable[[str], str]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for name in names:
        split = SPLIT_OF.get(plain(name).lower().replace("_", "-"))
        if split is None:
            continue
        if split in places:
            raise DataError(
                f"{root}: both {places[split].paths[0].name} and {name} could be '{split}'; move one of them away"
            )
        places[split] = Place((root / name,))
    return places


def _add_kaggle(root: Path, places: dict[str, Place]) -> None:
    """train and val of ROOT/ILSVRC/Data/CLS-LOC. Raises DataError where they lie in the root as well."""
    inside = class_folder(root)
    if inside is None:
        return
    folders = [name for name in _listed(inside) if os.path.isdir(inside / name)]
    for split, place in _named(inside, folders, str).items():
        if split in places and not os.path.samefile(places[split].paths[0], place.paths[0]):
            raise DataError(
                f"{root}: both {places[split]} and {place} could be '{split}'; give {inside}, or move one away"
            )
        places[split] = place


def _without_suffix(name: str) -> str:
    ending = next(end for end in (*COMPRESSED, *SUFFIXES) if name.lower().endswith(end))
    return name[: -len(ending)]


def _numbered_shards(folder: Path) -> dict[str, Place]:
    """Sets in numbered pieces, such as validation-00000-of-00014.parquet."""
    pieces: dict[str, list[Path]] = {}
    for path in (folder / name for name in (_listed(folder) if os.path.isdir(folder) else ())):
        if match := SHARDS.fullmatch(path.name.lower()):
            pieces.setdefault("train" if match[1] == "train" else "clean", []).append(path)
    return {split: Place(tuple(paths)) for split, paths in pieces.items()}


def open_set(
    name: str,
    place: Place,
    classes: tuple[int, ...] | None = None,
    progress: Progress = SILENT,
    follow: bool = False,
) -> StoredSplit:
    """The split at a place, whatever it is stored in. `follow`: links may lead out of the set. Raises DataError."""
    paths = place.paths
    if len(paths) == 1 and os.path.isdir(paths[0]):
        paths = pieces(name, snapshot(paths[0]))
    missing = next((path for path in paths if not os.path.exists(path)), None)
    if missing is not None:
        raise DataError(f"{missing}: does not exist; correct the path of '{name}'")
    if len(paths) > 1 and (folder := next(filter(os.path.isdir, paths), None)):
        raise DataError(f"{folder}: is a folder in the list of '{name}'; list tables or shards, or give one folder")
    tables = {path.suffix.lower() for path in paths} in ({".parquet"}, {".arrow"})
    if not (tables or len(paths) > 1 or is_shard(paths[0])):
        return open_tree_set(name, layouts.open_tree(paths[0], name, follow), place.labels, classes)
    split = read_pieces(name, paths, progress)
    if paths != place.paths:  # all of a folder, in which nothing but the pieces is read
        split.unread = unread_pictures(FolderTree(paths[0].parent), ())
    return split


def read_pieces(
    name: str, paths: tuple[Path, ...], progress: Progress, classes: Sequence[str] | None = None
) -> StoredSplit:
    """The split in tables or shards. `classes`: the source's own; None: ImageNet's. Raises DataError."""
    if paths[0].suffix.lower() in (".parquet", ".arrow"):
        return open_tables(name, paths, progress, classes)
    return open_shards(name, paths)


def open_tree_set(
    name: str, tree: Tree, labels: Path | None = None, classes: tuple[int, ...] | None = None
) -> StoredSplit:
    """The split in one folder or archive."""
    numbered = name.startswith("v2")
    reader = layouts.numbered_or_wnid_folders if numbered else lambda at: layouts.wnid_folders(at, classes)
    listing = layouts.read_entries(tree, reader, labels)
    split = tree.split(name, listing.entries)
    split.bare_numbers = listing.bare_numbers
    split.unread = unread_pictures(tree, {entry.name for entry in listing.entries})
    if marker := marker_of(tree):
        split.origin, split.made_at = marker.origin, marker.made_at
    return split


def corrupted_trees(place: Place, follow: bool = False) -> dict[str, Tree]:
    """ "fog/3" -> its tree, for every corruption and severity that lies there, grouped (blur/defocus_blur/3) or not.

    Folders come before archives of the same thing, as everywhere.
    """
    trees: dict[str, Tree] = {}
    for path in place.paths:
        if not os.path.exists(path):
            raise DataError(f"{path}: does not exist; correct the path of 'c'")
        for name, tree in _corruptions(layouts.open_tree(path, follow=follow)):
            if name not in trees or (trees[name].kind != "folder" and tree.kind == "folder"):
                trees[name] = tree
    return trees


def _corruptions(tree: Tree, depth: int = 2) -> Iterator[tuple[str, Tree]]:
    """("fog/3", its tree) of what lies in a folder or archive, and in archives in that folder."""
    for folder in tree.folders():
        if folder in CORRUPTION_FOLDERS:
            yield from _severities(folder, tree.at(folder))
        elif depth and folder not in wnids.label_of():
            yield from _corruptions(tree.at(folder), depth - 1)
    if tree.kind == "folder":
        for name, _, _ in tree.files():
            if name.lower().endswith(SUFFIXES):
                yield from _archived(tree.path / name)


def _archived(path: Path) -> Iterator[tuple[str, Tree]]:
    """blur.tar with its corruptions, or fog.tar with the severities directly inside."""
    name = _without_suffix(path.name)
    inside = dict(_severities(name, layouts.open_tree(path))) if name in CORRUPTION_FOLDERS else {}
    yield from inside.items() or _corruptions(open_archive(path))


def _severities(corruption: str, tree: Tree) -> Iterator[tuple[str, Tree]]:
    for severity in set(tree.folders()) & set(map(str, SEVERITIES)):
        yield f"{corruption}/{severity}", tree.at(severity)
