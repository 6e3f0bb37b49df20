"""A config file for images of one's own classes.

source = "folder"                              # the classes are the folder's own
root = "pets"                                  # as --data takes it; relative to this file
name = "pets"                                  # optional: in the results; by default the folder's
class_names = ["cat", "dog"]                   # optional: in the order of the model's outputs
surrogate = "vit_tiny_patch16_224:tiny.pth"    # optional: what transfer sets are made on

[sets.shelter]                                 # optional: other sets of these classes, see named_sets.py
path = "shelter"
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nsbench.data.source import SurrogateName
from nsbench.errors import DataError, is_line
from nsbench.files import expanded, read_regular

KIND = "folder"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a source, which is a folder of results
KNOWN = ("root", "name", "class_names", "surrogate", "sets")


@dataclass(frozen=True)
class OwnConfig:
    """What the file says."""

    path: Path
    root: Path
    name: str = ""
    class_names: tuple[str, ...] = ()
    surrogate: SurrogateName | None = None
    sets: object = field(default_factory=dict)  # as they stand there: they are read once the classes are known


def read_own_config(path: Path) -> OwnConfig | None:
    """The config in a file; None for one of another kind. Raises DataError, which names the line's key."""
    try:
        content = tomllib.loads(read_regular(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a config file ({error}); see docs/data.md") from error
    kind = content.pop("source", None)
    if kind is None:
        return None
    if kind != KIND:
        raise DataError(f'{path}: source must be "{KIND}", for images of your own classes, or be left out')
    if unknown := sorted(set(content) - set(KNOWN)):
        raise DataError(f"{path}: {unknown[0]} is none of {', '.join(KNOWN)}")
    root, name, surrogate = (content.get(key, "") for key in ("root", "name", "surrogate"))
    classes = content.get("class_names", [])
    if not isinstance(root, str) or not root or "\0" in root:
        raise DataError(f'{path}: needs the folder of the images, root = "..."')
    if not isinstance(name, str) or (name and not NAME.fullmatch(name)):
        raise DataError(f"{path}: the name must consist of letters, digits, '.', '_' and '-', at most 100")
    if not isinstance(classes, list) or not all(isinstance(one, str) for one in classes):
        raise DataError(f"{path}: class_names must be a list of names")
    if "class_names" in content and len(classes) < 2:
        raise DataError(f"{path}: class_names must be at least two names, or be left out")
    if twice := sorted(name for name, count in Counter(classes).items() if count > 1):
        raise DataError(f"{path}: class_names holds {twice[0]!r} twice; each class has one place among the outputs")
    if odd := [name for name in classes if not (name.strip() and is_line(name))]:
        raise DataError(f"{path}: class_names holds {odd[0]!r}; give names that can be read")
    if not isinstance(surrogate, str):
        raise DataError(f'{path}: surrogate must be a text such as "vit_tiny_patch16_224:tiny.pth"')
    on = SurrogateName.parse(surrogate, path.parent) if surrogate else None
    return OwnConfig(path, path.parent / expanded(root), name, tuple(classes), on, content.get("sets", {}))
