"""The straight path of `nsbench run`: for each (method, suite) that the results folder does not hold, fit and evaluate.

Every finished pair is on disk before the next one starts, so an interruption loses at most the pair in progress.
What cannot be done is named, the rest goes on, and the summary says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import nsbench
import nsbench.attacks  # fills the registry of attacks
from nsbench import fitted, models, provenance, registry, results, training
from nsbench.data import EMBEDDED, DataSource, Split, open_source
from nsbench.data.manifest import content_digest
from nsbench.data.source import digest_of
from nsbench.errors import CorruptImage, MissingSplit, ModelError, NsbenchError, UsageError
from nsbench.evaluate import Memory, evaluate
from nsbench.progress import Progress
from nsbench.results import Result
from nsbench.types import Condition, Method, Outcomes, Suite

if TYPE_CHECKING:
    from nsbench.fitted import Fitted
    from nsbench.models import Model
    from nsbench.training import Recipe

@dataclass(frozen=True)
class RunOptions:
    """What `nsbench run` was asked for; names are resolved and known."""

    methods: tuple[str, ...]
    suites: tuple[str, ...]
    data: str = EMBEDDED
    model: str | None = None
    checkpoint: Path | None = None
    normalisation: str = "own"
    recipe: str | None = None
    seed: int = 0
    limit: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    results: Path = Path("reports/results")
    corruption_engine: str = "nsbench"  # makes ImageNet-C where it is not on disk
    force: bool = False
    allow_missing: bool = False  # accept results without the images that cannot be read
    weights: Path | None = None  # folder of fitted weights; None: in the user's cache


@dataclass
class Summary:
    """What became of each pair."""

    done: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # pair -> why: the data are not there
    failed: dict[str, str] = field(default_factory=dict)  # pair -> why

    @property
    def complete(self) -> bool:
        return not (self.missing or self.failed)


@dataclass(frozen=True)
class _Job:
    """What all pairs of one run share."""

    options: RunOptions
    source: DataSource
    parent: Model
    parent_digest: str
    recipe: Recipe
    device: str
    progress: Progress


def run(options: RunOptions, progress: Progress) -> Summary:
    """Do everything that was asked for and is possible."""
    results.ensure_writable(options.results)
    job = _prepare(options, progress)
    summary = Summary()
    for name in options.methods:
        _run_method(job, registry.methods[name], summary)
    return summary


def _prepare(options: RunOptions, progress: Progress) -> _Job:
    source = open_source(options.data, options.corruption_engine)
    name = options.model or source.default_model
    if name is None:
        raise UsageError(f"--data {options.data}: say which model to take, --model NAME with --checkpoint FILE")
    device = resolve_device(options.device)
    parent = models.load_model(name, checkpoint=options.checkpoint, normalisation=options.normalisation, device=device)
    if parent.num_classes != len(source.class_names):
        raise ModelError(f"model '{name}' has {parent.num_classes} classes, {source.title} has "
                         f"{len(source.class_names)}; choose a model and a data source that belong together")
    recipe = training.load_recipe(options.recipe or source.default_recipe, {"seed": str(options.seed)})
    progress.line(f"{source.title} · {name} ({parent.preprocessing.describe()}) · recipe '{recipe.name}' · "
                  f"{provenance.device_name(device)}", style="dim")
    return _Job(options, source, parent, models.weights_digest(parent), recipe, device, progress)


def resolve_device(wanted: str) -> str:
    """`auto` is the GPU where there is one. Raises UsageError for a device that is not here."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {wanted}: is not here ({str(error).splitlines()[0]}); use auto or cpu") from error
    return wanted


