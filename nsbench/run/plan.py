"""What `nsbench run --dry-run` says: what is held, what would be run, and what that takes on this device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

from nsbench import registry, results
from nsbench.errors import MissingSplit, NsbenchError, ResultError
from nsbench.progress import SILENT
from nsbench.results import Result
from nsbench.results.parts import folder_of
from nsbench.run.before import pair_bytes, require_use_of_surrogate, weights_bytes
from nsbench.run.cost import FitCost, PairCost, Work, equal_compute, fit_cost, pair_cost
from nsbench.run.fit import recipe_used
from nsbench.run.job import Job, open_job
from nsbench.run.kept_fits import kept_at, stored
from nsbench.run.known import Memory
from nsbench.run.options import RunOptions
from nsbench.run.pair import identity_of, is_held, pair_of, splits_of
from nsbench.run.recording import Pair
from nsbench.run.runner import with_meaning
from nsbench.run.throughput import Throughput, measure
from nsbench.run.trainings import fit_key, job_of, measuring_job, subject_of, trained_parts, trains_equally
from nsbench.types import Method

State = Literal["held already", "to run", "missing", "cannot be run", "known once equal compute is measured"]
LATER: State = "known once equal compute is measured"


@dataclass(frozen=True)
class PlannedFit:
    """A training behind pairs that are to be run."""

    method: str  # of a chain all parts up to this one
    seed: int
    cost: FitCost | None  # None: the method does not declare it
    held: bool = False
    before: int | None = None  # what a training of this method and recipe took whose result is stored
    before_seed: int | None = None

    @property
    def most(self) -> Work:
        return Work() if self.held or self.cost is None else self.cost.most


@dataclass(frozen=True)
class Planned:
    pair: Pair
    state: State
    why: str = ""  # where it is missing or cannot be run
    cost: PairCost | None = None  # where it is to be run, or may have to be
    fits: tuple[str, ...] = ()  # keys of the trainings that it needs

    @property
    def most(self) -> Work:
        return Work(self.cost.passes) if self.cost else Work()


@dataclass(frozen=True)
class Chain:
    """What only one worker can do, one after the other: the trainings of a pair, and the pair."""

    pair: Pair
    work: Work


@dataclass(frozen=True)
class Plan:
    """Pairs in the order of the run, and the trainings that those need that are not held, by key."""

    pairs: tuple[Planned, ...]
    fits: dict[str, PlannedFit] = field(default_factory=dict)
    throughput: Throughput | None = None  # None: nothing was measured
    unmeasured: str = ""  # why, where it was tried
    bytes_of_weights: int = 0
    bytes_of_results: int = 0

    @property
    def work(self) -> Work:
        """Of everything, at most."""
        return sum([*(one.most for one in self.pairs), *(one.most for one in self.fits.values())], Work())

    @property
    def unknown(self) -> tuple[str, ...]:
        """Attacks and methods that do not declare what they do, so that nothing is counted for them."""
        attacks = [name for one in self.pairs if one.cost for name in one.cost.unknown]
        return tuple(dict.fromkeys([*attacks, *(one.method for one in self.fits.values() if one.cost is None)]))

    def seconds(self, work: Work) -> float | None:
        """None where it cannot be said."""
        return self.throughput.seconds(work) if self.throughput else None

    def longest(self) -> Chain | None:
        """None where nothing is to be run, or nothing was measured."""
        chains = [
            Chain(one.pair, sum((self.fits[key].most for key in one.fits), one.most)) for one in self.pairs if one.cost
        ]
        return max(chains, key=lambda one: self.seconds(one.work) or 0.0, default=None) if self.throughput else None

    def seconds_with(self, workers: int) -> float | None:
        """Before which so many workers cannot be done with all that is counted."""
        whole, longest = self.seconds(self.work), self.longest()
        if whole is None or longest is None:
            return None
        return max(whole / workers, self.seconds(longest.work) or 0.0)


def plan(options: RunOptions, *, measured: bool = True, throughput: Throughput | None = None) -> Plan:
    """In the order of the run. Nothing is fitted, evaluated or written; raises an nsbench error as the run would.

    The model is timed for some ten seconds at most where anything is to be run, unless `measured` is False, or its
    `throughput` is given.
    """
    return plan_of(with_meaning(open_job(options, SILENT)), measured=measured, throughput=throughput)


def plan_of(first: Job, *, measured: bool = True, throughput: Throughput | None = None) -> Plan:
    """As `plan`, for the job of the first seed."""
    require_use_of_surrogate(first)
    options, pairs, fits = first.options, list[Planned](), dict[str, PlannedFit]()
    compute = _budget(first, fits) if trains_equally(first) else None
    for job in [job_of(first, seed, compute) for seed in options.seeds]:
        for name in options.methods:
            pairs += _pairs(job, job.method(name), fits)
    found = Plan(
        tuple(pairs),
        fits,
        throughput,
        bytes_of_weights=weights_bytes(first, sum(not one.held for one in fits.values())),
        bytes_of_results=sum(pair_bytes(one.cost.images) for one in pairs if one.cost),
    )
    if not measured or throughput or found.work == Work():
        return found
    try:
        return replace(found, throughput=measure(first, found.work.passes.backwards > 0, found.work.training > 0))
    except NsbenchError as error:
        return replace(found, unmeasured=str(error).splitlines()[0])


def _budget(first: Job, fits: dict[str, PlannedFit]) -> float | None:
    """Where the training that equal compute is measured by is held; else it is one of the planned ones, and None."""
    job = measuring_job(first)
    subject = subject_of(first)
    key = fit_key(job, subject)
    if not job.options.force and (held := stored(kept_at(job.options.weights, key), job.parent, key)):
        return float(held.card.forward_equivalents or 0)
    fits |= _fits(job, subject)
    return None


def _is_later(job: Job) -> bool:
    """Whether what is to be run is known only when the compute of a training has been measured."""
    return trains_equally(job) and not job.recipe.compute


def _pairs(job: Job, method: Method, fits: dict[str, PlannedFit]) -> list[Planned]:
    """Of one method and seed; the trainings that they need are put into `fits`."""
    memory, needed = Memory(), cache(lambda: (_equal_fits if _is_later(job) else _fits)(job, method))
    return [_planned(job, method, name, memory, needed, fits) for name in job.options.suites]


def _planned(
    job: Job,
    method: Method,
    name: str,
    memory: Memory,
    needed: Callable[[], dict[str, PlannedFit]],
    fits: dict[str, PlannedFit],
) -> Planned:
    suite, pair, later = registry.suites[name], pair_of(job, method, name), _is_later(job)
    try:
        splits = splits_of(job, suite)
        if not later and is_held(job, method, suite, identity_of(job, suite, splits, fit_key(job, method))):
            return Planned(pair, "held already")
        mine = needed()
        cost = pair_cost(job.parent, suite, splits, memory)
    except MissingSplit as error:
        return Planned(pair, "missing", str(error).splitlines()[0])
    except NsbenchError as error:
        return Planned(pair, "cannot be run", str(error).splitlines()[0])
    fits |= mine
    return Planned(pair, LATER if later else "to run", cost=cost, fits=tuple(mine))


def _fits(job: Job, method: Method) -> dict[str, PlannedFit]:
    """The trainings behind a method's model: of a chain one for each part, from what is before it."""
    found = dict[str, PlannedFit]()
    for so_far, part in trained_parts(job, method):
        key = fit_key(job, so_far)
        path = kept_at(job.options.weights, key)
        held = not job.options.force and stored(path, job.parent, key) is not None
        before = None if held or method.parts else _before(job, method)
        found[key] = PlannedFit(
            so_far.name,
            job.seed,
            fit_cost(job, part, bool(so_far.parts)),
            held,
            before.provenance.forward_equivalents if before else None,
            before.seed if before else None,
        )
    return found


def _equal_fits(job: Job, method: Method) -> dict[str, PlannedFit]:
    """As `_fits`, with a budget that is not known yet."""
    return {
        f"{so_far.name} {job.seed}": PlannedFit(
            so_far.name, job.seed, equal_compute(job, part, subject_of(job), bool(so_far.parts))
        )
        for so_far, part in trained_parts(job, method)
    }


def _before(job: Job, method: Method) -> Result | None:
    """A stored result whose training took what this one takes, up to its draws."""
    folder = job.options.results / folder_of(job.source.name, job.parent.name, method.name)
    settings = recipe_used(job.recipe).settings
    for result in _stored(sorted(folder.glob("*.json"))):
        made = result.provenance
        same = made.recipe is not None and made.recipe.settings == settings and made.own_settings == method.own
        if same and made.method_version == method.version and made.forward_equivalents is not None:
            return result
    return None


def _stored(paths: Iterable[Path]) -> Iterable[Result]:
    """Those that can be read."""
    for path in paths:
        with suppress(ResultError):
            yield results.read_result(path)
