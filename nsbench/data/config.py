"""A small TOML file that says where each set is, for data that lie in many places or in no usual layout.

root = "/data/imagenet"                        # optional: what is found there, before the lines below
name = "imagenet"                              # optional: the source's name in the results
surrogate = "vit_tiny_patch16_224:tiny.safetensors"    # optional: what transfer sets are made on
masks = "ImageNetS919/train-semi-segmentation" # optional: foreground masks of train: see masks.py
follow_links = true                            # optional: links may lead out of the sets, as with --follow-links
clean = "ILSVRC2012_img_val.tar"               # paths are relative to this file
sketch = "shards/sketch-*.tar"                 # or a list of paths
"v2-threshold-0.7" = "v2/threshold"
c = "/data/ImageNet-C"

[labels]                                       # label files of flat sets
clean = "val.txt"

[classes]                                      # sets that hold fewer classes on purpose, and what bare numbers mean
clean = "present"                              # or a list of wnids, or of labels, in the order of the set's own numbers
a = "a"                                        # numbers 0 to 199 count the 200 classes of ImageNet-A in sorted order
sketch = "imagenet"                            # numbers are ImageNet's own, 0 to 999, though they end early

[sets.objects]                                 # sets of one's own, each a column: see named_sets.py
path = "objects"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nsbench.data import wnids
from nsbench.data.find import FOLDERS, Place, find_sets
from nsbench.data.named_sets import PRESENT, NamedSet, named_sets
from nsbench.data.numbering import IMAGENET as NUMBERS
from nsbench.data.own_config import NAME as SOURCE_NAME
from nsbench.data.source import SurrogateName
from nsbench.errors import DataError, UnknownName
from nsbench.files import expanded, read_regular

KNOWN = (*FOLDERS, "c")
IMAGENET = "imagenet"  # the name of a source that is given none
RESERVED = ("shapes10", "files", "logs")  # other sources, whose results these would pass for, and a folder of results


@dataclass(frozen=True)
class Layout:
    """What a source consists of."""

    root: Path  # for messages
    places: dict[str, Place]
    classes: dict[str, tuple[int, ...] | str] = field(default_factory=dict)  # split -> labels in order, or a word
    name: str = IMAGENET
    surrogate: SurrogateName | None = None
    follow_links: bool = False  # links may lead out of the sets
    sets: dict[str, NamedSet] = field(default_factory=dict)  # sets of one's own, by name
    masks: Path | None = None  # folder of the training images' foregrounds


def read_config(path: Path) -> Layout:
    """The layout that the file describes. Raises DataError or UnknownName, which name the line's key."""
    try:
        return _layout(tomllib.loads(read_regular(path).decode("utf-8")), path)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a config file ({error}); see nsbench/data/config.py") from error


def _layout(content: dict[str, object], path: Path) -> Layout:
    root, name = content.pop("root", None), content.pop("name", IMAGENET)
    surrogate = content.pop("surrogate", None)
    if not isinstance(surrogate, str | None):
        raise DataError(f'{path}: surrogate must be a text such as "vit_tiny_patch16_224:tiny.safetensors"')
    masks = content.pop("masks", None)
    if not isinstance(masks, str | None) or "\0" in (masks or ""):
        raise DataError(f"{path}: masks must be the path of a folder")
    sets = named_sets(content.pop("sets", {}), path, wnids.wnids())
    follow_links = content.pop("follow_links", False)
    if not isinstance(follow_links, bool):
        raise DataError(f"{path}: follow_links must be true or false")
    labels = {key: path.parent / expanded(value) for key, value in _strings(content.pop("labels", {}), path, "labels")}
    classes = {key: _classes(value, path, key) for key, value in _table(content.pop("classes", {}), path, "classes")}
    if not isinstance(root, str | None) or "\0" in (root or ""):
        raise DataError(f"{path}: root must be the path of a folder")
    places = dict(find_sets(path.parent / expanded(root))) if root is not None else {}
    for key, value in _flat(content):
        _known(key)
        places[key] = Place(_paths(value, path, key), labels.get(key))
    for key in (*labels, *classes):
        if key not in places:
            raise DataError(
                f"{path}: [labels] or [classes] name '{key}', which has no path; add one or remove the line"
            )
    if not places and not sets:
        raise DataError(f'{path}: names no set; add a line such as clean = "val"')
    if not isinstance(name, str) or not SOURCE_NAME.fullmatch(name):
        raise DataError(
            f"{path}: the name {str(name)[:80]!r} must consist of letters, digits, '.', '_' and '-', at most 100"
        )
    if name.lower() in RESERVED or (name.lower() == IMAGENET and name != IMAGENET):
        raise DataError(f"{path}: the name '{name}' is reserved for another source; choose one of your own")
    named = SurrogateName.parse(surrogate, path.parent) if surrogate else None
    of_train = path.parent / expanded(masks) if masks else None
    return Layout(path, places, classes, name, named, follow_links, sets, of_train)


def _paths(value: object, config: Path, key: str) -> tuple[Path, ...]:
    values = value if isinstance(value, list) else [value]
    names = [item for item in values if isinstance(item, str) and item]
    if not values or len(names) < len(values):
        raise DataError(f"{config}: '{key}' must be a path or a list of paths")
    paths: list[Path] = []
    for name in names:
        if "**" in name or "\0" in name:
            raise DataError(f"{config}: '{key}': {name!r} is no path; name the folder, or files with one * a name")
        path = config.parent / expanded(name)
        if not set("*?[") & set(path.name) or os.path.exists(path):
            paths.append(path)
        elif matches := sorted(path.parent.glob(path.name)):
            paths += matches
        else:
            raise DataError(f"{config}: '{key}': nothing is called {path}; correct the pattern")
    return tuple(paths)


def _classes(value: object, config: Path, key: str) -> tuple[int, ...] | str:
    if value in (PRESENT, NUMBERS):
        return str(value)
    if isinstance(value, str) and (subset := wnids.subset(value)):
        return subset
    order = wnids.label_of()
    listed = [order.get(item) if isinstance(item, str) else item for item in value] if isinstance(value, list) else []
    labels = {label for label in listed if type(label) is int and 0 <= label < len(order)}
    if not listed or len(labels) < len(listed):
        raise DataError(
            f'{config}: [classes] {key} must be "{PRESENT}", "{NUMBERS}", "a", "r", or a list of different wnids or labels '
            "from 0 to 999"
        )
    return tuple(label for label in listed if type(label) is int)


def _table(value: object, config: Path, name: str) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        raise DataError(f"{config}: {name} must be a table, [{name}]")
    items = list(_flat(value))
    for key, _ in items:
        _known(key)
    return items


def _strings(value: object, config: Path, name: str) -> list[tuple[str, str]]:
    strings = []
    for key, item in _table(value, config, name):
        if not isinstance(item, str) or not item or "\0" in item:
            raise DataError(f"{config}: [{name}] {key} must be a path")
        strings.append((key, item))
    return strings


def _flat(table: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Keys with values; TOML reads an unquoted v2-threshold-0.7 as a table with the key 7."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _known(key: str) -> None:
    if key not in KNOWN:
        raise UnknownName("set", key, KNOWN)
