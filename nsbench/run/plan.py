"""What `nsbench run --dry-run` says: of each pair whether it is held, would be run, or cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nsbench import registry, results
from nsbench.errors import MissingSplit, NsbenchError
from nsbench.progress import SILENT
from nsbench.run.job import Job, RunOptions, open_job
from nsbench.run.recording import Pair
from nsbench.run.runner import fit_key, identity_of, pair_of, splits_of, with_meaning


@dataclass(frozen=True)
class Planned:
    pair: Pair
    state: Literal["held already", "to run", "missing", "cannot be run", "known once equal compute is measured"]
    why: str = ""  # where it is missing or cannot be run


def plan(options: RunOptions) -> list[Planned]:
    """In the order of the run. Nothing is fitted, evaluated or written; raises an nsbench error as the run would."""
    first = with_meaning(open_job(options, SILENT))
    jobs = [replace(first, seed=s, recipe=first.recipe.model_copy(update={"seed": s})) for s in options.seeds]
    return [_planned(job, name, suite) for job in jobs for name in options.methods for suite in job.options.suites]


def _planned(job: Job, method: str, name: str) -> Planned:
    suite, own = registry.suites[name], job.method(method)
    pair = pair_of(job, own, name)
    try:
        splits = splits_of(job, suite)
        if job.options.match == "compute":
            return Planned(pair, "known once equal compute is measured")
        identity = identity_of(job, suite, splits, fit_key(job, own))
        found = results.find_result(
            job.options.results, job.source.name, job.parent.name, method, name, job.seed, identity
        ).result
    except MissingSplit as error:
        return Planned(pair, "missing", str(error).splitlines()[0])
    except NsbenchError as error:
        return Planned(pair, "cannot be run", str(error).splitlines()[0])
    counts = found and not job.options.force and (job.options.allow_missing or not found.unreadable)
    return Planned(pair, "held already" if counts else "to run")
