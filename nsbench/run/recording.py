"""A finished pair as a result: score, conditions, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nsbench
from nsbench import provenance
from nsbench.data import Split
from nsbench.data.manifest import content_digest
from nsbench.data.source import digest_of
from nsbench.results import Result
from nsbench.run.fit import Fitted
from nsbench.run.job import Job
from nsbench.types import Condition, Method, Outcomes, Suite


def result_of(
    job: Job,
    method: Method,
    suite: Suite,
    splits: list[Split],
    model: Fitted,
    outcomes: Mapping[str, Outcomes],
    identity: str,
    seconds: float,
) -> Result:
    """The result of a pair: its score, its conditions and where they come from."""
    described = [
        _describe(condition, split, outcome)
        for condition, split, outcome in zip(suite.conditions(), splits, outcomes.values(), strict=True)
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
        conditions=described,
        provenance=_provenance(job, method, splits, model, seconds),
        identity=identity,
    )


def _describe(condition: Condition, split: Split, outcome: Outcomes) -> dict[str, Any]:
    return {
        "name": condition.name,
        "split": condition.split,
        "attack": condition.attack,
        "params": dict(condition.params),
        "threat": str(condition.threat) if condition.threat else None,
        "preprocess": condition.preprocess,
        "n": len(outcome),
        "origin": split.origin,
        "data_digest": split.digest,
        "content_digest": content_digest(split),
        "accuracy": round(100 * float(outcome.correct.mean()), 4),
    }


def _provenance(job: Job, method: Method, splits: list[Split], model: Fitted, seconds: float) -> dict[str, Any]:
    return {
        "nsbench": nsbench.__version__,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "device": provenance.device_name(job.device),
        "weights_digest": model.weights_digest,
        "parent_digest": job.parent_digest,
        "fit_key": model.key,
        "data_digest": digest_of(*(split.digest for split in splits)),
        "limit": job.options.limit,
        "preprocessing": job.parent.preprocessing.describe(),
        "normalisation": job.options.normalisation,
        "mean": list(job.parent.mean),
        "std": list(job.parent.std),
        "batch_size": job.batch_size,
        "recipe": job.recipe.model_dump() if method.trains else None,
        "method_version": method.version,
        "history": model.card["history"],
        "fit_seconds": model.card["seconds"],
        "seconds": round(seconds, 2),
        "forward_equivalents": model.card.get("forward_equivalents"),
        "lineage": model.card.get("lineage", []),
        "peak_memory_mib": provenance.peak_memory_mib(job.device),
        "command": provenance.command_line(),
        "date": provenance.now(),
    }


def result_line(pair: str, result: Result) -> str:
    """What the terminal says of a finished pair."""
    score, seconds = result.score, result.provenance["seconds"]
    arrow = " (lower is better)" if result.lower_is_better else ""
    unit = "%" if result.unit == "%" else f" {result.unit}"
    images = sum(condition["n"] for condition in result.conditions)
    return (
        f"{pair:<28} {score.value:5.1f}{unit}  [{score.low:.1f}, {score.high:.1f}]{arrow}  "
        f"n = {score.n:,}  {seconds:.1f} s, {images / max(seconds, 1e-9):,.0f} images/s"
    )
