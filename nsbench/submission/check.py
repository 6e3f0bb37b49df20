"""Checking results from a stranger: schema, names, impossible values, and every figure worked out again.

Scores and intervals are computed from the per-image outcomes by the suite's own function, from the files that are
installed here; the submitted figures are only compared with them. What no archive can prove, that the outcomes are
those of the weights, a re-run of a random sample of images shows where the weights are at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nsbench import registry
from nsbench.errors import NsbenchError, ResultError
from nsbench.randomness import generator
from nsbench.results import Result, old_outcomes_path, read_outcomes
from nsbench.submission.archive import Archive, Limits, open_archive, printable, shown
from nsbench.submission.figures import figure_problems
from nsbench.submission.schema import submitted_result
from nsbench.submission.values import outcomes_of, value_problems
from nsbench.types import Outcomes

# predictions, by condition and image id, of a fresh run of these images; raises where it cannot be done
Rerun = Callable[[Result, Mapping[str, Sequence[str]]], Mapping[str, Mapping[str, int]]]
DISAGREEMENT = 0.02  # share of a sample that another machine's arithmetic may tip over


@dataclass(frozen=True)
class Checked:
    """What an archive holds, and all that is wrong with it, a line each."""

    digest: str
    results: tuple[Result, ...]
    problems: tuple[str, ...]
    rerun: int = 0  # images that were run again and agree, but for DISAGREEMENT
    not_rerun: tuple[str, ...] = ()  # where a re-run was asked for: results that had none, and why

    @property
    def accepted(self) -> bool:
        return not self.problems


def check_archive(
    path: Path,
    *,
    held: Sequence[Result] = (),
    limits: Limits | None = None,
    rerun: Rerun | None = None,
    sample_size: int = 20,
    seed: int = 0,
) -> Checked:
    """Check an archive; the suites' files must be loaded (`registry.load_content`) or are loaded here.

    `held`: results of the leaderboard that it would join; the same images must have the same labels there. `rerun`:
    runs a random sample of images of each condition again. Raises ResultError where the archive itself cannot be read
    or trusted; whatever is wrong with single results is a line in `problems`.
    """
    limits = limits or Limits()
    archive = open_archive(path, limits)
    registry.load_content()
    names = sorted(name for name in archive.files if name.endswith(".json"))
    labels = _Labels(held)
    members = [_check_member(name, archive, labels, limits, rerun, sample_size, seed) for name in names]
    results = [member.result for member in members if member.result]
    problems = [
        *_unpaired(archive, results, names),
        *(f"{name}: {line}" for name, member in zip(names, members, strict=True) for line in member.problems),
        *_repeated(results),
        *([] if names else ["holds no result"]),
    ]
    not_rerun = tuple(f"{name}: {one.not_rerun}" for name, one in zip(names, members, strict=True) if one.not_rerun)
    return Checked(archive.digest, tuple(results), tuple(problems), sum(one.rerun for one in members), not_rerun)


@dataclass(frozen=True)
class _Member:
    """What a result of the archive is, and what is wrong with it."""

    result: Result | None  # None: its form is wrong
    problems: Sequence[str] = ()
    rerun: int = 0  # images that were run again and agree
    not_rerun: str = ""  # why not


def _check_member(
    name: str, archive: Archive, labels: _Labels, limits: Limits, rerun: Rerun | None, size: int, seed: int
) -> _Member:
    result, problems = submitted_result(name, archive.files[name])
    if result is None or problems:
        return _Member(None, problems)
    try:
        outcomes = outcomes_of(result, archive.files.get(old_outcomes_path(result).as_posix()), limits)
        problems = (
            value_problems(result, outcomes) or figure_problems(result, outcomes) or labels.problems(result, outcomes)
        )
    except NsbenchError as error:
        problems = [_line(error)]
    if problems or not rerun:
        return _Member(result, problems)
    try:
        problems, images = _rerun(result, outcomes, rerun, size, seed)
    except NsbenchError as error:
        return _Member(result, not_rerun=_line(error))
    return _Member(result, problems, images)


def _line(error: NsbenchError) -> str:
    return printable(str(error).splitlines()[0])


def _unpaired(archive: Archive, results: Sequence[Result], names: Sequence[str]) -> list[str]:
    """Files of outcomes that no result names, beside which there is none or one of another format."""
    stems = {name.removesuffix(".json") for name in names}
    own = {old_outcomes_path(result).as_posix() for result in results}
    read = {old_outcomes_path(result).with_suffix("").as_posix() for result in results}
    return [
        f"{name}: has no result beside it"
        for name in sorted(set(archive.files) - set(names) - own)
        if (stem := name.rpartition(".")[0]) in read or stem not in stems
    ]


def _repeated(results: Sequence[Result]) -> list[str]:
    counts = Counter(result.identity for result in results)
    return [f"identity {identity} is there more than once" for identity, count in counts.items() if count > 1]


class _Labels:
    """Labels by data digest: the same data cannot have other labels or images."""

    def __init__(self, held: Sequence[Result]) -> None:
        self.held: dict[tuple[str, str], Result] = {}
        for result in held:
            for condition in result.conditions:
                self.held.setdefault((result.source, condition.data_digest), result)
        self.known: dict[tuple[str, str], dict[str, int] | None] = {}

    def problems(self, result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
        for condition in result.conditions:
            known = self._known((result.source, condition.data_digest))
            mine = outcomes[condition.name]
            if known is not None and known != dict(zip(mine.ids.tolist(), mine.labels.tolist(), strict=True)):
                return [
                    f"condition {shown(condition.name)} has other images or labels than the leaderboard's "
                    f"results with data digest {condition.data_digest}"
                ]
        return []

    def _known(self, key: tuple[str, str]) -> dict[str, int] | None:
        if key not in self.known:
            self.known[key] = self._read(key)
        return self.known[key]

    def _read(self, key: tuple[str, str]) -> dict[str, int] | None:
        result = self.held.get(key)
        if result is None:
            return None
        try:
            outcomes = read_outcomes(result)
        except ResultError:
            return None  # a broken result of ours is no evidence against theirs
        name = next(one.name for one in result.conditions if one.data_digest == key[1])
        return dict(zip(outcomes[name].ids.tolist(), outcomes[name].labels.tolist(), strict=True))


def sample(result: Result, outcomes: Mapping[str, Outcomes], size: int = 20, seed: int = 0) -> dict[str, list[str]]:
    """Ids of at most `size` random images of each condition, which whoever submits cannot foresee but for the seed."""
    drawn = {}
    for name, mine in outcomes.items():
        rng = generator(seed, "submission", result.identity, name)
        chosen = rng.choice(len(mine), min(size, len(mine)), replace=False)
        drawn[name] = [str(image_id) for image_id in mine.ids[np.sort(chosen)]]
    return drawn


def _rerun(
    result: Result,
    outcomes: Mapping[str, Outcomes],
    rerun: Rerun,
    size: int,
    seed: int,
) -> tuple[list[str], int]:
    """Problems, and how many images agree. Raises NsbenchError where they cannot be run here."""
    wanted = sample(result, outcomes, size, seed)
    fresh = rerun(result, wanted)
    images = differ = 0
    for name, ids in wanted.items():
        stated = dict(zip(outcomes[name].ids.tolist(), outcomes[name].predictions.tolist(), strict=True))
        images += len(ids)
        differ += sum(fresh[name][image_id] != stated[image_id] for image_id in ids)
    if differ > max(1, DISAGREEMENT * images):
        return [
            f"{differ} of {images} images that were run again are predicted otherwise; at most "
            f"{100 * DISAGREEMENT:g} % may differ by another machine's arithmetic"
        ], 0
    return [], images - differ
