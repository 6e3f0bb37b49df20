"""The trainings that a job needs: of a method, of a chain's parts, and of the method that equal compute is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from nsbench import registry
from nsbench.errors import UsageError
from nsbench.progress import Progress
from nsbench.run.fit import Fitter, recipe_used
from nsbench.run.job import Job, open_job
from nsbench.run.kept_fits import Fitted
from nsbench.run.options import RunOptions
from nsbench.run.watch import Watcher
from nsbench.types import FitPasses, Method

if TYPE_CHECKING:
    from nsbench.models import Model


IDLE = FitPasses(0, trained=0)  # what a method that does not train does


def fit(options: RunOptions, progress: Progress, network: Model | None = None) -> Fitted:
    """The model of the first method and seed, from the kept weights where they are there. Raises an nsbench error."""
    job = open_job(options, progress, network)
    return fitted(job, job.method(options.methods[0]))


def fitted(job: Job, method: Method, waits: bool = True) -> Fitted:
    with closing(Watcher(job)) as watcher:
        found = fitter_of(job, method, watcher, waits).fit(method, job.parent, job.parent_digest)
    if found.card.recipe is None or not _is_divided(job, method):
        return found
    return replace(found, card=replace(found.card, recipe=recipe_used(job.recipe)))  # that of its neighbours


def fit_key(job: Job, method: Method) -> str:
    """Digest of everything that decides the weights of a method."""
    return fitter_of(job, method).key(method, job.parent, job.parent_digest)


def fitter_of(job: Job, method: Method, watcher: Watcher | None = None, waits: bool = True) -> Fitter:
    """For the trainings of one method: where the recipe bounds compute, those of a chain have equal shares of it."""
    recipe = job.recipe
    if _is_divided(job, method):
        recipe = recipe.model_copy(update={"compute": recipe.compute / _trainings(job, method)})
    listens = watcher is not None and (job.options.watch or job.options.log)
    return Fitter(
        recipe,
        job.source,
        job.progress,
        workers=job.workers,
        again=job.options.force,
        folder=job.options.weights,
        on_round=watcher if listens else None,
        waits=waits,
    )


def _is_divided(job: Job, method: Method) -> bool:
    return bool(job.recipe.compute and method.parts) and _trainings(job, method) > 1


def _trainings(job: Job, method: Method) -> int:
    """How many parts of a chain take steps; one that only averages weights behind another one takes none."""
    train = job.source.split("train", job.progress)
    found = [
        part.passes_of(job.parent, train, job.recipe, chained=number > 0) if part.trains else IDLE
        for number, part in enumerate(method.parts)
    ]
    return sum(one is None or bool(one.forwards or one.trained) for one in found)


def trained_parts(job: Job, method: Method) -> Iterator[tuple[Method, Method]]:
    """The trainings behind a method's model: of a chain each part that trains, behind the chain that ends with it.

    Where these share a budget they are one training: a part's share is no other chain's.
    """
    parts = method.parts or (method,)
    if method.parts and (job.recipe.compute or job.options.match == "compute") and _trainings(job, method) > 1:
        yield method, parts[-1]
        return
    for number, part in enumerate(parts, 1):
        if part.trains:
            yield job.method("+".join(one.name for one in parts[:number])), part


def job_of(first: Job, seed: int, compute: float | None = None) -> Job:
    """The job of a seed. `compute`: a budget of forward passes instead of a number of steps."""
    budget = {} if compute is None else {"compute": compute}
    return replace(first, seed=seed, recipe=first.recipe.model_copy(update={"seed": seed, **budget}))


def trains_equally(job: Job) -> bool:
    """Whether this run trains for equal compute, which has to be measured."""
    return job.options.match == "compute" and any(job.method(name).trains for name in job.options.methods)


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
