"""Folders and files of one set, wherever they lie: a folder on disk, or an archive that is read in place.

Names inside a tree are relative and use "/". Hidden files and what macOS adds to archives are never seen. Nothing is
followed out of a tree unless it is asked for: links inside a folder must lead to places inside it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nsbench.data.image_ids import IMAGE_SUFFIXES
from nsbench.data.stored import Entry, FolderSplit, StoredSplit
from nsbench.data.wnids import label_of
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
    """A folder on disk. `follow`: links inside it may lead out of it, though not to nothing and not in a circle."""

    kind = "folder"

    def __init__(self, path: Path, follow: bool = False) -> None:
        self.path, self.follow = path, follow

    def folders(self, under: str = "") -> list[str]:
        folder, names = self.path / under, []
        for item in _visible(folder):
            if os.path.isdir(item.path):
                names.append(_text(folder, item.name))
            elif item.is_symlink() and (item.name in label_of() or item.name.isdecimal()):
                self._check_link(Path(item.path))  # a class would be left out in silence
        return sorted(names)

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
        return _walk(self.path, "", self.follow)

    def head(self, name: str) -> bytes:
        try:
            with open_regular(self.path / name) as file:
                return file.read(HEAD)
        except OSError:
            return b""

    def at(self, under: str) -> FolderTree:
        return FolderTree(self.path / under, self.follow)

    def place(self, name: str = "") -> Path:
        return self.path / name

    def split(self, name: str, entries: Sequence[Entry]) -> FolderSplit:
        return FolderSplit(name, self.path, entries)

    def _check_link(self, link: Path) -> None:
        if self.follow and os.path.isfile(link):
            return  # most of a million links need no more
        try:
            target = link.resolve()
        except RuntimeError:
            raise DataError(f"{link}: is a link to itself; copy the file again") from None
        if not self.follow and not target.is_relative_to(self.path.resolve()):
            raise DataError(
                f"{link}: is a link out of {self.path}; copy what it points to, link the set's folder as a whole, or say "
                "--follow-links (in a config file: follow_links = true)"
            )
        if not os.path.exists(target):
            raise DataError(f"{link}: is a link to nothing; copy the file again")
        if os.path.isdir(target) and link.parent.resolve().is_relative_to(target):
            raise DataError(f"{link}: is a link to a folder that it lies in; remove it")


def _text(folder: Path, name: str) -> str:
    """The name. Raises DataError for one that is no text: no result could state it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{folder}: holds a name that is not UTF-8, {name!a}; rename it") from None
    return name


def _walk(folder: Path, before: str, follow: bool = False, above: tuple[os.stat_result, ...] = ()) -> Iterator[str]:
    """Without a look at sizes: a large set on a network disk is listed in seconds.

    `follow`: linked folders are entered as well, except those that the walk is in (`above`).
    """
    below = []
    here = (*above, os.stat(folder)) if follow else ()
    for item in _visible(folder):
        if item.is_dir(follow_symlinks=False) or (follow and item.is_symlink() and os.path.isdir(item.path)):
            below.append(item.name)
        else:
            yield before + item.name
    for name in sorted(below):
        if not any(os.path.samestat(os.stat(folder / name), one) for one in here):
            yield from _walk(folder / name, f"{before}{name}/", follow, here)


def hidden(name: str) -> bool:
    """What no set consists of: ".DS_Store", "._image.JPEG", "__MACOSX"."""
    return name.startswith(".") or name == "__MACOSX"


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            yield from (item for item in items if not hidden(item.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check the disk and your rights") from error
