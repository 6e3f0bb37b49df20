"""Which images a submitted result is on, held against all that is known of them here.

Known are the images of the embedded source, whose ids, labels and digests are published, and those of the results that
the leaderboard holds. Of ImageNet's sets only facts are known: how many images each has, what a label follows from, and
the digest of the validation set's labels. Images that are not known are named; whether to believe in them is for
whoever runs the leaderboard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsbench import registry
from nsbench.errors import DataError, ResultError
from nsbench.results import ConditionResult, Result, read_outcomes
from nsbench.submission.archive import shown
from nsbench.submission.imagenet import IMAGENET, imagenet_problems
from nsbench.types import Outcomes

if TYPE_CHECKING:
    from nsbench.data import Split

EMBEDDED = "shapes10"
CLEAN = "clean"  # the split that C is made from
TRANSFER = "transfer/"  # how the names of sets begin that were attacked on a surrogate
SUCH = 3  # names that a line gives of many


@dataclass(frozen=True)
class Looked:
    """What became clear of one result's images."""

    problems: tuple[str, ...] = ()
    unknown: str = ""  # says which images nothing here knows; "" where all are known


@dataclass(frozen=True)
class _Seen:
    """Images as a result has them that is trusted, or that came first."""

    images: bytes  # digest of ids and labels
    origin: str
    surrogate_digest: str | None
    where: str  # for messages


@dataclass(frozen=True)
class _Told:
    """A split of the embedded source, or a subset of it."""

    labels: Mapping[str, int]  # by id
    digests: tuple[str, ...]  # the published one and the one drawn on this machine
    varies: bool  # other processors draw other bytes
    origin: str
    surrogate_digest: str | None


class KnownImages:
    """What is known of images here, looked up once for all results of an archive."""

    def __init__(self, held: Sequence[Result], results: Iterable[Result]) -> None:
        self.clean = {one.data_digest for result in (*held, *results) for one in _whole_clean(result)}  # of ImageNet
        self._holders: dict[tuple[str, str], Result] = {}
        for result in held:
            for condition in result.conditions:
                self._holders.setdefault((result.source, condition.data_digest), result)
        self._held: dict[tuple[str, str], _Seen] = {}
        self._read: set[int] = set()  # id() of the holders whose outcomes were read
        self._others: dict[tuple[str, str], _Seen] = {}  # of this archive
        self._told: dict[tuple[str, int | None, int | None], _Told] = {}

    def look(self, result: Result, outcomes: Mapping[str, Outcomes]) -> Looked:
        """Hold a result's images against what is known. Its suite must be known here, with these conditions."""
        problems: list[str] = []
        unknown: dict[str, None] = {}
        for condition, asked in zip(result.conditions, registry.suites[result.suite].conditions(), strict=True):
            mine = outcomes[condition.name]
            lines, known = self._look(result, condition, mine, asked.limit)
            problems += [f"condition {shown(condition.name)}: {line}" for line in lines]
            if not known:
                unknown[condition.split] = None
        which = f"no known set and no held result has the images of {_such(unknown)} here" if unknown else ""
        return Looked(tuple(problems[:5]), which)

    def _look(
        self, result: Result, condition: ConditionResult, mine: Outcomes, limit: int | None
    ) -> tuple[list[str], bool]:
        """Problems, and whether the images are known."""
        labels = dict(zip(mine.ids.tolist(), mine.labels.tolist(), strict=True))
        key, known = (result.source, condition.data_digest), False
        problems: list[str] = []
        if result.source == EMBEDDED:
            problems, known = self._embedded(condition, labels, limit, result.provenance.limit)
        elif result.source == IMAGENET:
            problems = imagenet_problems(condition, labels, limit, result.provenance.limit, self.clean)
        if problems or known:
            return problems, True
        seen = _seen(condition, mine, f"another result of this archive, of suite {shown(result.suite)}")
        held = self._held_images(key)
        return _differences(seen, held or self._others.setdefault(key, seen)), held is not None

    def _held_images(self, key: tuple[str, str]) -> _Seen | None:
        """Of a held result with this source and data digest."""
        holder = self._holders.get(key)
        if holder is not None and id(holder) not in self._read:
            self._read.add(id(holder))
            self._read_all(holder)
        return self._held.get(key)

    def _read_all(self, holder: Result) -> None:
        try:
            outcomes = read_outcomes(holder)
        except ResultError:
            return  # a broken result of ours is no evidence against theirs
        for one in holder.conditions:
            where = f"the leaderboard's results with data digest {one.data_digest}"
            self._held.setdefault((holder.source, one.data_digest), _seen(one, outcomes[one.name], where))

    # --- the embedded source ----------------------------------------------------------------------------------------

    def _embedded(
        self, condition: ConditionResult, labels: Mapping[str, int], own: int | None, limit: int | None
    ) -> tuple[list[str], bool]:
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
    from nsbench.shapes10.published import PublishedShapes10, drawn_here, varies

    source = PublishedShapes10()
    if not name.startswith(TRANSFER):
        whole: Split = source.split(name)
        digests, may_vary = [whole.digest, drawn_here(name)], varies(name)
    else:
        from nsbench.making.transfer import TransferSource  # loads the surrogate

        whole = TransferSource(source).split(name)
        digests, may_vary = [whole.digest], False
    subset = whole.limited(own).limited(limit)
    labels = dict(zip(subset.ids.tolist(), subset.labels.tolist(), strict=True))
    digests = [digest and _digest_of_subset(digest, whole, own, limit) for digest in digests]
    return _Told(labels, tuple(filter(None, digests)), may_vary, whole.origin, whole.surrogate_digest)


def _digest_of_subset(digest: str, whole: Split, own: int | None, limit: int | None) -> str:
    from nsbench.shapes10.published import PublishedSplit

    return PublishedSplit(whole.name, whole.ids, whole.labels, digest).limited(own).limited(limit).digest


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


# --- held against one another ---------------------------------------------------------------------------------------


def _seen(condition: ConditionResult, mine: Outcomes, where: str) -> _Seen:
    order = np.argsort(mine.ids, kind="stable")
    content = "\0".join(mine.ids[order].tolist()).encode() + mine.labels[order].astype(np.int64).tobytes()
    return _Seen(hashlib.sha256(content).digest(), condition.origin, condition.surrogate_digest, where)


def _differences(mine: _Seen, seen: _Seen) -> list[str]:
    """The same data cannot have other images, labels or origins."""
    if mine.images != seen.images:
        return [f"has other images or labels than {seen.where}"]
    if (mine.origin, mine.surrogate_digest) != (seen.origin, seen.surrogate_digest):
        return [f"origin is {shown(mine.origin)}, and {shown(seen.origin)} in {seen.where}"]
    return []


def _whole_clean(result: Result) -> list[ConditionResult]:
    """Conditions on the whole validation set of ImageNet, whose digest shows in those of sets made from it."""
    if result.source != IMAGENET or result.provenance.limit:
        return []
    return [one for one in result.conditions if one.split == CLEAN]


def _such(names: Mapping[str, None]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SUCH} more" if len(listed) > SUCH else ""
    return ", ".join(map(shown, listed[:SUCH])) + more
