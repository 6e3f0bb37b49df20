"""How ImageNet-like sets lie in a folder or archive, and how each layout gives labels.

- folders of classes: <wnid>/<image>, or <number>/<image> with 0 to 999 read as numbers (ImageNet-V2)
- flat: images beside a label file with lines "<name> <label>" (DAmageNet, the official validation archive)
- Tiny-ImageNet: <wnid>/images/<image> to train, images/<image> with val_annotations.txt to evaluate
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nsbench.data.archives import COMPRESSED, SUFFIXES, open_archive
from nsbench.data.hub import snapshot
from nsbench.data.kaggle import SOLUTION as KAGGLE
from nsbench.data.kaggle import solution_of
from nsbench.data.parts import inner_folder
from nsbench.data.stored import Entry
from nsbench.data.trees import FolderTree, Tree
from nsbench.data.wnids import label_of
from nsbench.errors import DataError
from nsbench.files import read_regular

DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
LABEL_FILES = ("val.txt", "labels.txt", "labels.csv", KAGGLE, DEVKIT)
TINY, TINY_IMAGES = "val_annotations.txt", "images"  # Tiny-ImageNet's list, and its folders of pictures
Reader = Callable[[Tree], list[Entry]]


def open_tree(path: Path, name: str = "", follow: bool = False) -> Tree:
    """A folder or an archive, from where its classes start: folders around everything are stepped into.

    Of {train,val} that part is taken which is the set `name`. `follow`: links may lead out of the folder. Raises
    DataError where two parts could be meant.
    """
    archive = path.name.lower().endswith((*SUFFIXES, *COMPRESSED))
    tree = open_archive(path) if archive else FolderTree(snapshot(path), follow)
    while (inner := inner_folder(name, tree.folders(), partial(_file_names, tree), tree.place())) is not None:
        tree = tree.at(inner)
    return tree


def _file_names(tree: Tree) -> list[str]:
    return [file.name for file in tree.files()]


def class_folders(tree: Tree, label: Callable[[str], int | None], expected: str) -> list[Entry]:
    """All images of <class>/<image>, ordered by label, then by name.

    `label` gives the label of a folder name, or None where it is no class; `expected` says what a class folder is
    called. Raises DataError for a folder that is no class, a class folder without images, and an empty set.
    """
    entries: list[Entry] = []
    empty: list[str] = []
    for folder in tree.folders():
        number = label(folder)
        if number is None:
            raise DataError(
                f"{tree.place(folder)}: is no class folder; expected {expected}. Move it out of {tree.place()}"
            )
        images, under = tree.images(folder), folder
        if not images and TINY_IMAGES in tree.folders(folder):
            under = f"{folder}/{TINY_IMAGES}"
            images = tree.images(under)
        if not images:
            empty.append(folder)
        entries += [Entry(f"{under}/{name}", number, size, at) for name, size, at in images]
    if empty:
        more = ", ..." if len(empty) > 3 else ""
        raise DataError(
            f"{tree.place()}: {len(empty)} class folder(s) hold no image ({', '.join(empty[:3])}{more}); "
            "half copied? Copy them again, or remove the folders to leave these classes out"
        )
    if not entries:
        raise DataError(f"{tree.place()}: holds no class folder; expected {expected}{_loose(tree)}")
    return sorted(entries, key=lambda entry: (entry.label, entry.name))


def wnid_folders(tree: Tree, classes: tuple[int, ...] | None = None) -> list[Entry]:
    """<wnid>/<image>, with every class inside `classes` where that is given."""
    entries = class_folders(tree, label_of().get, "one of the 1000 wnids, such as n01440764")
    allowed = set(label_of().values() if classes is None else classes)
    foreign = next((entry for entry in entries if entry.label not in allowed), None)
    if foreign is not None:
        raise DataError(
            f"{tree.place(foreign.name.split('/')[0])}: is none of the {len(allowed)} classes of this set; "
            "its images would count as errors always. Remove the folder, or get the official set"
        )
    return entries


def numbered_or_wnid_folders(tree: Tree) -> list[Entry]:
    """ImageNet-V2: folders 0 to 999 are labels, not strings to sort; wnid folders are taken too."""
    kinds = {name.isdecimal() for name in tree.folders()}
    if kinds == {True, False}:
        raise DataError(f"{tree.place()}: mixes numbered and other folders; keep either 0 to 999 or wnids")
    if kinds == {True}:
        return class_folders(tree, _number, "a number from 0 to 999")
    return wnid_folders(tree)


class Listing(NamedTuple):
    """The images of a set."""

    entries: list[Entry]
    bare_numbers: bool = False  # labels are numbers, and nothing says of what


def flat_with_labels(tree: Tree, lines: str, listed: Path) -> Listing:
    """Images in one folder with labels from the text `lines` of `listed`; lines may lack their image."""
    under = f"{TINY_IMAGES}/" if listed.name == TINY and TINY_IMAGES in tree.folders() else ""
    images = tree.images(under.rstrip("/"))
    if not images:
        raise DataError(f"{tree.place()}: holds {listed.name} but no image; half copied? Copy the images again")
    if listed.name == DEVKIT:
        labels, bare = devkit_labels(lines, listed), False
    else:
        labels, bare = parse_labels(lines, listed)
    unlabelled = next((name for name, _, _ in images if Path(name).stem not in labels), None)
    if unlabelled is not None:
        raise DataError(f"{tree.place(under + unlabelled)}: has no line in {listed}; complete the list")
    return Listing([Entry(under + name, labels[Path(name).stem], size, at) for name, size, at in images], bare)


def read_entries(tree: Tree, folders: Reader, labels: Path | None = None) -> Listing:
    """All images of a set: flat where a label file is given or lies there, otherwise by `folders`.

    A label file lies in the set's folder, or beside the folder or archive under the same name: val.tar, val.txt.
    """
    if labels is not None:
        return flat_with_labels(tree, _read(labels), labels)
    names = {name for name, _, _ in tree.files()}
    if inside := next((name for name in LABEL_FILES if name in names), None):
        return flat_with_labels(tree, tree.text(inside), tree.place(inside))
    if TINY in names and (tree.images() or TINY_IMAGES in tree.folders()):  # else: sorted into folders of classes
        return flat_with_labels(tree, tree.text(TINY), tree.place(TINY))
    if not tree.folders() and tree.images():
        stem = next(
            (tree.path.name[: -len(end)] for end in SUFFIXES if tree.path.name.lower().endswith(end)), tree.path.name
        )
        usual = [*filter(None, [solution_of(tree.path)]), *(tree.path.with_name(name) for name in (KAGGLE, DEVKIT))]
        for beside in (tree.path.with_name(f"{stem}.txt"), tree.path.with_name(f"{stem}.csv"), *usual):
            if os.path.isfile(beside):
                return flat_with_labels(tree, _read(beside), beside)
    return Listing(folders(tree))


def parse_labels(text: str, path: Path) -> tuple[dict[str, int], bool]:
    """Lines "ILSVRC2012_val_00000001.JPEG 65" -> {stem: label}, and whether labels are bare numbers.

    The label is counted from 0 in sorted-wnid order, or is a wnid; it follows after a space, a tab or a comma. Kaggle's
    lines "ILSVRC2012_val_00000001,n01751748 111 108 441 193" hold boxes behind it, and so do Tiny-ImageNet's lines
    "val_0.JPEG n03444034 0 32 44 62", with tabs.
    """
    labels: dict[str, int] = {}
    bare = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or (number == 1 and line.startswith("ImageId,")):
            continue
        name, label, is_number = _line(line)
        bare = bare or is_number
        if not name or label is None:
            raise DataError(f"{path}:{number}: '{line[:60]}' is not '<image name> <label from 0 to 999>'; correct it")
        stem = Path(name).stem
        if labels.setdefault(stem, label) != label:
            raise DataError(f"{path}:{number}: gives '{stem}' a second label, {label} after {labels[stem]}; correct it")
    return labels, bare


def _line(line: str) -> tuple[str, int | None, bool]:
    """Image name, label and whether the label is a bare number."""
    columns = line.split("\t")
    if len(columns) > 2 and columns[1] in label_of():
        return columns[0].strip(), label_of()[columns[1]], False
    first, _, rest = line.partition(",")
    if (boxed := rest.split(maxsplit=1)) and len(boxed) > 1 and boxed[0] in label_of():
        return first.strip(), label_of()[boxed[0]], False
    name, _, text = line.replace(",", " ").replace("\t", " ").strip().rpartition(" ")
    if text in label_of():
        return name.strip(), label_of()[text], False
    return name.strip(), _number(text), True


def devkit_labels(text: str, path: Path) -> dict[str, int]:
    """Of the devkit's list: one ILSVRC2012_ID, 1 to 1000, for each validation image in the order of their names.

    These ids are no sorted wnids: what they mean stands in the devkit's meta.mat, which must lie beside the list.
    """
    meta = next(
        (at for at in (path.with_name("meta.mat"), path.parent / "data" / "meta.mat") if os.path.isfile(at)), None
    )
    if meta is None:
        raise DataError(
            f"{path}: holds ILSVRC2012_IDs, which are no sorted wnids; put the devkit's meta.mat beside it, or give a list "
            "'<image name> <wnid>'"
        )
    try:
        from scipy.io import loadmat

        synsets = loadmat(str(meta), squeeze_me=True)["synsets"]
        wnid = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
        numbers = [int(line) for line in text.split()]
        return {f"ILSVRC2012_val_{at:08}": label_of()[wnid[number]] for at, number in enumerate(numbers, start=1)}
    except Exception as error:  # scipy's reader lets through whatever it meets in a damaged file
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: cannot be read with {meta} ({why}); take both from one devkit") from error


def _read(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a label file ({error.strerror}); give an existing file") from error


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= 4 and int(text) < len(label_of()) else None


def _loose(tree: Tree) -> str:
    """A hint for the commonest case of images without labels."""
    images = tree.images()
    if not images:
        return ""
    solution = solution_of(tree.path)
    kaggle = f", or Kaggle's list where it belongs, {solution}" if solution else ""
    return (
        f". It holds {len(images):,} images in no folder: put a label file beside them, {LABEL_FILES[0]} with "
        f"lines '<image name> <label>'{kaggle}"
    )
