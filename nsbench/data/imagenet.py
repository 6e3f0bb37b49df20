"""ImageNet-1k and whichever of its shifted sets exist beside it: found under one folder, or named in a config file.

Labels are positions in the sorted list of the 1000 wnids, whatever the sets are stored in. "a" and "r" are scored
over their 200 classes. Any other set is scored over all 1000, however few it holds, unless a config file declares its
classes: a half-copied set must never be scored over fewer classes in silence.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from nsbench.data import wnids
from nsbench.data.config import Layout, read_config
from nsbench.data.corrupted import ENGINE, CorruptedSplit, corrupted_names, parsed
from nsbench.data.find import FOLDERS, Place, corrupted_trees, find_sets, open_set, open_tree_set
from nsbench.data.masks import find_masks
from nsbench.data.named_sets import PRESENT, NamedSet, open_of_its_own, score_over_declared, with_several_labels
from nsbench.data.numbering import IMAGENET, check_members, meaning, names_beside, settled
from nsbench.data.robustbench_images import ROBUSTBENCH, robustbench_images
from nsbench.data.source import DataSource, Split
from nsbench.data.stored import StoredSplit
from nsbench.data.trees import Tree
from nsbench.errors import DataError, MissingSplit
from nsbench.progress import SILENT, Progress

CORRUPTED = tuple(corrupted_names())
CONFIG_SUFFIX = ".toml"


class ImageNetTree(DataSource):
    """The sets of ImageNet-1k under one folder, or where a config file says. Raises DataError where there is none."""

    title = "ImageNet"
    class_names = wnids.wnids()
    default_recipe = "paper"

    def __init__(self, root: str | Path, engine: str = ENGINE, follow_links: bool = False) -> None:
        self.root: Path = Path(root)
        self.engine = engine  # of the corruptions, where C is made in memory
        described = self.root.suffix.lower() == CONFIG_SUFFIX and os.path.isfile(self.root)
        self.layout = read_config(self.root) if described else Layout(self.root, find_sets(self.root))
        self.follow_links = follow_links or self.layout.follow_links  # out of the sets
        self.name = self.layout.name
        if self.name != "imagenet":
            self.title = self.name
        self.surrogate = self.layout.surrogate
        self._splits: dict[str, Split] = {}

    def splits(self) -> list[str]:
        places = self.layout.places
        plain = [name for name in FOLDERS if name in places] + list(self.layout.sets)
        if "c" in places:
            here = {f"c/{name}" for name in self._corrupted_trees}
            return plain + [name for name in CORRUPTED if name in here] + sorted(here - set(CORRUPTED))
        return plain + (list(CORRUPTED) if "clean" in places else [])

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        """One split, scanned once. Images are read when they are loaded; C is made from val where it is not here."""
        if name not in self._splits:
            self._splits[name] = (
                self._corrupted(name, progress) if name.startswith("c/") else self._plain(name, progress)
            )
        return self._splits[name]

    def _plain(self, name: str, progress: Progress) -> Split:
        if name in self.layout.sets:
            return self._named(self.layout.sets[name], progress)
        if name == ROBUSTBENCH:
            return robustbench_images(self.split("clean", progress))
        if name not in FOLDERS:
            raise _unknown(name)
        if name not in self.layout.places:
            raise MissingSplit(f"{self.root}: no '{name}' set; looked for a folder {' or '.join(FOLDERS[name])}")
        place = self.layout.places[name]
        split = open_set(name, place, wnids.subset(name), progress, self.follow_links)
        settled = self._settled(split, name, place)
        if name == "train" and self.layout.masks:
            settled.take_masks(find_masks(self.layout.masks, settled.ids.tolist()))
        return self._declared(settled, name)

    def _named(self, one: NamedSet, progress: Progress) -> Split:
        if one.own:
            return open_of_its_own(one, progress, self.follow_links)
        several = one.place.labels if one.place.labels and one.place.labels.suffix.lower() == ".json" else None
        place = Place(one.place.paths) if several else one.place
        split = self._settled(open_set(one.name, place, None, progress, self.follow_links), one.name, place)
        if several:
            return with_several_labels(split, several, wnids.label_of())
        score_over_declared(split, one, self.class_names)
        return split

    def _corrupted(self, name: str, progress: Progress) -> Split:
        corruption, severity = parsed(name)
        if "c" not in self.layout.places:
            return CorruptedSplit(self.split("clean", progress), corruption, severity, self.engine)
        tree = self._corrupted_trees.get(f"{corruption}/{severity}")
        if tree is None:
            place = self.layout.places["c"].paths[0]
            raise MissingSplit(
                f"{place / corruption / str(severity)}: is absent; copy it, or move {place} away to make C from val"
            )
        return self._declared(open_tree_set(name, tree), "c")

    @cached_property
    def _corrupted_trees(self) -> dict[str, Tree]:
        return corrupted_trees(self.layout.places["c"], self.follow_links)

    def _declared(self, split: StoredSplit, key: str) -> Split:
        """The split with the classes that the config file declares for it."""
        declared = self.layout.classes.get(key)
        if declared is None or declared == IMAGENET:
            return split
        present = tuple(np.unique(split.labels).tolist())
        foreign = sorted(set(present) - set(present if declared == PRESENT else map(int, declared)))
        if foreign:
            raise DataError(
                f"{self.root}: '{split.name}' holds {len(foreign)} class(es) that [classes] does not list, "
                f"such as {wnids.wnids()[foreign[0]]}; its images would count as errors always"
            )
        split.classes = present if declared == PRESENT else tuple(sorted(map(int, declared)))
        return split

    def _settled(self, split: StoredSplit, name: str, place: Place) -> StoredSplit:
        """The split with what its label numbers mean; every label is of a class that the set is scored over."""
        stated = self.layout.classes.get(name)
        if split.bare_numbers and stated is None and (beside := _class_names(split, place)):
            names, file = beside
            numbers = meaning(names, file)
            if foreign := set(split.labels.tolist()) - numbers.keys():
                raise DataError(f"{file}: names {len(names)} classes, and a label is {max(foreign)}; complete it")
            split.relabel(np.array([numbers[label] for label in split.labels.tolist()], dtype=np.int64))
        elif split.bare_numbers:
            split.relabel(settled(split.labels, name, place.paths[0], split.classes, stated))
        check_members(split.labels, wnids.subset(name), place.paths[0])
        return split


def _class_names(split: StoredSplit, place: Place) -> tuple[list[str], Path] | None:
    """Names of the classes beside the files of the split, or above them as far as the set's folder."""
    home = split.home()[0]
    folder = home if home.is_dir() else home.parent
    while (found := names_beside(folder)) is None and place.paths[0] in folder.parents:
        folder = folder.parent
    return found


def _unknown(name: str) -> MissingSplit:
    known = ", ".join(FOLDERS)
    return MissingSplit(f"imagenet has no split '{name}'; known: {known}, c/<corruption>/<severity>")
