"""The straight path of `nsbench run`: for each (method, suite) that the results folder does not hold, fit and evaluate.

Every finished pair is on disk before the next one starts, so an interruption loses at most the pair in progress.
What cannot be done is named, the rest goes on, and the summary says so.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
from nsbench import registry, results
from nsbench.data import Split
from nsbench.data.source import digest_of
from nsbench.errors import CorruptImage, MissingSplit, NsbenchError
from nsbench.progress import Progress
from nsbench.results.samples import Sampler, samplers, write_samples
from nsbench.run import fit as fitted
from nsbench.run.evaluate import Memory, evaluate
from nsbench.run.job import Job, RunOptions, open_job
from nsbench.run.opening import resolve_device
from nsbench.run.recording import result_line, result_of
from nsbench.run.watch import Watcher, check_logger
from nsbench.types import Method, Outcomes, Suite

if TYPE_CHECKING:
    from nsbench.models import Model
    from nsbench.run.fit import Fitted
    from nsbench.training import Recipe

__all__ = ["RunOptions", "Summary", "resolve_device", "run"]


@dataclass
class Summary:
    """What became of each pair."""

    done: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # pair -> why: the data are not there
    failed: dict[str, str] = field(default_factory=dict)  # pair -> why

    def add(self, other: Summary, setting: str = "") -> None:
        """Take in the summary of another setting of a study, whose pairs have the same names."""
        self.done += other.done
        self.held += other.held
        self.missing |= {f"{pair} ({setting})" if setting else pair: why for pair, why in other.missing.items()}
        self.failed |= {f"{pair} ({setting})" if setting else pair: why for pair, why in other.failed.items()}

    @property
    def complete(self) -> bool:
        return not (self.missing or self.failed)


def run(options: RunOptions, progress: Progress) -> Summary:
    """Do everything that was asked for and is possible."""
    results.ensure_writable(options.results)
    if options.log:
        check_logger(options.log)
    first, summary = open_job(options, progress), Summary()
    for seed in options.seeds:
        job = replace(first, seed=seed, recipe=first.recipe.model_copy(update={"seed": seed}))
        if options.match == "compute":
            job = replace(job, recipe=_equal_compute(job))
        for name in options.methods:
            _run_method(job, registry.methods[name], summary)
    return summary


def _equal_compute(job: Job) -> Recipe:
    """The recipe with a budget instead of a number of steps: what NS costs under it, in forward passes."""
    method = registry.methods["ns"]
    cost = _fit(job, method, _key(job, method)).card["forward_equivalents"]
    job.progress.line(f"equal compute: every method trains for as much as ns costs, {cost:,} forward passes")
    return job.recipe.model_copy(update={"compute": float(cost)})


def _key(job: Job, method: Method) -> str:
    return fitted.fit_key(method, job.parent, job.parent_digest, job.recipe, job.source, job.progress)


def _fit(job: Job, method: Method, key: str) -> Fitted:
    with closing(Watcher(job)) as watcher:
        return fitted.fit(
            method,
            job.parent,
            job.parent_digest,
            job.recipe,
            job.source,
            job.progress,
            key=key,
            workers=job.workers,
            again=job.options.force,
            folder=job.options.weights,
            on_round=watcher if job.options.watch or job.options.log else None,
        )


def _run_method(job: Job, method: Method, summary: Summary) -> None:
    """All suites of one method. The model is fitted when the first suite needs it."""
    try:
        key = _key(job, method)
    except NsbenchError as error:
        _note_all(job, method, summary, error)
        return
    model: Fitted | None = None
    memory = Memory()  # of this model: clean predictions are computed once for all suites
    for name in job.options.suites:
        suite, pair = registry.suites[name], _pair(job, method, name)
        try:
            splits = _splits(job, suite)
            identity = _identity(job, suite, splits, key)
            if not job.options.force and _held(job, method, suite, identity):
                summary.held.append(pair)
                job.progress.line(f"{pair}: held already", style="dim")
                continue
            model = model or _fit(job, method, key)
        except MissingSplit as error:
            _note(job, summary.missing, pair, error)
            continue
        except NsbenchError as error:
            _note(job, summary.failed, pair, error)
            continue
        _run_pair(job, method, suite, splits, model, memory, identity, summary)


def _run_pair(
    job: Job,
    method: Method,
    suite: Suite,
    splits: list[Split],
    model: Fitted,
    memory: Memory,
    identity: str,
    summary: Summary,
) -> None:
    pair = _pair(job, method, suite.name)
    start = time.perf_counter()
    try:
        taken = samplers([condition.name for condition in suite.conditions()])
        outcomes, unreadable, cards = _outcomes(job, suite, splits, model.model, memory, pair, taken)
        result = result_of(job, method, suite, splits, model, outcomes, identity, time.perf_counter() - start)
        for condition in result.conditions:
            condition["unreadable"] = unreadable[condition["name"]]
            if condition["attack"]:
                condition["attack_card"] = cards[condition["name"]]
        result.provenance["outputs"] = dict(memory.outputs)
        path = results.write_result(job.options.results, result, outcomes)
        write_samples(path, identity, taken, job.source.class_names)
    except (NsbenchError, torch.OutOfMemoryError) as error:
        _note(job, summary.failed, pair, error)
        return
    summary.done.append(pair)
    job.progress.line(result_line(pair, result))


def _outcomes(
    job: Job,
    suite: Suite,
    splits: list[Split],
    model: Model,
    memory: Memory,
    pair: str,
    taken: dict[str, Sampler],
) -> tuple[dict[str, Outcomes], dict[str, dict[str, str]], dict[str, dict[str, Any]]]:
    """By condition: outcomes; images that could not be read, if that is allowed (id -> why); attack card.

    `taken`: gets pictures of the conditions that it has a sampler for.
    """
    conditions = suite.conditions()
    outcomes: dict[str, Outcomes] = {}
    unreadable: dict[str, dict[str, str]] = {}
    cards: dict[str, dict[str, Any]] = {}
    for number, (condition, split) in enumerate(zip(conditions, splits, strict=True), 1):
        count = f" [{number}/{len(conditions)}]" if len(conditions) > 1 else ""
        left_out = unreadable[condition.name] = {}
        card = cards[condition.name] = {}
        outcomes[condition.name] = evaluate(
            model,
            split,
            condition,
            seed=job.seed,
            batch_size=job.batch_size,
            workers=job.workers,
            progress=job.progress,
            label=f"{pair} · {condition.name}{count}",
            unreadable=left_out,
            memory=memory,
            card=card,
            samples=taken.get(condition.name),
        )
        if left_out and not job.options.allow_missing:
            raise CorruptImage(
                f"{len(left_out)} of {len(split)} images of '{split.name}' cannot be read, such as "
                f"{next(iter(left_out.values()))}. Repair them, or accept the rest with --allow-missing"
            )
    if most := max(map(len, unreadable.values())):
        job.progress.line(f"{pair}: up to {most} images of a condition cannot be read and are left out", style="yellow")
    return outcomes, unreadable, cards


def _splits(job: Job, suite: Suite) -> list[Split]:
    """The images of each condition: the suite's own subset, cut further by --limit."""
    limits = [condition.limit for condition in suite.conditions()]
    return [
        job.source.split(condition.split, job.progress).limited(limit).limited(job.options.limit)
        for condition, limit in zip(suite.conditions(), limits, strict=True)
    ]


