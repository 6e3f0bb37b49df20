"""Which images a submitted result is on, held against all that is known of them here.

Known are the images of the embedded source, whose ids, labels and digests are published, and those of the results that
the leaderboard holds. Of ImageNet's sets only facts are known: how many images each has, what a label follows from, and
the digest of the validation set's labels. Images that are not known are named; whether to believe in them is for
whoever runs the leaderboard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsbench import registry
from nsbench.errors import ResultError
from nsbench.results import ConditionResult, Result, read_outcomes
from nsbench.submission.archive import shown
from nsbench.submission.embedded import EMBEDDED, EmbeddedSource
from nsbench.submission.imagenet import IMAGENET, origin_problems, set_problems
from nsbench.types import Outcomes

if TYPE_CHECKING:
    pass

CLEAN = "clean"  # the split that C is made from
SUCH = 3  # names that a line gives of many


@dataclass(frozen=True)
class Looked:
    """What became clear of one result's images."""

    problems: tuple[str, ...] = ()
    unknown: str = ""  # says which images nothing here knows; "" where all are known


@dataclass(frozen=True)
class _Images:
    """The images of a condition."""

    ids: np.ndarray
    labels: np.ndarray

    @cached_property
    def by_id(self) -> Mapping[str, int]:
        """Labels, in the order of the images."""
        return dict(zip(self.ids.tolist(), self.labels.tolist(), strict=True))

    @cached_property
    def digest(self) -> bytes:
        """Of ids and labels, in any order."""
        order = np.argsort(self.ids, kind="stable")
        content = "\0".join(self.ids[order].tolist()).encode() + self.labels[order].astype(np.int64).tobytes()
        return hashlib.sha256(content).digest()


@dataclass(frozen=True)
class _Seen:
    """Images as a result has them that is trusted, or that came first."""

    images: bytes  # digest of ids and labels
    origin: str
    surrogate_digest: str | None
    where: str  # for messages


class KnownImages:
    """What is known of images here, looked up once for all results of an archive."""

    def __init__(self, held: Sequence[Result], results: Iterable[Result]) -> None:
        self.clean = {one.data_digest for result in (*held, *results) for one in _whole_clean(result)}  # of ImageNet
        self.unread: list[str] = []  # why held results could not be read, a line each
        self._holders: dict[tuple[str, str], Result] = {}
        for result in held:
            for condition in result.conditions:
                self._holders.setdefault((result.source, condition.data_digest), result)
        self._held: dict[tuple[str, str], _Seen] = {}
        self._read: set[int] = set()  # id() of the holders whose outcomes were read
        self._others: dict[tuple[str, str], _Seen] = {}  # of this archive
        self._embedded = EmbeddedSource()
        self._found: dict[Hashable, list[str]] = {}  # by images and limits

    def look(self, result: Result, outcomes: Mapping[str, Outcomes]) -> Looked:
        """Hold a result's images against what is known. Its suite must be known here, with these conditions."""
        problems: list[str] = []
        unknown: dict[str, None] = {}
        sets: dict[tuple[int, int], _Images] = {}  # conditions on the same images share their arrays
        for condition, asked in zip(result.conditions, registry.suites[result.suite].conditions(), strict=True):
            ids, values = outcomes[condition.name].ids, outcomes[condition.name].labels
            mine = sets.setdefault((id(ids), id(values)), _Images(ids, values))
            lines, known = self._look(result, condition, mine, asked.limit)
            problems += [f"condition {shown(condition.name)}: {line}" for line in lines]
            if not known:
                unknown[condition.split] = None
        which = f"no known set and no held result has the images of {_such(unknown)} here" if unknown else ""
        return Looked(tuple(problems[:5]), which)

    def _look(
        self, result: Result, condition: ConditionResult, mine: _Images, own: int | None
    ) -> tuple[list[str], bool]:
        """Problems, and whether the images are known. `own`: the limit of the suite's condition."""
        key, limit, known = (result.source, condition.data_digest), result.provenance.limit, False
        problems: list[str] = []
        if result.source == EMBEDDED:
            problems, known = self._embedded.look(condition, mine.by_id, own, limit)
        elif result.source == IMAGENET:
            problems = origin_problems(condition, mine.by_id, bool(own or limit), self.clean) or self._published(
                condition, mine, own, limit
            )
        if problems or known:
            return problems, True
        seen = _seen(condition, mine, f"another result of this archive, of suite {shown(result.suite)}")
        held = self._held_images(key)
        return _differences(seen, held or self._others.setdefault(key, seen)), held is not None

    def _published(self, condition: ConditionResult, mine: _Images, own: int | None, limit: int | None) -> list[str]:
        """What `set_problems` finds, once for all conditions on the same images."""
        counts = len(condition.unreadable), condition.available, own, limit
        key = condition.split.partition("/")[0], mine.digest, counts
        if key not in self._found:
            self._found[key] = set_problems(condition, mine.by_id, own, limit)
        return self._found[key]

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
        except ResultError as error:  # no evidence against theirs, and none for them
            self.unread.append(str(error))
            return
        for one in holder.conditions:
            where = f"the leaderboard's results with data digest {one.data_digest}"
            self._held.setdefault(
                (holder.source, one.data_digest),
                _seen(one, _Images(outcomes[one.name].ids, outcomes[one.name].labels), where),
            )


def _seen(condition: ConditionResult, mine: _Images, where: str) -> _Seen:
    return _Seen(mine.digest, condition.origin, condition.surrogate_digest, where)


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
