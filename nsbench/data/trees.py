"""Folders and files of one set, wherever they lie: a folder on disk, or an archive that is read in place.

Names inside a tree are relative and use "/". Hidden files and what macOS adds to archives are never seen. Nothing is
followed out of a tree: links inside a folder must lead to places inside it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nsbench.data.image_ids import IMAGE_SUFFIXES
from nsbench.data.stored import Entry, FolderSplit, StoredSplit
from nsbench.errors import DataError
from nsbench.files import open_regular, read_regular

HEAD = 16  # bytes by which a picture is known


class File(NamedTuple):
    """One file of a tree's folder."""

    name: str  # without the folder
    size: int  # bytes
    at: int = -1  # position in the archive's index


class Tree(ABC):
    """One folder of a set, on disk or in an archive."""

    path: Path  # the folder or the archive on disk
    kind: str  # "folder", "tar" or "zip"

    @abstractmethod
    def folders(self, under: str = "") -> list[str]:
        """Names of the folders directly in `under`, sorted."""

    @abstractmethod
    def files(self, under: str = "") -> list[File]:
        """Files directly in `under`, sorted by name. Raises DataError for a link that leads out of the tree."""

    @abstractmethod
    def text(self, name: str) -> str:
        """Content of one small text file."""

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """Names of all files below, hidden ones left out; nothing is opened and no link is followed."""

    @abstractmethod
    def head(self, name: str) -> bytes:
        """The first bytes of one file; b"" where it cannot be read."""

    @abstractmethod
    def at(self, under: str) -> Tree:
        """The tree that starts at the folder `under`."""

    @abstractmethod
    def place(self, name: str = "") -> Path:
        """Where something of this tree is, for messages."""

    @abstractmethod
    def split(self, name: str, entries: Sequence[Entry]) -> StoredSplit:
        """The split of these images of the tree."""

    def images(self, under: str = "") -> list[File]:
        return [file for file in self.files(under) if file.name.lower().endswith(IMAGE_SUFFIXES)]


class FolderTree(Tree):
    """A folder on disk."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path

    def folders(self, under: str = "") -> list[str]:
        folder = self.path / under
        return sorted(_text(folder, item.name) for item in _visible(folder) if os.path.isdir(item.path))

    def files(self, under: str = "") -> list[File]:
        folder = self.path / under
        if under and folder.is_symlink():
            self._check_link(folder)
        files = []
        for item in _visible(folder):
            if item.is_symlink():
                if item.name.lower().endswith(IMAGE_SUFFIXES):
                    self._check_link(Path(item.path))
                elif not os.path.exists(item.path):
                    continue
            if os.path.isfile(item.path):
                picture = item.name.lower().endswith(IMAGE_SUFFIXES)
                files.append(File(_text(folder, item.name) if picture else item.name, item.stat().st_size))
        return sorted(files)

    def text(self, name: str) -> str:
        path = self.path / name
        try:
            return read_regular(path).decode("utf-8", errors="replace")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error

    def walk(self) -> Iterator[str]:
        return _walk(self.path, "")

    def head(self, name: str) -> bytes:
        try:
            with open_regular(self.path / name) as file:
                return file.read(HEAD)
        except OSError:
            return b""

    def at(self, under: str) -> FolderTree:
        return FolderTree(self.path / under)

    def place(self, name: str = "") -> Path:
        return self.path / name

    def split(self, name: str, entries: Sequence[Entry]) -> FolderSplit:
        return FolderSplit(name, self.path, entries)

    def _check_link(self, link: Path) -> None:
        try:
            target = link.resolve()
        except RuntimeError:
            raise DataError(f"{link}: is a link to itself; copy the file again") from None
        if not target.is_relative_to(self.path.resolve()):
            raise DataError(
                f"{link}: is a link out of {self.path}; copy what it points to, or link the set's folder as a whole"
            )
        if not os.path.exists(target):
            raise DataError(f"{link}: is a link to nothing; copy the file again")


def _text(folder: Path, name: str) -> str:
    """The name. Raises DataError for one that is no text: no result could state it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{folder}: holds a name that is not UTF-8, {name!a}; rename it") from None
    return name


def _walk(folder: Path, before: str) -> Iterator[str]:
    """Without a look at sizes: a large set on a network disk is listed in seconds."""
    below = []
    for item in _visible(folder):
        if item.is_dir(follow_symlinks=False):
            below.append(item.name)
        else:
            yield before + item.name
    for name in sorted(below):
        yield from _walk(folder / name, f"{before}{name}/")


def hidden(name: str) -> bool:
    """What no set consists of: ".DS_Store", "._image.JPEG", "__MACOSX"."""
    return name.startswith(".") or name == "__MACOSX"


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            yield from (item for item in items if not hidden(item.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check the disk and your rights") from error
