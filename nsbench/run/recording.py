"""A finished pair as a result: score, conditions, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nsbench
from nsbench import provenance, registry
from nsbench.data import DataSource, Split
from nsbench.data.manifest import content_digest
from nsbench.data.source import digest_of
from nsbench.progress import rate
from nsbench.results import ConditionResult, Provenance, Result
from nsbench.run.evaluate import Evaluation
from nsbench.run.fit import recipe_used
from nsbench.run.job import Job
from nsbench.run.kept_fits import Fitted
from nsbench.types import Condition, Method, Outcomes, Suite


@dataclass(frozen=True)
class Pair:
    """One method on one suite, with one seed. `setting`: of a study, in words."""

    method: str
    suite: str
    seed: int
    setting: str = ""
    name_seed: bool = False  # the run has several

    def __str__(self) -> str:
        seed = f" (seed {self.seed})" if self.name_seed else ""
        return f"{self.method} x {self.suite}{seed}" + (f" ({self.setting})" if self.setting else "")


def result_of(
    job: Job,
    method: Method,
    suite: Suite,
    splits: list[Split],
    model: Fitted,
    evaluations: Mapping[str, Evaluation],
    identity: str,
    seconds: float,
) -> Result:
    """The result of a pair: its score, its conditions and where they come from."""
    outcomes = {name: evaluation.outcomes for name, evaluation in evaluations.items()}
    conditions = [
        _condition(condition, split, n, evaluations[condition.name])
        for condition, split, n in zip(suite.conditions(), splits, available(job, suite), strict=True)
    ]
    return Result(
        source=job.source.name,
        model=job.parent.name,
        method=method.name,
        suite=suite.name,
        seed=job.seed,
        score=suite.score(outcomes),
        unit=suite.unit,
        lower_is_better=suite.lower_is_better,
        title=suite.title,
        group=suite.group,
        order=suite.order,
        paper=suite.paper,
        suite_version=suite.version,
        summary=suite.summary,
        citation=suite.citation,
        method_title=method.title,
        method_summary=method.summary,
        method_order=method.order,
        method_role=method.role,
        conditions=tuple(conditions),
        provenance=_provenance(job, method, suite, splits, model, evaluations, seconds),
        identity=identity,
        paper_suites=_paper_suites(job),
    )


def _paper_suites(job: Job) -> tuple[str, ...]:
    """The paper's columns that mean something for the source; () where all do."""
    paper = [suite for suite in registry.suites.values() if suite.paper]
    mine = tuple(sorted(suite.name for suite in paper if has_meaning(job.source, suite)))
    return () if len(mine) == len(paper) else mine


def has_meaning(source: DataSource, suite: Suite) -> bool:
    """All splits of the suite mean something for the source's classes."""
    return all(source.has_meaning(condition.split) for condition in suite.conditions())


def available(job: Job, suite: Suite) -> list[int]:
    """Images of each condition without --limit."""
    sizes = [(len(job.source.split(one.split, job.progress)), one.limit) for one in suite.conditions()]
    return [size if limit is None else min(size, limit) for size, limit in sizes]


def _condition(condition: Condition, split: Split, available: int, evaluation: Evaluation) -> ConditionResult:
    outcomes: Outcomes = evaluation.outcomes
    return ConditionResult(
        name=condition.name,
        split=condition.split,
        attack=condition.attack,
        params=dict(condition.params),
        threat=condition.threat,
        preprocess=condition.preprocess,
        n=len(outcomes),
        origin=split.origin,
        data_digest=split.digest,
        accuracy=round(100 * float(outcomes.correct.mean()), 4),
        content_digest=content_digest(split),
        beforehand=condition.beforehand,
        surrogate_digest=split.surrogate_digest,
        unreadable=dict(evaluation.unreadable),
        attack_card=evaluation.attack_card,
        available=available,
        unread=len(split.unread),
        resized_from=split.resized_from,
        made_at=split.made_at,
    )


def _codes(method: Method, suite: Suite) -> dict[str, str]:
    """Digests of the files that were included, by what they define."""
    used = {f"attack {one.attack}": registry.attacks[one.attack].code for one in suite.conditions() if one.attack}
    codes = {f"method {method.name}": method.code, f"suite {suite.name}": suite.code, **used}
    return {what: code for what, code in codes.items() if code}


def _provenance(
    job: Job,
    method: Method,
    suite: Suite,
    splits: list[Split],
    model: Fitted,
    evaluations: Mapping[str, Evaluation],
    seconds: float,
) -> Provenance:
    card = model.card
    return Provenance(
        nsbench=nsbench.__version__,
        versions={**provenance.versions(), **_codes(method, suite)},
        commit=provenance.commit(),
        device=provenance.device_name(job.device),
        date=provenance.now(),
        command=job.options.command or provenance.command_line(),
        weights_digest=model.weights_digest,
        parent_digest=job.parent_digest,
        fit_key=model.key,
        data_digest=digest_of(*(split.digest for split in splits)),
        limit=job.options.limit,
        preprocessing=job.parent.preprocessing.describe(),
        normalisation=job.parent.normalisation,
        mean=tuple(job.parent.mean),
        std=tuple(job.parent.std),
        batch_size=job.batch_size,
        method_version=method.version,
        recipe=recipe_used(job.recipe) if method.trains else None,
        own_settings=method.own,
        history=card.history,
        lineage=card.lineage,
        fit_seconds=card.seconds,
        seconds=round(seconds, 2),
        forward_equivalents=card.forward_equivalents,
        peak_memory_mib=provenance.peak_memory_mib(job.device),
        prepared=job.parent.said,
        checkpoint=job.options.checkpoint.name if job.options.checkpoint else "",
        name=job.options.name,
        about=job.options.about,
        origin=job.parent.origin,
        outputs=next((one.outputs for one in evaluations.values() if one.outputs), None),
    )


def result_line(pair: Pair, result: Result, wide: int = 28) -> str:
    """What the terminal says of a finished pair, in columns; `wide`: of the longest name of a pair."""
    score, seconds = result.score, result.provenance.seconds or 0.0
    unit = f"{result.unit} ↓" if result.lower_is_better else result.unit
    images = sum(condition.n for condition in result.conditions)
    interval = f"{score.low:.1f} to {score.high:.1f}"
    return (
        f"{pair!s:<{wide}}  {score.value:5.1f} {unit:<5}  {interval:<14}  n = {score.n:<6,}  "
        f"{seconds:.1f} s, {rate(images / max(seconds, 1e-9), 'images')}"
    )
