"""Images that are said to be the embedded source's, held against what is published of it: nothing is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsbench.errors import DataError
from nsbench.results import ConditionResult
from nsbench.shapes10 import published
from nsbench.submission.archive import shown

if TYPE_CHECKING:
    from nsbench.data import Split

EMBEDDED = published.PublishedShapes10.name
TRANSFER = "transfer/"  # how the names of sets begin that were attacked on a surrogate


@dataclass(frozen=True)
class _Told:
    """A split of the embedded source, or a subset of it."""

    labels: Mapping[str, int]  # by id
    available: int  # images without the limit of the run
    digests: tuple[str, ...]  # the published one and the one drawn on this machine
    varies: bool  # other processors draw other bytes
    origin: str
    surrogate_digest: str | None


class EmbeddedSource:
    """Its splits under each limit, told once."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, int | None, int | None], _Told] = {}

    def look(
        self, condition: ConditionResult, labels: Mapping[str, int], own: int | None, limit: int | None
    ) -> tuple[list[str], bool]:
        """Problems, and whether the images are known. `own`: the limit of the suite's condition."""
        try:
            told = self._tell(condition.split, own, limit)
        except DataError:
            return [f"{EMBEDDED} has no split {shown(condition.split)}"], False
        name = f"{shown(condition.split)} of {EMBEDDED}"
        if condition.unreadable:
            return [f"names images that could not be read, and those of {name} always can"], False
        if len(labels) != len(told.labels):
            limits = " under these limits" if own or limit else ""
            return [f"has {len(labels):,} images, and {name} has {len(told.labels):,}{limits}"], False
        if condition.available not in (None, told.available):
            return [
                f"says that {condition.available:,} images were available, and {name} has {told.available:,}"
            ], False
        if odd := sorted(labels.keys() - told.labels.keys()):
            return [f"has images that are not in {name}, such as {shown(odd[0])}"], False
        if wrong := [one for one, label in labels.items() if told.labels[one] != label]:
            first = wrong[0]
            return [
                f"{len(wrong):,} of {len(labels):,} labels are not those of {name}, such as that of {shown(first)}: "
                f"{labels[first]}, there {told.labels[first]}"
            ], False
        return _origin(condition, told, name)

    def _tell(self, split: str, own: int | None, limit: int | None) -> _Told:
        key = split, own, limit
        if key not in self._told:
            self._told[key] = _tell(split, own, limit)
        return self._told[key]


def _tell(name: str, own: int | None, limit: int | None) -> _Told:
    """Raises DataError where the source has no such split."""
    source = published.PublishedShapes10()
    if not name.startswith(TRANSFER):
        whole: Split = source.split(name)
        digests, may_vary = [whole.digest, published.drawn_here(name)], published.varies(name)
    else:
        from nsbench.making.transfer import TransferSource  # loads the surrogate

        whole = TransferSource(source).split(name)
        digests, may_vary = [whole.digest], False
    available = whole.limited(own)
    subset = available.limited(limit)
    labels = dict(zip(subset.ids.tolist(), subset.labels.tolist(), strict=True))
    digests = [digest and _digest_of_subset(digest, whole, own, limit) for digest in digests]
    known = tuple(filter(None, digests))
    return _Told(labels, len(available), known, may_vary, whole.origin, whole.surrogate_digest)


def _digest_of_subset(digest: str, whole: Split, own: int | None, limit: int | None) -> str:
    return published.PublishedSplit(whole.name, whole.ids, whole.labels, digest).limited(own).limited(limit).digest


def _origin(condition: ConditionResult, told: _Told, name: str) -> tuple[list[str], bool]:
    """Problems with what is said of where the images come from, and whether their digest is known."""
    if condition.surrogate_digest != told.surrogate_digest:
        if condition.split.startswith(TRANSFER) and condition.origin.endswith(
            f"(weights {condition.surrogate_digest})"
        ):
            return [], False  # another surrogate than the source's own
        return [
            f"surrogate_digest is {condition.surrogate_digest} and origin {shown(condition.origin)}; of {name} they are "
            f"{told.surrogate_digest} and {shown(told.origin)}"
        ], False
    if condition.origin != told.origin:
        return [f"origin is {shown(condition.origin)}, and that of {name} is {shown(told.origin)}"], False
    if condition.data_digest in told.digests:
        return [], True
    if told.varies:
        return [], False
    return [f"data digest {condition.data_digest} is not that of {name}, {told.digests[0]}"], False
