"""What `nsbench run --dry-run` prints: the pairs, their trainings, and what they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from nsbench import registry
from nsbench.errors import without_controls
from nsbench.progress import duration, rate

if TYPE_CHECKING:
    from nsbench.run.options import RunOptions
    from nsbench.run.plan import Plan, Planned, PlannedFit
    from nsbench.run.recording import Pair
    from nsbench.run.throughput import Throughput

WORKERS = (2, 8, 64)


def print_plan(
    options: RunOptions,
    by_reason: Callable[[Mapping[Pair, str]], list[str]],
    measured: bool,
    throughput: Throughput | None,
) -> Throughput | None:
    """The plan of one setting; returns what was measured, for the next one."""
    from nsbench.run.engines import require_possible
    from nsbench.run.plan import plan

    jobs = require_possible(options)
    found = plan(options, measured=measured, throughput=throughput)
    for one in found.pairs:
        if one.state not in ("missing", "cannot be run"):
            click.echo(_pair(found, one, options.data))
    for fit in found.fits.values():
        click.echo(_fit(found, fit))
    counts = Counter(one.state for one in found.pairs)
    pairs = f"{len(found.pairs)} pair{'s' if len(found.pairs) > 1 else ''}"
    click.echo(f"{pairs} in {options.results}: {', '.join(f'{many} {state}' for state, many in counts.items())}")
    for line in [*by_reason({one.pair: one.why for one in found.pairs if one.why}), *_totals(found)]:
        click.echo(f"  {without_controls(line)}")
    if jobs:
        asked = jobs.filled(int(options.device != "cpu")).describe()
        click.echo(f"  at most {jobs.max_jobs} jobs of SLURM at a time, each with {without_controls(asked)}")
    return found.throughput


def _pair(plan: Plan, one: Planned, data: str) -> str:
    conditions = len(registry.suites[one.pair.suite].conditions())
    words = f"{one.pair}: {conditions} condition{'s' if conditions > 1 else ''} on {data}: {one.state}"
    if one.cost is None:
        return words
    back = f" and {one.cost.passes.backwards:,.0f} backward" if one.cost.passes.backwards else ""
    seconds = plan.seconds(one.most)
    took = f", {duration(seconds)}" if seconds is not None else ""
    return f"{words}; {one.cost.images:,} images, at most {one.cost.passes.forwards:,.0f} forward{back} passes{took}"


def _fit(plan: Plan, one: PlannedFit) -> str:
    words = f"training of {one.method} (seed {one.seed}): "
    if one.held:
        return words + "held already"
    if one.cost is None:
        return words + "what it takes is not known"
    least, most = one.cost.least.forward_equivalents, one.cost.most.forward_equivalents
    passes = f"{most:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
    seconds = plan.seconds(one.most)
    took = f", {'at most ' if least < most else ''}{duration(seconds)}" if seconds is not None else ""
    before = f"; the stored one with seed {one.before_seed} took {one.before:,}" if one.before else ""
    steps = f"{one.cost.steps:,} steps of {one.cost.batch_size} images"
    return f"{words}{steps}, as much as {passes} forward passes{took}{before}"


def _totals(plan: Plan) -> list[str]:
    if not any(one.cost for one in plan.pairs):
        return []
    work = plan.work
    pairs = sum((one.most.passes for one in plan.pairs if one.cost), start=type(work.passes)())
    trainings = sum(one.most.forward_equivalents for one in plan.fits.values())
    lines = [
        f"at most {pairs.forwards:,.0f} forward and {pairs.backwards:,.0f} backward passes; "
        f"trainings as much as {trainings:,.0f} forward passes"
    ]
    lines += [f"not counted, since it declares no passes: {name}" for name in plan.unknown]
    lines += _hours(plan)
    disk = f"{plan.bytes_of_weights / 1e9:.2f} GB of weights, {plan.bytes_of_results / 1e9:.2f} GB of results"
    return [*lines, f"on disk at most {disk}"]


def _hours(plan: Plan) -> list[str]:
    measured, longest = plan.throughput, plan.longest()
    if plan.unmeasured:
        return [f"no hours: {plan.unmeasured}"]
    if measured is None:
        return []
    rates = [f"{rate(1 / measured.forward, 'images')} forward"]
    if measured.backward is not None:
        rates.append(f"{rate(1 / (measured.forward + measured.backward), 'images')} forward and back to the image")
    if measured.training is not None:
        rates.append(f"{rate(1 / measured.training, 'images')} in training")
    lines = [f"measured on {measured.device}: {', '.join(rates)}; reading images is not in the times"]
    seconds = plan.seconds(plan.work)
    if seconds is None:
        return [*lines, "no hours in all: the model gives no gradient to its images"]
    lines.append(f"at most {duration(seconds)} in one process")
    bounds = [plan.seconds_with(workers) for workers in WORKERS]
    if longest and None not in bounds:
        numbers, times = ", ".join(map(str, WORKERS)), ", ".join(duration(one) for one in bounds if one is not None)
        lines[-1] += f"; that work takes {numbers} workers at least {times}"
        lines.append(
            f"the longest chain: {longest.pair} with its training, {duration(plan.seconds(longest.work) or 0)}"
        )
    return lines
