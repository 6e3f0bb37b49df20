"""Checking results from a stranger: schema, names, impossible values, and every figure worked out again.

Scores and intervals are computed from the per-image outcomes by the suite's own function, from the files that are
installed here; the submitted figures are only compared with them. What no archive can prove, that the outcomes are
those of the weights, a re-run of a random sample of images shows where the weights are at hand.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nsbench import registry
from nsbench.errors import NsbenchError, ResultError
from nsbench.randomness import generator
from nsbench.results import Result, read_result
from nsbench.submission.archive import Archive, Limits, open_archive, shown
from nsbench.submission.figures import figure_problems
from nsbench.submission.schema import schema_problems
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


def check(
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
    with tempfile.TemporaryDirectory() as folder:
        return _check(archive, Path(folder), held, limits, rerun, sample_size, seed)


def _check(
    archive: Archive,
    folder: Path,
    held: Sequence[Result],
    limits: Limits,
    rerun: Rerun | None,
    sample_size: int,
    seed: int,
) -> Checked:
    problems: list[str] = []
    not_rerun: list[str] = []
    results: list[Result] = []
    agreed = 0
    labels = _Labels(held)
    names = sorted(name for name in archive.files if name.endswith(".json"))
    lonely = {name.rpartition(".")[0] for name in archive.files} ^ {name.removesuffix(".json") for name in names}
    problems += [f"{stem}.npz: has no result beside it" for stem in sorted(lonely)]
    for name in names:
        found = schema_problems(name, archive.files[name])
        outcomes: dict[str, Outcomes] = {}
        if not found:
            result = _stored(folder, name, archive)
            try:
                outcomes = outcomes_of(result, archive.files.get(name.removesuffix(".json") + ".npz"), limits)
                found = (
                    value_problems(result, outcomes)
                    or figure_problems(result, outcomes)
                    or labels.problems(result, outcomes)
                )
            except NsbenchError as error:
                found = [str(error).replace(str(folder), "").splitlines()[0]]
            if not found and rerun:
                try:
                    found, images = _rerun(result, outcomes, rerun, sample_size, seed)
                    agreed += images
                except NsbenchError as error:
                    not_rerun.append(f"{name}: {str(error).splitlines()[0]}")
            results.append(result)
        problems += [f"{name}: {line}" for line in found]
    twice = [identity for identity, count in Counter(r.identity for r in results).items() if count > 1]
    problems += [f"identity {identity} is there more than once" for identity in twice]
    if not names:
        problems.append("holds no result")
    return Checked(archive.digest, tuple(results), tuple(problems), agreed, tuple(not_rerun))


def _stored(folder: Path, name: str, archive: Archive) -> Result:
    """The result as the reader of a results folder sees it."""
    for file in (name, name.removesuffix(".json") + ".npz"):
        if file in archive.files:
            place = folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.files[file])
    try:
        return read_result(folder / name)
    except ResultError as error:
        raise ResultError(str(error).replace(str(folder), "").splitlines()[0]) from error


class _Labels:
    """Labels by data digest: the same data cannot have other labels or images."""

    def __init__(self, held: Sequence[Result]) -> None:
        self.held: dict[tuple[str, str], Result] = {}
        for result in held:
            for condition in result.conditions:
                self.held.setdefault((result.source, str(condition.get("data_digest"))), result)
        self.known: dict[tuple[str, str], dict[str, int] | None] = {}

    def problems(self, result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
        for condition in result.conditions:
            known = self._known((result.source, str(condition["data_digest"])))
            mine = outcomes[condition["name"]]
            if known is not None and known != dict(zip(mine.ids.tolist(), mine.labels.tolist(), strict=True)):
                return [
                    f"condition {shown(condition['name'])} has other images or labels than the leaderboard's "
                    f"results with data digest {condition['data_digest']}"
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
            outcomes = result.outcomes()
        except ResultError:
            return None  # a broken result of ours is no evidence against theirs
        name = next(c["name"] for c in result.conditions if str(c["data_digest"]) == key[1])
        return dict(zip(outcomes[name].ids.tolist(), outcomes[name].labels.tolist(), strict=True))


def sample(result: Result, outcomes: Mapping[str, Outcomes], size: int = 20, seed: int = 0) -> dict[str, list[str]]:
    """Ids of at most `size` random images of each condition, which whoever submits cannot foresee but for the seed."""
    found = {}
    for name, mine in outcomes.items():
        rng = generator(seed, "submission", result.identity, name)
        chosen = rng.choice(len(mine), min(size, len(mine)), replace=False)
        found[name] = [str(image_id) for image_id in mine.ids[np.sort(chosen)]]
    return found


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
