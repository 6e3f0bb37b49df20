"""Sets that a config file names: each becomes a column of its own.

[sets.cue_conflict]
path = "cue_conflict"                          # class folders, archive, shards or tables; relative to the file
class_map = "sixteen.json"                     # optional: {"airplane": ["n02690373"], "bear": [...]}, many classes to one
class_map_by = "sum"                           # how the classes of one become one: "sum", "mean" of probabilities, or "max"
labels = "list.txt"                            # optional: of a flat set; or "real.json", several right ones for an image
classes = "present"                            # optional: scored over the classes that are there, or over a list
title = "Cue conflict"                         # optional, as all that follows
citation = "Geirhos et al. 2019"
licence = "CC BY 4.0"
summary = "Pictures whose texture contradicts their shape; right is the shape."
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nsbench.data.find import FOLDERS, Place, read_pieces
from nsbench.data.layouts import class_folders, open_tree
from nsbench.data.numbering import check_members
from nsbench.data.parts import pieces
from nsbench.data.source import SetClasses, Split, Subset, digest_of
from nsbench.data.stored import StoredSplit
from nsbench.data.trees import Tree
from nsbench.data.unread import unread_pictures
from nsbench.errors import DataError, is_line
from nsbench.files import expanded, read_regular
from nsbench.progress import Progress
from nsbench.types import GROUPS

NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
TEXTS = ("labels", "class_map", "class_map_by", "title", "citation", "licence", "summary")
BY = ("sum", "mean", "max")
PRESENT = "present"


@dataclass(frozen=True)
class NamedSet:
    """What a config file says of one set."""

    name: str
    place: Place
    classes: tuple[int, ...] | str | None  # of the source, that it is scored over, or "present"; None: all of them
    own: SetClasses | None  # where it has classes of its own
    title: str
    citation: str
    summary: str  # with the licence

    @property
    def digest(self) -> str:
        """16 hex digits that change with what is scored."""
        return digest_of(self.name, self.classes, self.own, self.title)


def named_sets(table: object, config: Path, class_names: Sequence[str]) -> dict[str, NamedSet]:
    """The [sets.NAME] of a config file, for a source of these classes. Raises DataError, which names the line's key."""
    if not isinstance(table, Mapping):
        raise DataError(f"{config}: sets must be tables, [sets.NAME]")
    order = {name: label for label, name in enumerate(class_names)}
    return {str(name): _named(str(name), fields, config, order) for name, fields in table.items()}


def _named(name: str, fields: object, config: Path, order: Mapping[str, int]) -> NamedSet:
    where = f"{config}: [sets.{name}]"
    if not NAME.fullmatch(name) or name in (*FOLDERS, "c", "transfer", "robustbench"):
        raise DataError(f"{where}: give a name of small letters, digits and _ that no set of ImageNet has")
    if name in (*GROUPS, "all", "extended"):
        raise DataError(
            f"{where}: --suite {name} stands for several suites, and this set could not be asked for; rename it"
        )
    if not isinstance(fields, Mapping) or not isinstance(fields.get("path"), str):
        raise DataError(f'{where}: needs a path, path = "..."')
    if unknown := sorted(set(fields) - {"path", "classes", *TEXTS}):
        raise DataError(f"{where}: {unknown[0]} is none of path, classes, {', '.join(TEXTS)}")
    if odd := [key for key in TEXTS if key in fields and not isinstance(fields[key], str)]:
        raise DataError(f"{where}: {odd[0]} must be a text")
    if odd := [key for key in TEXTS if not is_line(fields.get(key, ""))]:
        raise DataError(f"{where}: {odd[0]} holds control characters or ends of lines; write it in one line")
    if empty := [key for key in ("title", "labels", "class_map") if not fields.get(key, key).strip()]:
        raise DataError(f"{where}: {empty[0]} is empty; write it out or leave it out")
    if not fields["path"] or "\0" in fields["path"]:
        raise DataError(f"{where}: its path must be that of a folder or file")
    by = fields.get("class_map_by", BY[0])
    if by not in BY:
        raise DataError(f"{where}: class_map_by must be one of {', '.join(BY)}")
    labels = config.parent / expanded(fields["labels"]) if "labels" in fields else None
    own = (
        _classes_of_its_own(config.parent / expanded(fields["class_map"]), by, order) if "class_map" in fields else None
    )
    if own and (labels or "classes" in fields):
        raise DataError(f"{where}: with a class_map its classes are those of the map; leave out labels and classes")
    licence = f" Licence: {fields['licence']}." if "licence" in fields else ""
    summary = f"{fields.get('summary', f'Images of {name}, a set that the data config names.')}{licence}"
    return NamedSet(
        name, Place((config.parent / expanded(fields["path"]),), labels), _subset(fields.get("classes"), where, order), own,
        fields.get("title", name.replace("_", " ")), fields.get("citation", ""), summary,
    )  # fmt: skip


def _subset(value: object, where: str, order: Mapping[str, int]) -> tuple[int, ...] | str | None:
    if value is None or value == PRESENT:
        return PRESENT if value else None
    listed = value if isinstance(value, list) else []
    if not listed or not all(isinstance(one, str) and one in order for one in listed):
        raise DataError(f'{where}: classes must be "{PRESENT}" or a list of classes of the source')
    return tuple(sorted({order[one] for one in listed}))


