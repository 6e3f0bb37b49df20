"""The process that plans a grid of work, stores what comes back, and says how far it is. It fits and evaluates nothing.

The results folder and the kept weights are written here alone, under the turns that any other process takes, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from nsbench import provenance, registry, results
from nsbench.data import Split
from nsbench.data.source import Remembered
from nsbench.errors import MissingSplit, NsbenchError
from nsbench.progress import Advance, Course, Progress, Within, rate
from nsbench.results import Result, parse_result
from nsbench.run.before import rehearse, require_all_read, require_published_labels
from nsbench.run.engines.scheduler import Engine, Step, work_through
from nsbench.run.engines.travel import packed
from nsbench.run.engines.work import Answer, Files, Fit, FitWork, Measured, PairWork, Part, Refused, Sent, Trouble, Work
from nsbench.run.job import Job
from nsbench.run.kept_fits import Fitted, files_of, keep_files, kept_at, stored
from nsbench.run.options import RunOptions
from nsbench.run.pair import (
    doubts_of,
    facts_of,
    held_result,
    identity_of,
    packed_pictures,
    pair_of,
    say_done,
    splits_of,
)
from nsbench.run.parts import parts_of, whole
from nsbench.run.recording import Pair, result_of
from nsbench.run.runner import Summary, ready, say_what_is_stored
from nsbench.run.trainings import (
    budget_of,
    fit_key,
    fitted,
    job_of,
    measuring_job,
    subject_of,
    trained_parts,
    trains_equally,
)
from nsbench.run.turns import LOOKS, Elsewhere, clear_turn, turn
from nsbench.types import Method, Suite


class Workers(Engine[Work, Answer], Protocol):
    """An engine that has to be ended, and says what it is."""

    def describe(self) -> str:
        """What works, for people."""

    def close(self) -> None:
        """End what is in flight."""


# makes the workers of a run from what they need, from how the files of a fit are read here, and from where to speak
Start = Callable[[Sent, Callable[[str], Files], Progress], Workers]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is to be done of one method and seed."""

    method: str
    seed: int
    suites: tuple[str, ...]


@dataclass
class _Open:
    """A pair in work."""

    turn: ExitStack
    parts: dict[int, Part] = field(default_factory=dict)


def run_with(start: Start, options: RunOptions, progress: Progress) -> Summary:
    """As `runner.run`, with the work done by the workers that `start` makes. Raises what that raises."""
    options = replace(options, command=options.command or provenance.command_line())
    first = ready(replace(options, device="cpu"), progress)
    sent = packed(replace(options, suites=first.options.suites))
    course = Course(len(options.seeds) * len(options.methods) * len(first.options.suites))
    summary = Summary()
    first = replace(first, progress=Within(progress, lambda: str(course)), source=Remembered(first.source))
    try:
        with (
            closing(start(sent, lambda key: files_of(kept_at(options.weights, key)), progress)) as workers,
            progress.task("all pairs", course.total, "pairs") as advance,
        ):
            progress.line(workers.describe(), style="dim")
            Driver(first, workers, summary, course, advance).run()
    except KeyboardInterrupt as stopped:
        say_what_is_stored(stopped, options, progress, len(summary.identities), course.total)
        raise
    return summary


def cells(options: RunOptions, suites: tuple[str, ...]) -> Iterator[Cell]:
    """The grid, in the order of the run."""
    for seed in options.seeds:
        for method in options.methods:
            yield Cell(method, seed, suites)