def _run_method(job: _Job, method: Method, summary: Summary) -> None:
    """All suites of one method. The model is fitted when the first suite needs it."""
    try:
        key = fitted.fit_key(method, job.parent, job.parent_digest, job.recipe, job.source, job.progress)
    except NsbenchError as error:
        _note_all(job, method, summary, error)
        return
    model: Fitted | None = None
    memory = Memory()  # of this model: clean predictions are computed once for all suites
    for name in job.options.suites:
        suite, pair = registry.suites[name], f"{method.name} x {name}"
        try:
            splits = _splits(job, suite)
            identity = _identity(job, suite, splits, key)
            if not job.options.force and _held(job, method, suite, identity):
                summary.held.append(pair)
                job.progress.line(f"{pair}: held already", style="dim")
                continue
            model = model or fitted.fit(method, job.parent, job.parent_digest, job.recipe, job.source, job.progress,
                                        key=key, workers=_workers(job), again=job.options.force,
                                        folder=job.options.weights)
        except MissingSplit as error:
            _note(job, summary.missing, pair, error)
            continue
        except NsbenchError as error:
            _note(job, summary.failed, pair, error)
            continue
        _run_pair(job, method, suite, splits, model, memory, identity, summary)


def _run_pair(job: _Job, method: Method, suite: Suite, splits: list[Split], model: Fitted, memory: Memory,
              identity: str, summary: Summary) -> None:
    pair = f"{method.name} x {suite.name}"
    start = time.perf_counter()
    try:
        outcomes, unreadable, cards = _outcomes(job, suite, splits, model.model, memory, pair)
        result = _result(job, method, suite, splits, model, outcomes, identity, time.perf_counter() - start)
        for condition in result.conditions:
            condition["unreadable"] = unreadable[condition["name"]]
            if condition["attack"]:
                condition["attack_card"] = cards[condition["name"]]
        result.provenance["outputs"] = dict(memory.outputs)
        results.write_result(job.options.results, result, outcomes)
    except (NsbenchError, torch.OutOfMemoryError) as error:
        _note(job, summary.failed, pair, error)
        return
    summary.done.append(pair)
    job.progress.line(_line(pair, result))


def _outcomes(job: _Job, suite: Suite, splits: list[Split], model: Model, memory: Memory, pair: str,
              ) -> tuple[dict[str, Outcomes], dict[str, dict[str, str]], dict[str, dict[str, Any]]]:
    """By condition: outcomes; images that could not be read, if that is allowed (id -> why); attack card."""
    conditions = suite.conditions()
    outcomes: dict[str, Outcomes] = {}
    unreadable: dict[str, dict[str, str]] = {}
    cards: dict[str, dict[str, Any]] = {}
    for number, (condition, split) in enumerate(zip(conditions, splits, strict=True), 1):
        count = f" [{number}/{len(conditions)}]" if len(conditions) > 1 else ""
        left_out = unreadable[condition.name] = {}
        card = cards[condition.name] = {}
        outcomes[condition.name] = evaluate(
            model, split, condition, seed=job.options.seed, batch_size=_batch_size(job), workers=_workers(job),
            progress=job.progress, label=f"{pair} · {condition.name}{count}", unreadable=left_out,
            memory=memory, card=card)
        if left_out and not job.options.allow_missing:
            raise CorruptImage(f"{len(left_out)} of {len(split)} images of '{split.name}' cannot be read, such as "
                               f"{next(iter(left_out.values()))}. Repair them, or accept the rest with --allow-missing")
    if most := max(map(len, unreadable.values())):
        job.progress.line(f"{pair}: up to {most} images of a condition cannot be read and are left out", style="yellow")
    return outcomes, unreadable, cards


def _splits(job: _Job, suite: Suite) -> list[Split]:
    """The images of each condition: the suite's own subset, cut further by --limit."""
    limits = [condition.limit for condition in suite.conditions()]
    return [job.source.split(condition.split, job.progress).limited(limit).limited(job.options.limit)
            for condition, limit in zip(suite.conditions(), limits, strict=True)]


def _identity(job: _Job, suite: Suite, splits: list[Split], key: str) -> str:
    """Digest of all that decides the outcomes, apart from the machine's arithmetic."""
    settings = [(c.name, c.attack, sorted(c.params.items()), str(c.threat), c.preprocess, split.digest, split.origin)
                for c, split in zip(suite.conditions(), splits, strict=True)]
    return digest_of(job.source.name, key, job.parent.preprocessing, suite.name, suite.version, job.options.seed,
                     settings)


def _held(job: _Job, method: Method, suite: Suite, identity: str) -> bool:
    """Whether this very measurement is stored; one without all its images only counts where that is accepted."""
    stored = results.find_result(job.options.results, job.source.name, job.parent.name, method.name, suite.name,
                                 job.options.seed, identity)
    if stored is None:
        return False
    return job.options.allow_missing or not any(condition.get("unreadable") for condition in stored.conditions)