def _classes_of_its_own(path: Path, by: str, order: Mapping[str, int]) -> SetClasses:
    """Of {"class of the set": ["class of the source", ...], ...}; a class of the source belongs to one at most."""
    try:
        content = json.loads(read_regular(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a class map ({error})") from error
    form = f'{path}: a class map of a set is {{"class of the set": ["class of the source", ...], ...}}'
    if not isinstance(content, dict) or len(content) < 2:
        raise DataError(f"{form}, of two classes or more")
    names, of = tuple(sorted(content)), [None] * len(order)  # type: tuple[str, ...], list[int | None]
    for label, name in enumerate(names):
        members = content[name] if isinstance(content[name], list) else [content[name]]
        for member in members:
            if not isinstance(member, str) or member not in order:
                raise DataError(f"{form}; '{str(member)[:40]}' of '{name}' is no class of the source")
            if of[order[member]] not in (None, label):
                raise DataError(f"{form}; '{member}' belongs to '{names[of[order[member]] or 0]}' and to '{name}'")
            of[order[member]] = label
    if empty := [name for label, name in enumerate(names) if label not in of]:
        raise DataError(f"{form}; '{empty[0]}' has no class of the source")
    return SetClasses(names, tuple(of), by)


def with_several_labels(split: StoredSplit, path: Path, order: Mapping[str, int]) -> Split:
    """The images with the labels of a file: {"image": [label, ...], ...}, or a list of such lists in the order of the
    images' ids, as ReaL has it (Beyer et al. 2020, arXiv:2006.07159). Labels are numbers or names of classes.

    An image without a label is left out; each label of an image is right, and its first one is the one that is stored.
    Raises DataError.
    """
    try:
        content = json.loads(read_regular(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as lists of labels ({error})") from error
    ids = split.ids.tolist()
    if isinstance(content, list):
        if len(content) != len(ids):
            raise DataError(
                f"{path}: has {len(content):,} lists, and the set {len(ids):,} images; name them, as an object"
            )
        content = dict(zip(sorted(ids), content, strict=True))
    if not isinstance(content, dict):
        raise DataError(f"{path}: is neither a list nor an object of lists of labels")
    if unlisted := [one for one in ids if one not in content]:
        raise DataError(f"{path}: has no labels of {unlisted[0]} (an empty list leaves it out)")
    right = {one: _numbers(content[one], path, one, order) for one in ids}
    split.relabel(np.array([right[one][0] if right[one] else 0 for one in ids], dtype=np.int64))
    split.also_right = {one: labels[1:] for one, labels in right.items() if len(labels) > 1}
    kept = np.flatnonzero([bool(right[one]) for one in ids])
    return split if len(kept) == len(ids) else Subset(split, kept)


def _numbers(value: object, path: Path, image: str, order: Mapping[str, int]) -> tuple[int, ...]:
    found = []
    for one in value if isinstance(value, list) else [value]:
        label = order.get(one) if isinstance(one, str) else one
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(order):
            raise DataError(f"{path}: '{str(one)[:40]}' of {image} is no class of the source")
        found.append(label)
    return tuple(dict.fromkeys(found))


def score_over_declared(split: StoredSplit, one: NamedSet, names: Sequence[str]) -> None:
    """Sets the classes that the set is scored over, where its config file declares any. `names`: of all classes.

    Raises DataError where an image is of a class that is not in the declared list.
    """
    if one.classes == PRESENT:
        split.classes = tuple(np.unique(split.labels).tolist())
    elif one.classes:
        split.classes = tuple(map(int, one.classes))
        check_members(split.labels, split.classes, one.place.paths[0], names)


def folder_split(name: str, tree: Tree, classes: Sequence[str], expected: str) -> StoredSplit:
    """Folders named as these classes, labelled in their order; `expected` says it to a person. Raises DataError."""
    entries = class_folders(tree, {one: label for label, one in enumerate(classes)}.get, expected)
    split = tree.split(name, entries)
    split.unread = unread_pictures(tree, {entry.name for entry in entries})
    return split


def open_of_its_own(one: NamedSet, progress: Progress, follow_links: bool) -> StoredSplit:
    """The images of a set with classes of its own: folders, tables or shards that say them. Raises DataError."""
    assert one.own is not None
    (path,) = one.place.paths
    if not path.exists():
        raise DataError(f"{path}: does not exist; correct the path of [sets.{one.name}]")
    paths = pieces(one.name, path) if path.is_dir() else (path,)
    if paths != (path,) or path.suffix.lower() in (".parquet", ".arrow"):
        split = read_pieces(one.name, paths, progress, classes=one.own.names)
    else:
        tree = open_tree(path, one.name, follow_links)
        split = folder_split(one.name, tree, one.own.names, f"one of {', '.join(one.own.names[:3])}, ...")
    split.relabel(split.labels, one.own.names)
    split.classes, split.bare_numbers, split.set_classes = None, False, one.own
    return split