def _identity(job: Job, suite: Suite, splits: list[Split], key: str) -> str:
    """Digest of all that decides the outcomes, apart from the machine's arithmetic."""
    settings = [
        (c.name, c.attack, sorted(c.params.items()), str(c.threat), c.preprocess, split.digest, split.origin)
        for c, split in zip(suite.conditions(), splits, strict=True)
    ]
    return digest_of(job.source.name, key, job.parent.preprocessing, suite.name, suite.version, job.seed, settings)


def _held(job: Job, method: Method, suite: Suite, identity: str) -> bool:
    """Whether this very measurement is stored; one without all its images only counts where that is accepted."""
    stored = results.find_result(
        job.options.results, job.source.name, job.parent.name, method.name, suite.name, job.seed, identity
    )
    if stored is None:
        return False
    return job.options.allow_missing or not any(condition.get("unreadable") for condition in stored.conditions)


def _pair(job: Job, method: Method, suite: str) -> str:
    """A pair's name for people; with its seed where the run has several."""
    return f"{method.name} x {suite}" + (f" (seed {job.seed})" if len(job.options.seeds) > 1 else "")


def _note(job: Job, where: dict[str, str], pair: str, error: Exception) -> None:
    where[pair] = str(error).splitlines()[0]
    job.progress.line(f"{pair}: {where[pair]}", style="yellow")


def _note_all(job: Job, method: Method, summary: Summary, error: NsbenchError) -> None:
    where = summary.missing if isinstance(error, MissingSplit) else summary.failed
    for name in job.options.suites:
        where[_pair(job, method, name)] = str(error)
    job.progress.line(f"{method.name}: {error}", style="yellow")
