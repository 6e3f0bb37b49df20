"""A source with classes of its own: class folders of any names, or tables and shards that say their classes.

train/ and val/ (or test/) hold the images to train on and to evaluate; of images without such parts a fifth is evaluated,
chosen by image id, so that a picture that is added moves no other one. What has no meaning for such classes (ImageNet-A, R,
V2, Sketch, Stylized, DAmageNet) is not part of the source, which is no failure.

A model of as many classes belongs to it, with its outputs in the order of `class_names`: sorted as torchvision sorts
folders, or as the tables number them, or as a file classnames.txt says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from nsbench.data.corrupted import ENGINE, corrupted_names, corrupted_of_own_classes
from nsbench.data.find import read_pieces
from nsbench.data.hub import name_in_cache, repository
from nsbench.data.named_sets import NamedSet, folder_split, named_sets, open_of_its_own, score_over_declared
from nsbench.data.own_config import NAME
from nsbench.data.own_parts import NAMES, Part, classes_of, find_parts
from nsbench.data.source import DataSource, Split, Subset, SurrogateName, crop_of_small
from nsbench.data.stored import StoredSplit
from nsbench.data.trees import Tree
from nsbench.errors import DataError, MissingSplit, NotPartOfSource
from nsbench.progress import SILENT, Progress
from nsbench.randomness import derive_seed

SHARE, SHARE_WORDS = 5, "a fifth"  # of images without parts every so manieth is evaluated
TAKEN = ("shapes10", "imagenet", "files", "logs")  # names of other sources, and of a folder of results


class OwnSource(DataSource):
    """Images of one's own. Raises DataError where `root`, a folder or an archive, holds none."""

    default_recipe = "paper"

    def __init__(
        self,
        root: Path,
        *,
        name: str = "",
        order: Sequence[str] = (),
        engine: str = ENGINE,
        follow_links: bool = False,
        surrogate: SurrogateName | None = None,
        sets: object = None,
        config: Path = Path(),
    ) -> None:
        """`name`: in the results; by default the folder's. `order`: the classes, where their order is stated. `sets`: the
        [sets.NAME] of the file `config`.
        """
        self.root, self.engine, self.surrogate, self.follow_links = root, engine, surrogate, follow_links
        self.name = name or source_name(root)
        if self.name.lower() in TAKEN:
            raise DataError(f"{root}: the name '{self.name}' is that of another source; choose one of your own")
        self.parts = find_parts(root, follow_links)
        self.class_names = tuple(order) or classes_of(self.parts, root)
        shared = "" if self.parts.clean is not None else f", of which {SHARE_WORDS} is evaluated"
        self.title = f"{self.name} ({len(self.class_names)} classes{shared})"
        self.sets = named_sets(sets or {}, config, self.class_names)
        self._splits: dict[str, Split] = {}
        self._undivided: StoredSplit | None = None

    @cached_property
    def crop_pct(self) -> float | None:  # type: ignore[override]  # worked out of the pictures
        try:
            return crop_of_small(self.split("clean"))
        except DataError:
            return None  # what is wrong with them is said when they are evaluated

    def has_meaning(self, split: str) -> bool:
        return split in ("train", "clean", *self.sets) or split.startswith("c/")

    def splits(self) -> list[str]:
        return [*(["train"] if self.parts.train is not None else []), "clean", *self.sets, *corrupted_names()]

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        """Corruptions are made in memory: of pictures of 32 x 32 pixels as CIFAR-10-C's and then enlarged, of others as
        ImageNet-C's at the size that the model asks for."""
        if name not in self._splits:
            self._splits[name] = self._open(name, progress)
        return self._splits[name]

    def _open(self, name: str, progress: Progress) -> Split:
        if name.startswith("c/"):
            return corrupted_of_own_classes(self.split("clean", progress), name, self.engine)
        if name in self.sets:
            return self._named(self.sets[name], progress)
        if not self.has_meaning(name):
            raise NotPartOfSource(f"'{name}' is not part of {self.title}")
        if self.parts.clean is None:
            return self._share(name == "clean", name, progress)
        part = self.parts.train if name == "train" else self.parts.clean
        if part is None:
            raise MissingSplit(f"{self.root}: holds no train part, and this method trains; add one")
        return self._read(name, part, progress)

    def _named(self, one: NamedSet, progress: Progress) -> Split:
        if one.own:
            return open_of_its_own(one, progress, self.follow_links)
        if one.place.labels:
            raise DataError(f"[sets.{one.name}]: labels are lists of ImageNet's classes; use folders of classes")
        parts = find_parts(one.place.paths[0], self.follow_links)
        split = self._read(one.name, parts.clean or parts.train or (), progress)
        score_over_declared(split, one, self.class_names)
        return split

    def _share(self, evaluated: bool, name: str, progress: Progress) -> Split:
        whole = self._whole(progress)
        mine = np.array([derive_seed(0, "evaluated", image_id) % SHARE == 0 for image_id in whole.ids.tolist()])
        if mine.all() or not mine.any():
            raise DataError(
                f"{self.root}: {len(whole)} images without train and val parts are too few to be divided; make folders "
                "train and val"
            )
        split = Subset(whole, np.flatnonzero(mine == evaluated))
        split.name = name
        return split

    def _whole(self, progress: Progress) -> StoredSplit:
        """The images that are divided into trained on and evaluated; read once for both."""
        if self._undivided is None:
            assert self.parts.train is not None
            self._undivided = self._read("clean", self.parts.train, progress)
        return self._undivided

    def _read(self, name: str, part: Part, progress: Progress) -> StoredSplit:
        count = len(self.class_names)
        if isinstance(part, Tree):
            expected = f"one of the {count} classes, such as {self.class_names[0]}"
            split = folder_split(name, part, self.class_names, expected)
        else:
            split = read_pieces(name, part, progress, classes=self.class_names)
        if len(split) and int(split.labels.max()) >= count:
            where = part[0] if isinstance(part, tuple) else part.place()
            raise DataError(
                f"{where}: a label is {int(split.labels.max())}, and there are {count} classes; complete {NAMES}"
            )
        split.relabel(split.labels, self.class_names)
        split.classes, split.bare_numbers = None, False
        return split


def source_name(root: Path) -> str:
    """What a folder's source is called in results. Raises DataError for a name that belongs to another source."""
    plain = name_in_cache(repository(root).name) if root.is_dir() else root.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain.partition(".")[0]).strip("-._")
    if not NAME.fullmatch(name) or name.lower() in TAKEN:
        raise DataError(f"{root}: '{name}' cannot name a source of one's own; rename it, or name it in a config file")
    return name
