"""The straight path of `nsbench run`: for each (method, suite) that the results folder does not hold, fit and evaluate.

Every finished pair is on disk before the next one starts, so an interruption loses at most the pair in progress.
What cannot be done is named, the rest goes on, and the summary says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
from nsbench import processes, registry, results
from nsbench.data import Split
from nsbench.errors import MissingSplit, NsbenchError, UsageError
from nsbench.files import can_be_made
from nsbench.progress import Course, Progress, Within
from nsbench.results import Result
from nsbench.run.before import (
    not_attackable,
    rehearse,
    require_all_read,
    require_published_labels,
    require_room,
    require_trainable,
    require_use_of_surrogate,
    say_what_is_needed,
)
from nsbench.run.job import Job, open_job
from nsbench.run.kept_fits import Fitted
from nsbench.run.known import Memory
from nsbench.run.options import RunOptions
from nsbench.run.pair import (
    doubts_of,
    evaluations_of,
    facts_of,
    held_result,
    identity_of,
    packed_pictures,
    pair_of,
    say_done,
    splits_of,
)
from nsbench.run.recording import Pair, has_meaning, result_of
from nsbench.run.sound import check_suite
from nsbench.run.trainings import budget_of, fit_key, fitted, job_of, measuring_job, subject_of, trains_equally
from nsbench.run.turns import LOOKS, Elsewhere, clear_turn, turn
from nsbench.run.watch import check_logger, watched_suites
from nsbench.types import Method, Suite

if TYPE_CHECKING:
    from nsbench.models import Model

__all__ = ["Pair", "RunOptions", "Summary", "run"]


@dataclass
class Summary:
    """What became of each pair."""

    done: list[Pair] = field(default_factory=list)
    held: list[Pair] = field(default_factory=list)
    missing: dict[Pair, str] = field(default_factory=dict)  # why: the data are not there
    failed: dict[Pair, str] = field(default_factory=dict)  # why
    identities: list[str] = field(default_factory=list)  # of the results of the pairs that are done or held
    results: list[Result] = field(default_factory=list)  # these results; empty where other processes did the work

    def add(self, other: Summary, setting: str = "") -> None:
        """Take in the summary of another setting of a study."""
        self.done += [replace(pair, setting=setting) for pair in other.done]
        self.held += [replace(pair, setting=setting) for pair in other.held]
        self.missing |= {replace(pair, setting=setting): why for pair, why in other.missing.items()}
        self.failed |= {replace(pair, setting=setting): why for pair, why in other.failed.items()}
        self.identities += other.identities
        self.results += other.results

    def keep(self, result: Result) -> None:
        self.identities.append(result.identity)
        self.results.append(result)

    @property
    def complete(self) -> bool:
        return not (self.missing or self.failed)


def run(options: RunOptions, progress: Progress, network: Model | None = None) -> Summary:
    """Do everything that was asked for and is possible; with `network` instead of the model that the options name."""
    first, summary = ready(options, progress, network), Summary()
    course = Course(len(options.seeds) * len(options.methods) * len(first.options.suites))
    first = replace(first, progress=Within(progress, lambda: str(course)))
    try:
        _run_all(first, course, summary)
    except KeyboardInterrupt as stopped:
        say_what_is_stored(stopped, options, progress, len(summary.identities), course.total)
        raise
    return summary


def say_what_is_stored(
    stopped: KeyboardInterrupt, options: RunOptions, progress: Progress, stored: int, total: int
) -> None:
    """Of a run that is stopped, as an event and as a note of its exception."""
    kept = f"{stored} of {total} pairs are stored in {options.results}"
    progress.event("stopped", kept, {"stored": stored, "pairs": total})
    stopped.add_note(kept)


def ready(options: RunOptions, progress: Progress, network: Model | None = None) -> Job:
    """The job of the first seed, after everything that can be checked before the work. Raises an nsbench error."""
    if not can_be_made(options.results):
        results.ensure_writable(options.results)
    if options.log:
        check_logger(options.log)
    first = with_meaning(open_job(options, progress, network))
    for suite in watched_suites(options) if options.watch else ():
        check_suite(suite)
    if options.watch_suites and not options.watch:
        raise UsageError("--watch-suites: say how often with --watch K, every K rounds of a training")
    require_room(first)
    require_trainable(first)
    require_use_of_surrogate(first)
    first = replace(first, refused=not_attackable(first))
    for name, error in first.refused.items():
        progress.line(f"{name}: {error}", style="yellow")
    say_what_is_needed(first)
    results.ensure_writable(options.results)  # where nothing is yet: a rejected option leaves no folder
    return first


def _run_all(first: Job, course: Course, summary: Summary) -> None:
    """Seed by seed and method by method. What another process does now is left, and looked at again behind the rest."""
    options = first.options
    work, compute = [], None
    if trains_equally(first):
        measuring = measuring_job(first)
        compute = budget_of(measuring, fitted(measuring, subject_of(first)))
    for seed in options.seeds:
        job = job_of(first, seed, compute)
        for name in options.methods:
            method = job.method(name)
            work += _left(job, method, _run_method(job, method, summary, course))
    told = False
    while work:
        before, later = len(summary.done) + len(summary.held), []
        for job, method in work:
            later += _left(job, method, _run_method(job, method, summary, course))
        if later and not told:
            named = ", ".join(f"{method.name} x {suite}" for job, method in later for suite in job.options.suites)
            first.progress.line(f"waits for other processes, which do {named}", style="dim")
            told = True
        if len(later) == len(work) and before == len(summary.done) + len(summary.held):
            time.sleep(LOOKS)
        work = later


def _left(job: Job, method: Method, suites: Sequence[str]) -> list[tuple[Job, Method]]:
    """The work on these suites, if any."""
    return [(replace(job, options=replace(job.options, suites=tuple(suites))), method)] if suites else []


def with_meaning(job: Job) -> Job:
    """The job without the suites that mean nothing for the source's classes, which is said once and is no failure."""
    apart = [name for name in job.options.suites if not has_meaning(job.source, registry.suites[name])]
    if not apart:
        return job
    suites = tuple(name for name in job.options.suites if name not in apart)
    if not suites:
        raise UsageError(f"--suite {','.join(apart)}: not part of {job.source.title}; take clean, fgsm or another one")
    job.progress.line(f"not part of {job.source.title}: {', '.join(apart)}", style="dim")
    return replace(job, options=replace(job.options, suites=suites))


