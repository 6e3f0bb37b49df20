"""The trainings that a job needs: of a method, of a chain's parts, and of the method that equal compute is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from nsbench import registry
from nsbench.errors import UsageError
from nsbench.progress import Progress
from nsbench.run.fit import Fitter
from nsbench.run.job import Job, open_job
from nsbench.run.kept_fits import Fitted
from nsbench.run.options import RunOptions
from nsbench.run.watch import Watcher
from nsbench.types import Method

if TYPE_CHECKING:
    from nsbench.models import Model


def fit(options: RunOptions, progress: Progress, network: Model | None = None) -> Fitted:
    """The model of the first method and seed, from the kept weights where they are there. Raises an nsbench error."""
    job = open_job(options, progress, network)
    return fitted(job, job.method(options.methods[0]))


def fitted(job: Job, method: Method, waits: bool = True) -> Fitted:
    with closing(Watcher(job)) as watcher:
        return fitter_of(job, watcher, waits).fit(method, job.parent, job.parent_digest)


def fit_key(job: Job, method: Method) -> str:
    """Digest of everything that decides the weights of a method."""
    return fitter_of(job).key(method, job.parent, job.parent_digest)


def fitter_of(job: Job, watcher: Watcher | None = None, waits: bool = True) -> Fitter:
    listens = watcher is not None and (job.options.watch or job.options.log)
    return Fitter(
        job.recipe,
        job.source,
        job.progress,
        workers=job.workers,
        again=job.options.force,
        folder=job.options.weights,
        on_round=watcher if listens else None,
        waits=waits,
    )


def trained_parts(job: Job, method: Method) -> Iterator[tuple[Method, Method]]:
    """The trainings behind a method's model: of a chain each part that trains, behind the chain that ends with it."""
    parts = method.parts or (method,)
    for number, part in enumerate(parts, 1):
        if part.trains:
            yield job.method("+".join(one.name for one in parts[:number])), part


def job_of(first: Job, seed: int, compute: float | None = None) -> Job:
    """The job of a seed. `compute`: a budget of forward passes instead of a number of steps."""
    budget = {} if compute is None else {"compute": compute}
    return replace(first, seed=seed, recipe=first.recipe.model_copy(update={"seed": seed, **budget}))


def measuring_job(first: Job) -> Job:
    """The job that equal compute is measured in: one seed's for all, so that every seed trains under one recipe."""
    return job_of(first, first.options.seeds[0])


def subject_of(job: Job) -> Method:
    """The method that equal compute is measured by. Raises UsageError where it is not one."""
    subjects = [method for method in registry.methods.values() if method.role == "subject"]
    if len(subjects) != 1:
        raise UsageError(
            f"--match compute: {len(subjects)} methods have the role 'subject', and equal compute is measured by one"
        )
    return job.method(subjects[0].name)


def budget_of(job: Job, subject: Fitted) -> float:
    """Forward passes that every training gets: what the subject of the comparison cost, which is said."""
    cost = subject.card.forward_equivalents or 0
    job.progress.line(
        f"equal compute: every method trains for as much as {subject.card.method} costs with seed {job.seed}, "
        f"{cost:,} forward passes"
    )
    return float(cost)
