"""One pair of a method and a suite: its images, what identifies it, whether it is stored, its evaluations, its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nsbench import processes, registry, results
from nsbench.data import Split
from nsbench.data.sized import for_model
from nsbench.data.source import digest_of
from nsbench.errors import CorruptImage
from nsbench.health import doubts
from nsbench.progress import Fact
from nsbench.results import Result
from nsbench.results.comparability import image_set
from nsbench.results.samples import pack_samples, pictures_of
from nsbench.results.threat_words import threat_words
from nsbench.run.evaluate import Evaluation, evaluate
from nsbench.run.job import Job
from nsbench.run.known import Memory
from nsbench.run.recording import Pair, available, result_line
from nsbench.run.sound import check_splits, check_suite
from nsbench.types import Condition, Method, Suite

if TYPE_CHECKING:
    from nsbench.models import Model


def pair_of(job: Job, method: Method, suite: str) -> Pair:
    return Pair(method.name, suite, job.seed, name_seed=len(job.options.seeds) > 1)


def facts_of(pair: Pair) -> dict[str, Fact]:
    return {"method": pair.method, "suite": pair.suite, "seed": pair.seed}


def splits_of(job: Job, suite: Suite) -> list[Split]:
    """The images of each condition: the suite's own subset, cut further by --limit.

    Where data have to be made, the first of several processes makes them, and the others find them. Raises an nsbench
    error for a suite that cannot be worked out.
    """
    if processes.count() > 1:
        processes.first(lambda: bool(_splits(job, suite)))
    return _splits(job, suite)


def _splits(job: Job, suite: Suite) -> list[Split]:
    conditions = check_suite(suite)
    splits = [_prepared(job, one).limited(one.limit).limited(job.options.limit) for one in conditions]
    check_splits(conditions, splits)
    return splits


def _prepared(job: Job, condition: Condition) -> Split:
    split = job.source.split(condition.split, job.progress)
    return for_model(split, condition.preprocess, job.parent.input_size, job.options.resize_ready)


def identity_of(job: Job, suite: Suite, splits: list[Split], key: str) -> str:
    """Digest of all that decides the outcomes, apart from the machine's arithmetic."""
    settings = [_setting(condition, split) for condition, split in zip(suite.conditions(), splits, strict=True)]
    used = [registry.attacks[c.attack].code for c in suite.conditions() if c.attack]
    codes = sorted({suite.code, *used} - {""})  # of files that were included: an edit is another measurement
    about = (job.source.name, key, job.parent.preprocessing, suite.name, suite.version, job.seed, settings)
    return digest_of(*about, *codes)


def _setting(condition: Condition, split: Split) -> tuple[object, ...]:
    """What decides the outcomes of one condition.

    Until 2026-12-01 attacks looked at all classes where a subset was judged: those results are another measurement.
    """
    one, attacked = condition, (condition.attack, sorted(condition.params.items()), threat_words(condition.threat))
    known = (one.name, *attacked, one.preprocess, split.digest, split.origin)
    return (*known, "attacked over its classes") if one.attack and split.classes is not None else known


def held_result(job: Job, method: Method, suite: Suite, identity: str, pair: Pair) -> Result | None:
    """This very measurement, if it is stored; one without all its images only counts where that is accepted.

    A broken one is named. Raises ResultError for one that could not be replaced.
    """
    found = _find(job, method, suite, identity)
    if job.options.force:
        return None
    if found.problem:
        job.progress.line(f"{pair}: is computed, since {found.problem}", style="yellow")
    stored = found.result
    if stored and image_set(stored).limit:
        stored = results.note_available(stored, available(job, suite))
    if stored and job.options.about:
        stored = results.note_about(stored, job.options.about)
    return stored if _counts(job, stored) else None


def is_held(job: Job, method: Method, suite: Suite, identity: str) -> bool:
    """Whether `held_result` would give one; says and writes nothing."""
    return _counts(job, _find(job, method, suite, identity).result)


def _find(job: Job, method: Method, suite: Suite, identity: str) -> results.Found:
    return results.find_result(
        job.options.results, job.source.name, job.parent.name, method.name, suite.name, job.seed, identity
    )


def _counts(job: Job, stored: Result | None) -> bool:
    options = job.options
    return stored is not None and not options.force and (options.allow_missing or not stored.unreadable)


def evaluations_of(
    job: Job,
    suite: Suite,
    splits: Sequence[Split | None],
    model: Model,
    memory: Memory,
    pair: Pair,
    may_be_empty: bool = False,
) -> Mapping[str, Evaluation]:
    """By condition, without those whose split is None.

    Raises CorruptImage for images that cannot be read, unless the options allow to leave them out; what is left of a
    condition `may_be_empty` where other parts of it are evaluated elsewhere.
    """
    conditions = suite.conditions()
    pictures = pictures_of([condition.name for condition in conditions])
    evaluations: dict[str, Evaluation] = {}
    for number, (condition, split) in enumerate(zip(conditions, splits, strict=True), 1):
        if split is None:
            continue
        count = f" [{number}/{len(conditions)}]" if len(conditions) > 1 else ""
        one = evaluations[condition.name] = evaluate(
            model,
            split,
            condition,
            seed=job.seed,
            batch_size=job.batch_size,
            workers=job.workers,
            progress=job.progress,
            label=f"{pair} · {condition.name}{count}",
            leave_out=True,
            pictures=pictures.get(condition.name, 0),
            memory=memory,
            may_be_empty=may_be_empty,
        )
        if one.unreadable and not job.options.allow_missing:
            raise CorruptImage(
                f"{len(one.unreadable)} of {len(split)} images of '{split.name}' cannot be read, such as "
                f"{next(iter(one.unreadable.values()))}. Repair them, or accept the rest with --allow-missing"
            )
    if most := max(len(one.unreadable) for one in evaluations.values()):
        job.progress.line(f"{pair}: up to {most} images of a condition cannot be read and are left out", style="yellow")
    return evaluations


def packed_pictures(job: Job, splits: Sequence[Split], identity: str, evaluations: Mapping[str, Evaluation]) -> bytes:
    """The file of the pictures that a result keeps."""
    samples = {name: evaluations[name].samples for name in pictures_of(list(evaluations))}
    own = splits[0].set_classes
    return pack_samples(identity, samples, own.names if own else job.source.class_names)


def doubts_of(result: Result, evaluations: Mapping[str, Evaluation]) -> list[str]:
    """Signs that the figures of a result flatter it, in words."""
    outcomes = {name: one.outcomes for name, one in evaluations.items()}
    return [doubt.words() for doubt in doubts(result.conditions, outcomes)]


def say_done(job: Job, pair: Pair, result: Result, doubts: Sequence[str]) -> None:
    """The line of a finished pair, and signs that its figures flatter it."""
    score, seconds = result.score, result.provenance.seconds
    figures: dict[str, Fact] = {
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n,
        "seconds": seconds,
    }
    job.progress.event("pair", result_line(pair, result, _widest(job, pair)), facts_of(pair) | figures)
    for doubt in doubts:
        job.progress.line(f"{pair}: {doubt}", style="yellow")


def _widest(job: Job, pair: Pair) -> int:
    """Characters of the longest name of a pair of this run, so that figures stand below each other."""
    methods, suites = (max(map(len, names), default=0) for names in (job.options.methods, job.options.suites))
    return len(str(pair)) - len(pair.method) - len(pair.suite) + methods + suites
