"""What the splits of this version hold, told without drawing them: ids, labels, and digests of the pixels.

`published.json` has the digest of every split as this version draws it, and which candidates are in `a`. Splits named
in `varies` come out otherwise on other processors (see the package's docstring): another digest proves nothing there.
`python -m nsbench.shapes10.published` draws all splits and writes the file anew, which a new version asks for.
"""

from __future__ import annotations

import json
from functools import cache as remember
from pathlib import Path
from typing import NoReturn, TypedDict

import numpy as np

from nsbench.data.source import DataSource, Split
from nsbench.errors import DataError, MissingSplit
from nsbench.progress import SILENT, Progress
from nsbench.randomness import stratified_order
from nsbench.shapes10 import EmbeddedSplit, Shapes10, cache, make, splits

FILE = Path(__file__).with_suffix(".json")


class _Record(TypedDict):
    """The file."""

    version: int  # of the drawing code: make.VERSION
    digests: dict[str, str]
    varies: list[str]
    a: list[int]  # of the candidates


class PublishedSplit(Split):
    """Ids, labels and digest of a split whose pictures are not at hand."""

    origin = EmbeddedSplit.origin

    def __init__(self, name: str, ids: np.ndarray, labels: np.ndarray, digest: str) -> None:
        self.name, self.ids, self.labels, self._digest = name, ids, labels, digest
        self.classes = make.CLASSES.get(name)

    def load(self, index: int) -> NoReturn:
        raise DataError(f"{self.name}: image {self.ids[index]} is not drawn; open the source itself")

    @property
    def digest(self) -> str:
        return self._digest


class PublishedShapes10(DataSource):
    """The embedded source without its pictures."""

    name, title, class_names = Shapes10.name, Shapes10.title, Shapes10.class_names
    surrogate = Shapes10.surrogate

    def splits(self) -> list[str]:
        return make.split_names()

    def split(self, name: str, progress: Progress = SILENT) -> PublishedSplit:
        if name not in make.split_names():
            raise MissingSplit(f"{self.name} has no split '{name}'")
        ids, labels = _images(name)
        return PublishedSplit(name, ids, labels, _record()["digests"][name])


def varies(split: str) -> bool:
    """Whether other processors draw other bytes."""
    return split in _record()["varies"]


def drawn_here(split: str) -> str | None:
    """The digest of a split in this machine's cache; None where it is not there."""
    kept = cache.read(make.path_of(split))
    return kept[1] if kept else None


@remember
def _record() -> _Record:
    record: _Record = json.loads(FILE.read_text(encoding="utf-8"))
    return record


def record_of(source: Shapes10) -> _Record:
    """What the file must say of a source, all of whose splits are drawn where they are not in the cache."""
    return {
        "version": make.VERSION,
        "digests": {name: source.split(name).digest for name in source.splits()},
        "varies": [name for name in source.splits() if _varies(*name.split("/"))],
        "a": [int(image_id.rpartition("/")[2]) for image_id in source.split("a").ids.tolist()],
    }


def _varies(kind: str, corruption: str = "", severity: str = "0") -> bool:
    return kind == "c" and int(severity) >= {"frost": 1, "motion_blur": 3}.get(corruption, 6)


def _images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids and labels, in the split's order."""
    if name.startswith("c/"):
        ids, labels = _images("clean")
        chosen = np.sort(stratified_order(ids, labels)[: make.CORRUPTED])
        return ids[chosen], labels[chosen]
    drawn = splits.CANDIDATES if name == "a" else splits.DRAWN.get(name, splits.DRAWN["clean"])
    indices = np.array(_record()["a"]) if name == "a" else np.arange(drawn.count)
    return np.array(make.image_ids(name, indices)), splits.labels_of(drawn, indices)


if __name__ == "__main__":
    FILE.write_text(json.dumps(record_of(Shapes10()), indent=1) + "\n", encoding="utf-8")
