"""Which part of a set is meant, where its folder or archive wraps the images or holds training images beside them.

- one folder around everything, as public archives have it: imagenet-sketch/sketch/<wnid>
- {train,val}, as Stylized-ImageNet's script writes it: of an evaluation set val is taken
- tables and shards that say their split in their names, here or in data/, as Hugging Face lays repositories out:
  imagenet-r/data/test-00000-of-00005.parquet. Sets without training images are published as train-* as well.

Where two parts could be meant, one line says so; nothing is guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from nsbench.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS
from nsbench.data.image_ids import IMAGE_SUFFIXES
from nsbench.data.tables import saved_files
from nsbench.data.trees import hidden
from nsbench.data.wnids import label_of
from nsbench.errors import DataError

TRAIN = ("train", "training")
EVALUATION = ("val", "valid", "validation", "test")
OWN_TRAINING = ("clean", "stylized")  # sets with training images of their own: train alone is half of such a set
IN_A_NAME = re.compile(rf"(?:.*[-_.])?({'|'.join((*TRAIN, *EVALUATION))})(?:[-_.].*)?")
TABLES, SHARDS = ".parquet", ".tar"
LABEL_LISTS = ("val.txt", "labels.txt", "labels.csv", "val_annotations.txt")
DECIDE = (*IMAGE_SUFFIXES, TABLES, SHARDS, ".zip", ".arrow", *LABEL_LISTS)  # what lies beside is no wrapping then


def inner_folder(name: str, folders: Sequence[str], files: Callable[[], Collection[str]], where: Path) -> str | None:
    """The folder that the images of the set `name` are in, of all `folders` at `where`; None where they start here.

    `files`: names of what lies beside the folders; READMEs and the like do not matter. `name` may be "" where any single
    folder is stepped into and nothing is chosen. Raises DataError where two folders could be meant.
    """
    parts = bool(name) and bool(folders) and all(_is_part(folder.lower()) for folder in folders)
    wrapped = len(folders) == 1 and not is_class(folders[0])
    if not (parts or wrapped) or any(file.lower().endswith(DECIDE) for file in files()):
        return None
    return chosen(name, folders, where) if parts else folders[0]


def chosen(name: str, parts: Collection[str], where: Path) -> str:
    """The part of `parts` ("train", "val", ...) that is the set `name`. Raises DataError where that is not certain."""
    training = [part for part in parts if part.lower() in TRAIN]
    evaluation = [part for part in parts if part.lower() in EVALUATION]
    wanted, others = (training, evaluation) if name == "train" else (evaluation, training)
    state = f'name one in a config file, {name} = "..."'
    if len(wanted) > 1:
        raise DataError(f"{where}: holds {' and '.join(sorted(wanted))}, and each could be '{name}'; {state}")
    if wanted:
        return wanted[0]
    if name != "train" and name not in OWN_TRAINING and len(others) == 1:
        return others[0]
    raise DataError(
        f"{where}: holds only {' and '.join(sorted(others))}: are these the images of '{name}', or is the other part of "
        f"the set absent? Copy that, or {state}"
    )


def pieces(name: str, folder: Path) -> tuple[Path, ...]:
    """The tables or shards of the set `name` in a folder, its data/ or its part; the folder itself where it has none.

    Raises DataError where the names of the files leave two readings.
    """
    here = folder
    while True:
        if os.path.isfile(here / "state.json"):
            return tuple(saved_files(here))
        folders, files = _listing(here)
        for suffix in (TABLES, SHARDS):
            found = [file for file in files if file.lower().endswith(suffix)]
            if found and not folders:
                return tuple(here / file for file in _of_split(name, found, here))
        inner = inner_folder(name, folders, files.copy, here)
        if inner is None:
            return (folder,)
        here = here / inner


def is_class(folder: str) -> bool:
    """Whether a folder of this name holds the images of one class or of one corruption."""
    return folder in label_of() or folder.isdecimal() or folder in (*CORRUPTIONS, *EXTRA_CORRUPTIONS)


def _of_split(name: str, files: Sequence[str], where: Path) -> list[str]:
    """Those files that are of the set `name`: all, where no name says a split."""
    words = {file: _word(file) for file in files}
    named = {word for word in words.values() if word}
    if not named:
        return list(files)
    if other := next((file for file in files if not words[file]), None):
        raise DataError(
            f"{where}: {other} says no split in its name, and others say {' and '.join(sorted(named))}; move it out, or "
            f"name the files of '{name}' in a config file, {name} = \"*-*\""
        )
    word = chosen(name, named, where)
    return [file for file in files if words[file] == word]


def _word(file: str) -> str | None:
    """ "test" of test-00000-of-00005.parquet."""
    match = IN_A_NAME.fullmatch(file.lower().rpartition(".")[0])
    return match[1] if match else None


def _is_part(folder: str) -> bool:
    return folder in TRAIN or folder in EVALUATION


def _listing(folder: Path) -> tuple[list[str], list[str]]:
    """Names of folders and of files that are not hidden, sorted."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as items:
            for item in items:
                if not hidden(item.name):
                    (folders if os.path.isdir(item.path) else files).append(item.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check the disk and your rights") from error
    return sorted(folders), sorted(files)
