"""Checking results from a stranger: schema, names, impossible values, and every figure worked out again.

Scores and intervals are computed from the per-image outcomes by the suite's own function, from the files that are
installed here; the submitted figures are only compared with them. What no archive can prove, that the outcomes are
those of the weights, a re-run of a random sample of images shows where the weights are at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nsbench import registry
from nsbench.errors import NsbenchError
from nsbench.randomness import generator
from nsbench.results import Result, old_outcomes_path
from nsbench.submission.archive import Archive, Limits, open_archive, printable
from nsbench.submission.figures import score_problems, suite_problems
from nsbench.submission.images import KnownImages
from nsbench.submission.rows import DISAGREEMENT, CleanPredictions, row_problems
from nsbench.submission.schema import submitted_result
from nsbench.submission.statements import statement_problems
from nsbench.submission.values import outcomes_of, value_problems
from nsbench.types import Outcomes

# outcomes, by condition, of a fresh run of the images with these ids; raises where it cannot be done
Rerun = Callable[[Result, Mapping[str, Sequence[str]]], Mapping[str, Outcomes]]
CONFIDENCE = 0.01  # by which another machine's arithmetic may move the confidence in an image that is not attacked
ALLOW = "accept such data with --allow-unknown-data"


@dataclass(frozen=True)
class Checked:
    """What an archive holds, and all that is wrong with it, a line each."""

    digest: str
    results: tuple[Result, ...]
    problems: tuple[str, ...]
    unknown: tuple[str, ...] = ()  # results on images that nothing here knows, where these are allowed
    rerun: int = 0  # images that were run again and agree, but for DISAGREEMENT
    not_rerun: tuple[str, ...] = ()  # where a re-run was asked for: results that had none, and why
    not_held_against: tuple[
        str, ...
    ] = ()  # held results that cannot be read, and why: the check is weaker without them

    @property
    def accepted(self) -> bool:
        return not (self.problems or self.not_held_against)


def check_archive(
    path: Path,
    *,
    held: Sequence[Result] = (),
    broken: Sequence[str] = (),
    limits: Limits | None = None,
    rerun: Rerun | None = None,
    sample_size: int = 20,
    seed: int = 0,
    allow_unknown_data: bool = False,
) -> Checked:
    """Check an archive; the suites' files must be loaded (`registry.load_content`) or are loaded here.

    `held`: results of the leaderboard that it would join; the same images must have the same labels there. `broken`: a
    line for each of its files that cannot be read (`read_results` gives both). `rerun`: runs a random sample of images of
    each condition again. `allow_unknown_data`: images that neither the embedded source nor a held result has are no
    problem. Raises ResultError where the archive itself cannot be read or trusted; whatever is wrong with single results
    is a line in `problems`.
    """
    limits = limits or Limits()
    archive = open_archive(path, limits)
    registry.load_content()
    names = sorted(name for name in archive.files if name.endswith(".json"))
    read = {name: submitted_result(name, archive.files[name]) for name in names}
    sound = {name: result for name, (result, wrong) in read.items() if result is not None and not wrong}
    checks = _Checks.of(archive, limits, held, sound.values(), rerun, sample_size, seed)
    members = {name: checks.member(result) for name, result in sound.items()}
    unknown = tuple(f"{name}: {one.unknown}" for name, one in members.items() if one.unknown)
    problems = (
        *_unpaired(archive, list(sound.values()), names),
        *(f"{name}: {line}" for name in names for line in (members[name].problems if name in sound else read[name][1])),
        *row_problems(sound, held),
        *_repeated(list(sound.values())),
        *([] if names else ["holds no result"]),
        *([] if allow_unknown_data else [f"{line}; {ALLOW}" for line in unknown]),
    )
    return Checked(
        archive.digest,
        tuple(sound.values()),
        problems,
        unknown if allow_unknown_data else (),
        sum(one.rerun for one in members.values()),
        tuple(f"{name}: {one.not_rerun}" for name, one in members.items() if one.not_rerun),
        (*broken, *checks.images.unread),
    )


def needed(results: Sequence[Result]) -> str:
    """Which files a re-run of these results needs, in words."""
    rows = dict.fromkeys((r.provenance.weights_digest, r.model, r.method) for r in results)
    files = [f"those of {printable(method)} ({printable(model)}), digest {digest}" for digest, model, method in rows]
    return f"it needs the file of the weights, --checkpoint FILE: {'; '.join(files) or 'of a result that is sound'}"


@dataclass(frozen=True)
class _Member:
    """What is wrong with a result of the archive."""

    problems: Sequence[str]
    unknown: str = ""
    rerun: int = 0  # images that were run again and agree
    not_rerun: str = ""  # why not


@dataclass(frozen=True)
class _Checks:
    """What all results of an archive are held against."""

    archive: Archive
    limits: Limits
    images: KnownImages
    clean: CleanPredictions
    rerun: Rerun | None
    sample_size: int
    seed: int

    @classmethod
    def of(
        cls,
        archive: Archive,
        limits: Limits,
        held: Sequence[Result],
        results: Collection[Result],
        rerun: Rerun | None,
        sample_size: int,
        seed: int,
    ) -> _Checks:
        return cls(archive, limits, KnownImages(held, results), CleanPredictions.of(results), rerun, sample_size, seed)

    def member(self, result: Result) -> _Member:
        """Outcomes are read of one result at a time."""
        content = self.archive.files.get(old_outcomes_path(result).as_posix())
        if problems := suite_problems(result):
            return _Member(problems)
        try:
            outcomes = outcomes_of(result, content, self.limits)
            if problems := value_problems(result, outcomes) or score_problems(result, outcomes):
                return _Member(problems)
            looked = self.images.look(result, outcomes)
            problems = [*statement_problems(result, outcomes), *looked.problems]
            problems = problems or self.clean.problems(result, outcomes)
        except NsbenchError as error:
            return _Member([_line(error)])
        if problems or self.rerun is None:
            return _Member(problems, looked.unknown)
        try:
            problems, images = _rerun(result, outcomes, self.rerun, self.sample_size, self.seed)
        except NsbenchError as error:
            return _Member([], looked.unknown, not_rerun=_line(error))
        return _Member(problems, looked.unknown, images)


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
    for condition in result.conditions:
        mine, again = outcomes[condition.name], fresh[condition.name]
        at = {image_id: k for k, image_id in enumerate(mine.ids.tolist())}
        stated = np.array([at[image_id] for image_id in again.ids.tolist()])
        other = mine.predictions[stated] != again.predictions
        if condition.attack is None and mine.confidence is not None and again.confidence is not None:
            other |= np.abs(mine.confidence[stated] - again.confidence) > CONFIDENCE
        images += len(again)
        differ += int(other.sum())
    if differ > max(1, DISAGREEMENT * images):
        return [
            f"{differ} of {images} images that were run again come out otherwise; at most "
            f"{100 * DISAGREEMENT:g} % may differ by another machine's arithmetic"
        ], 0
    return [], images - differ