class Driver:
    """The book of one run: see `scheduler.Book`."""

    def __init__(self, first: Job, workers: Workers, summary: Summary, course: Course, advance: Advance) -> None:
        self.first, self.workers, self.summary, self.course, self.advance = first, workers, summary, course, advance
        self.compute: float | None = None  # the budget of every training, where compute is equal
        self.looked: dict[str, list[Split] | NsbenchError] = {}  # by suite: its images, or why they are not to be used
        self.fits: dict[str, ExitStack] = {}  # the turn of each training in work, by its key
        self.pairs: dict[Pair, _Open] = {}
        self.unfit: dict[str, str] = {}  # why trainings were given up, by their keys
        self.later: list[PairWork] = []  # what other processes do now
        self.images, self.told, self.began = 0, 0.0, time.monotonic()
        self.job = lru_cache(maxsize=8)(self._job)

    def run(self) -> None:
        """All that can be done; what another process does now is looked at again behind the rest."""
        try:
            if trains_equally(self.first):
                self._measure_compute()
            work: Iterable[Cell] = cells(self.first.options, self.first.options.suites)
            while True:
                settled, self.later = self.course.number, []
                work_through(self._steps(work), self.workers, self)
                if not self.later:
                    return
                if settled == self.course.number:
                    time.sleep(LOOKS)
                work = [Cell(one.method, one.seed, (one.suite,)) for one in self.later if one.part == 0]
        finally:
            for stack in [*self.fits.values(), *(one.turn for one in self.pairs.values())]:
                stack.close()

    def _job(self, seed: int) -> Job:
        return job_of(self.first, seed, self.compute)

    def _measure_compute(self) -> None:
        """Train the method that equal compute is measured by."""
        subject, job = subject_of(self.first), measuring_job(self.first)
        work_through(self._fits(job, subject), self.workers, self)
        for why in self.unfit.values():
            raise NsbenchError(f"--match compute: {subject.name}, which it is measured by, cannot be trained: {why}")
        self.compute = budget_of(job, fitted(job, subject))
        self.job.cache_clear()

    # --- what is to be done -----------------------------------------------------------------------------------------

    def _steps(self, work: Iterable[Cell]) -> Iterator[Step[Work]]:
        emitted: set[str] = set()
        for cell in work:
            job = self.job(cell.seed)
            method = job.method(cell.method)
            try:
                key = fit_key(job, method)
            except NsbenchError as error:
                self._note_all(job, method, cell, error)
                continue
            wanted = [found for name in cell.suites if (found := self._wanted(job, method, name, key))]
            if not wanted:
                continue
            fits = self._fits(job, method)
            yield from (fit for fit in fits if fit.key not in emitted)
            emitted |= {fit.key for fit in fits}
            for one in wanted:
                yield from self._parts(one, fits)

    def _parts(self, whole_pair: PairWork, fits: list[Step[Work]]) -> Iterator[Step[Work]]:
        keys = tuple(fit.key for fit in fits)
        for part in range(whole_pair.parts):
            work = replace(whole_pair, weights=keys, part=part)
            yield Step(f"{whole_pair.identity}/{part}", work, needs=keys[-1] if keys else "")

    def _fits(self, job: Job, method: Method) -> list[Step[Work]]:
        """The trainings behind a method's model: of a chain one for each part, from what is before it."""
        steps: list[Step[Work]] = []
        for so_far, _ in trained_parts(job, method):
            before = tuple(step.key for step in steps)
            key = fit_key(job, so_far)
            fit = FitWork(so_far.name, job.seed, self.compute, key, before)
            steps.append(Step(key, fit, needs=before[-1] if before else "", is_needed=True))
        return steps

    def _wanted(self, job: Job, method: Method, name: str, key: str) -> PairWork | None:
        """The work of a pair; None where it is held, or cannot be done, which is noted."""
        suite, pair = registry.suites[name], pair_of(job, method, name)
        try:
            splits = self._images(job, suite)
            identity = identity_of(job, suite, splits, key)
            if self._is_held(job, method, suite, identity, pair):
                clear_turn(self._turn(job, method, identity))
                return None
            if name in job.refused:
                raise job.refused[name]
            parts = parts_of(splits, job.options.shard_images)
            return PairWork(method.name, name, job.seed, self.compute, identity, parts=parts)
        except MissingSplit as error:
            self.summary.missing[pair] = str(error).splitlines()[0]
            self._settled()
        except NsbenchError as error:
            self._failed(pair, str(error))
        return None

    def _images(self, job: Job, suite: Suite) -> list[Split]:
        """Looked at once for all methods and seeds."""
        if suite.name not in self.looked:
            try:
                splits = splits_of(job, suite)
                require_all_read(job, splits)
                require_published_labels(job, suite)
                rehearse(suite, splits)
                self.looked[suite.name] = splits
            except NsbenchError as error:
                self.looked[suite.name] = error
        found = self.looked[suite.name]
        if isinstance(found, NsbenchError):
            raise found
        return found

    def _is_held(self, job: Job, method: Method, suite: Suite, identity: str, pair: Pair) -> bool:
        result = held_result(job, method, suite, identity, pair)
        if result is None:
            return False
        self.summary.held.append(pair)
        self.summary.identities.append(identity)
        self._settled()
        job.progress.event("held", f"{pair}: held already", facts_of(pair), "dim")
        return True

    def _turn(self, job: Job, method: Method, identity: str) -> Path:
        return results.turn_path(job.options.results, job.source.name, job.parent.name, method.name, identity)

    def _note_all(self, job: Job, method: Method, cell: Cell, error: NsbenchError) -> None:
        for name in cell.suites:
            pair = pair_of(job, method, name)
            if isinstance(error, MissingSplit):
                self.summary.missing[pair] = str(error)
                self._settled()
            else:
                self._failed(pair, str(error))

    # --- what becomes of it -----------------------------------------------------------------------------------------

    def begin(self, step: Step[Work]) -> Literal["run", "done", "left"]:
        work = step.work
        return self._begin_fit(work) if isinstance(work, FitWork) else self._begin_pair(work)

    def _begin_fit(self, work: FitWork) -> Literal["run", "done", "left"]:
        path, again = kept_at(self.first.options.weights, work.key), self.first.options.force
        if work.key in self.fits:  # once more, since its worker died
            return "run"
        if not again and stored(path, self.first.parent, work.key):
            clear_turn(path.with_suffix(".turn"))
            return "done"
        stack = ExitStack()
        try:
            stack.enter_context(turn(path.with_suffix(".turn"), f"{work}"))
        except Elsewhere:
            return "left"
        if not again and stored(path, self.first.parent, work.key):  # by another process, meanwhile
            stack.close()
            return "done"
        self.fits[work.key] = stack
        return "run"

    def _begin_pair(self, work: PairWork) -> Literal["run", "done", "left"]:
        job, pair = self._of(work)
        if pair in self.pairs:
            return "run"
        if pair in self.summary.failed:  # another part of it
            return "left"
        if work.part and any(one.identity == work.identity for one in self.later):
            return "left"
        method, stack = job.method(work.method), ExitStack()
        try:
            stack.enter_context(turn(self._turn(job, method, work.identity), str(pair)))
        except Elsewhere:
            self.later.append(work)
            return "left"
        if not job.options.force and self._is_held(job, method, registry.suites[work.suite], work.identity, pair):
            stack.close()
            return "done"
        self.pairs[pair] = _Open(stack)
        return "run"

    def end(self, step: Step[Work], value: Answer) -> str:
        work = step.work
        if isinstance(value, Refused | Trouble):
            self.fail(step, value.why)
            return value.why
        try:
            for line in value.said:
                self.first.progress.line(line, style="yellow" if isinstance(work, PairWork) else "")
            if isinstance(value, Fit) and isinstance(work, FitWork):
                keep_files(kept_at(self.first.options.weights, work.key).parent, value.files)
                self.fits.pop(work.key).close()
            elif isinstance(work, PairWork) and not isinstance(value, Fit):
                self._store(work, value)
        except NsbenchError as error:
            self.fail(step, str(error))
            return str(error)
        return ""

    def _store(self, work: PairWork, value: Measured | Part) -> None:
        job, pair = self._of(work)
        if (mine := self.pairs.get(pair)) is None:  # another part of it has failed
            return
        if isinstance(value, Part):
            mine.parts[work.part] = value
            if len(mine.parts) < work.parts:
                return
            result, doubts = self._gathered(job, work, [mine.parts[k] for k in range(work.parts)])
        else:
            result = parse_result(value.record)
            result, doubts = (
                results.keep_result(job.options.results, result, value.outcomes, value.pictures),
                value.doubts,
            )
        self.pairs.pop(pair).turn.close()
        self.summary.identities.append(work.identity)  # alone: a large grid has many results
        self.summary.done.append(pair)
        self.images += sum(condition.n for condition in result.conditions)
        self.course.computed += 1
        self._settled()
        say_done(job, pair, result, doubts)

    def _gathered(self, job: Job, work: PairWork, parts: list[Part]) -> tuple[Result, tuple[str, ...]]:
        """The result of all parts, scored and stored."""
        suite, method, where = registry.suites[work.suite], job.method(work.method), parts[0].where
        splits = self._images(job, suite)
        evaluations = whole(suite.conditions(), [part.evaluations for part in parts])
        model = Fitted(job.parent, fit_key(job, method), parts[0].card)
        seconds = sum(part.where.seconds for part in parts)
        result = result_of(job, method, suite, splits, model, evaluations, work.identity, seconds)
        peaks = [part.where.peak_memory_mib for part in parts]
        result = replace(
            result,
            provenance=replace(
                result.provenance,
                versions={**result.provenance.versions, **where.versions},
                commit=where.commit,
                device=where.device,
                batch_size=where.batch_size,
                peak_memory_mib=max((peak for peak in peaks if peak is not None), default=None),
            ),
        )
        outcomes = {name: one.outcomes for name, one in evaluations.items()}
        pictures = packed_pictures(job, splits, work.identity, evaluations)
        kept = results.write_result(job.options.results, result, outcomes, pictures)
        return kept, tuple(doubts_of(kept, evaluations))

    def fail(self, step: Step[Work], why: str) -> None:
        work = step.work
        if isinstance(work, FitWork):
            self.unfit[work.key] = why
            if work.key in self.fits:
                self.fits.pop(work.key).close()
            return
        pair = self._of(work)[1]
        if pair in self.pairs:
            self.pairs.pop(pair).turn.close()
        if pair not in self.summary.failed:
            self._failed(pair, why)

    def leave(self, step: Step[Work]) -> None:
        if isinstance(step.work, PairWork):
            self.later.append(step.work)

    def tell(self, running: int, waiting: int) -> None:
        now = time.monotonic()
        if now - self.told < 0.5:
            return
        self.told, left = now, self.course.total - self.course.number
        speed = f", {rate(self.images / (now - self.began), 'images')}" if self.images else ""
        self.advance(0, f"{running} tasks running, {max(0, left - running)} pairs waiting{speed}")

    def _of(self, work: PairWork) -> tuple[Job, Pair]:
        job = self.job(work.seed)
        return job, pair_of(job, job.method(work.method), work.suite)

    def _failed(self, pair: Pair, why: str) -> None:
        self.summary.failed[pair] = why.splitlines()[0]
        self._settled()
        self.first.progress.line(f"{pair}: {self.summary.failed[pair]}", style="yellow")

    def _settled(self) -> None:
        self.course.number += 1
        self.advance(1)