def _result(job: _Job, method: Method, suite: Suite, splits: list[Split], model: Fitted,
            outcomes: Mapping[str, Outcomes], identity: str, seconds: float) -> Result:
    described = [_describe(condition, split, outcome) for condition, split, outcome
                 in zip(suite.conditions(), splits, outcomes.values(), strict=True)]
    return Result(
        source=job.source.name, model=job.parent.name, method=method.name, suite=suite.name, seed=job.options.seed,
        score=suite.score(outcomes), unit=suite.unit, lower_is_better=suite.lower_is_better, title=suite.title,
        group=suite.group, order=suite.order, paper=suite.paper, suite_version=suite.version, summary=suite.summary,
        citation=suite.citation, method_title=method.title, method_summary=method.summary, method_order=method.order,
        conditions=described, provenance=_provenance(job, method, splits, model, seconds), identity=identity)


def _describe(condition: Condition, split: Split, outcome: Outcomes) -> dict[str, Any]:
    return {
        "name": condition.name, "split": condition.split, "attack": condition.attack, "params": dict(condition.params),
        "threat": str(condition.threat) if condition.threat else None, "preprocess": condition.preprocess,
        "n": len(outcome), "origin": split.origin, "data_digest": split.digest,
        "content_digest": content_digest(split), "accuracy": round(100 * float(outcome.correct.mean()), 4),
    }


def _provenance(job: _Job, method: Method, splits: list[Split], model: Fitted, seconds: float) -> dict[str, Any]:
    return {
        "nsbench": nsbench.__version__, "versions": provenance.versions(), "commit": provenance.commit(),
        "device": provenance.device_name(job.device), "weights_digest": model.weights_digest,
        "parent_digest": job.parent_digest, "fit_key": model.key,
        "data_digest": digest_of(*(split.digest for split in splits)), "limit": job.options.limit,
        "preprocessing": job.parent.preprocessing.describe(), "normalisation": job.options.normalisation,
        "mean": list(job.parent.mean), "std": list(job.parent.std), "batch_size": _batch_size(job),
        "recipe": job.recipe.model_dump() if method.trains else None, "method_version": method.version,
        "history": model.card["history"], "fit_seconds": model.card["seconds"], "seconds": round(seconds, 2),
        "peak_memory_mib": provenance.peak_memory_mib(job.device), "command": provenance.command_line(),
        "date": provenance.now(),
    }


def _batch_size(job: _Job) -> int:
    return job.options.batch_size or (256 if job.device.startswith("cuda") else 64)


def _workers(job: _Job) -> int:
    """Embedded images need no decoding; files are decoded beside the model's work.

    On a CPU the decoders share its cores: one for every four threads keeps up with a ViT-Tiny and stalls it least.
    """
    if job.options.workers is not None:
        return job.options.workers
    if job.source.name == EMBEDDED:
        return 0
    return min(8, os.cpu_count() or 1) if job.device.startswith("cuda") else max(1, torch.get_num_threads() // 4)


def _line(pair: str, result: Result) -> str:
    score, seconds = result.score, result.provenance["seconds"]
    arrow = " (lower is better)" if result.lower_is_better else ""
    unit = "%" if result.unit == "%" else f" {result.unit}"
    images = sum(condition["n"] for condition in result.conditions)
    return (f"{pair:<28} {score.value:5.1f}{unit}  [{score.low:.1f}, {score.high:.1f}]{arrow}  "
            f"n = {score.n:,}  {seconds:.1f} s, {images / max(seconds, 1e-9):,.0f} images/s")


def _note(job: _Job, where: dict[str, str], pair: str, error: Exception) -> None:
    where[pair] = str(error).splitlines()[0]
    job.progress.line(f"{pair}: {where[pair]}", style="yellow")


def _note_all(job: _Job, method: Method, summary: Summary, error: NsbenchError) -> None:
    where = summary.missing if isinstance(error, MissingSplit) else summary.failed
    for name in job.options.suites:
        where[f"{method.name} x {name}"] = str(error)
    job.progress.line(f"{method.name}: {error}", style="yellow")