def _run_method(job: Job, method: Method, summary: Summary, course: Course) -> list[str]:
    """All suites of one method; those that another process does now. The model is fitted when a suite needs it."""
    try:
        with processes.section():
            key = fit_key(job, method)
    except NsbenchError as error:
        course.number += len(job.options.suites)
        _note_all(job, method, summary, error)
        return []
    model: Fitted | None = None
    elsewhere = []
    memory = Memory()  # of this model: clean predictions are computed once for all suites
    for name in job.options.suites:
        suite, pair = registry.suites[name], pair_of(job, method, name)
        course.number += 1
        try:
            with processes.section():
                splits = splits_of(job, suite)
                require_all_read(job, splits)
                identity = identity_of(job, suite, splits, key)
                mine = results.turn_path(job.options.results, job.source.name, job.parent.name, method.name, identity)
                if _is_held(job, method, suite, identity, pair, summary):
                    clear_turn(mine)
                    continue
                require_published_labels(job, suite)
                rehearse(suite, splits)
                if name in job.refused:
                    raise job.refused[name]
                with turn(mine, str(pair)):
                    if _is_held(job, method, suite, identity, pair, summary):  # by another process, meanwhile
                        continue
                    model = model or fitted(job, method, waits=False)
                    _run_pair(job, method, suite, splits, model, memory, identity, pair, summary)
                    course.computed += 1
        except Elsewhere:
            elsewhere.append(name)
            course.number -= 1
        except MissingSplit as error:  # told at the end, once for all pairs that lack it
            summary.missing[pair] = str(error).splitlines()[0]
        except NsbenchError as error:
            _note(job, summary.failed, pair, error)
    return elsewhere


def _is_held(job: Job, method: Method, suite: Suite, identity: str, pair: Pair, summary: Summary) -> bool:
    """Whether the pair is stored; then it is a part of the summary."""

    def look() -> bool:
        stored = held_result(job, method, suite, identity, pair)
        if stored:
            summary.keep(stored)
            job.progress.event("held", f"{pair}: held already", facts_of(pair), "dim")
        return stored is not None

    held = processes.first(look)
    if held:
        summary.held.append(pair)
    return held


def _run_pair(
    job: Job,
    method: Method,
    suite: Suite,
    splits: list[Split],
    model: Fitted,
    memory: Memory,
    identity: str,
    pair: Pair,
    summary: Summary,
) -> None:
    """Evaluate in all processes, and score and store in the first one."""
    start = time.perf_counter()

    def store() -> None:
        result = result_of(job, method, suite, splits, model, evaluations, identity, time.perf_counter() - start)
        outcomes = {name: evaluation.outcomes for name, evaluation in evaluations.items()}
        pictures = packed_pictures(job, splits, identity, evaluations)
        summary.keep(results.write_result(job.options.results, result, outcomes, pictures))

    try:
        with processes.section():
            evaluations = evaluations_of(job, suite, splits, model.model, memory, pair)
        processes.first(store)
    except (NsbenchError, torch.OutOfMemoryError) as error:
        _note(job, summary.failed, pair, error)
        return
    summary.done.append(pair)
    if processes.number() == 0:
        result = summary.results[-1]
        say_done(job, pair, result, doubts_of(result, evaluations))


def _note(job: Job, where: dict[Pair, str], pair: Pair, error: Exception) -> None:
    where[pair] = str(error).splitlines()[0]
    job.progress.line(f"{pair}: {where[pair]}", style="yellow")


def _note_all(job: Job, method: Method, summary: Summary, error: NsbenchError) -> None:
    is_missing = isinstance(error, MissingSplit)
    where = summary.missing if is_missing else summary.failed
    for name in job.options.suites:
        where[pair_of(job, method, name)] = str(error)
    if not is_missing:
        job.progress.line(f"{method.name}: {error}", style="yellow")
