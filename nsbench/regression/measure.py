"""Running for a check: everything is fitted and computed anew, beside a reference workload that speed is compared with.

Results and fitted weights go to folders of their own: weights that an earlier version of the code left in the user's
cache would hide a change of the training code, and weights of a broken version must not get there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from nsbench import provenance
from nsbench.errors import ResultError
from nsbench.files import temporary_folder
from nsbench.progress import Progress
from nsbench.regression.baseline import Baseline, Option, Reference
from nsbench.regression.entry import Entry, averaged, flipped_images, most_of_an_image
from nsbench.regression.noise import Noise, Together
from nsbench.results import Result, read_results
from nsbench.run.opening import resolve_device
from nsbench.run.recording import Pair
from nsbench.run.runner import RunOptions, run

Repeat = Mapping[tuple[str, str, int], Entry]  # by method, suite and seed
PASSES = 5  # of the reference workload, before and after a run; the quickest counts


@dataclass(frozen=True)
class Measurement:
    """What a run gave."""

    results: tuple[Result, ...]
    why_missing: Mapping[Pair, str]
    reference: Reference


def typed_options(methods: tuple[str, ...], suites: tuple[str, ...], settings: Mapping[str, object]) -> RunOptions:
    """The options of a run, some of which a baseline states. Raises ResultError, which names one that cannot be."""
    try:
        return TypeAdapter(RunOptions).validate_python({"methods": methods, "suites": suites, **settings})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ResultError(f"the baseline's options: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@contextmanager
def measured(options: RunOptions, progress: Progress, *, cached_weights: bool = False) -> Iterator[Measurement]:
    """Run `options` in folders of its own, which are gone at the end; `cached_weights`: fits come from the cache."""
    with temporary_folder("nsbench-check-") as folder:
        own = replace(
            options,
            results=folder / "results",
            force=False,
            weights=None if cached_weights else folder / "weights",
        )
        device = resolve_device(options.device)
        before = _time_reference(device)
        memory = provenance.peak_memory_mib(device)
        summary = run(own, progress)
        seconds = min(before, _time_reference(device))
        results, problems = read_results(own.results)
        if problems:
            raise ResultError(problems[0])
        yield Measurement(
            tuple(results), summary.missing | summary.failed, Reference(seconds, float(max(memory or 0, 1)))
        )


def record(
    options: RunOptions,
    progress: Progress,
    *,
    repeats: int = 1,
    given: Mapping[str, Option] | None = None,
    needs: Iterable[str] = (),
) -> Baseline:
    """Measure, and measure the same again with fewer threads and other batches, which tells the noise.

    `given` and `needs`: see Baseline. Raises ResultError, naming it, where a pair could not be measured.
    """
    with measured(options, progress) as run_:
        if run_.why_missing:
            pair, why = next(iter(run_.why_missing.items()))
            raise ResultError(
                f"{pair}: {why}. A baseline needs every pair that is named; leave out what cannot be "
                f"measured here ({len(run_.why_missing)} of them)"
            )
        entries = [Entry.of(result) for result in run_.results]
        reference = run_.reference
    again = [_repeat(options, progress, number) for number in range(repeats)]
    order = {name: rank for rank, name in enumerate((*options.methods, *options.suites))}
    entries.sort(key=lambda entry: (order[entry.method], order[entry.suite], entry.seed))
    noisy = tuple(replace(entry, noise=_noise(entry, again)) for entry in entries)
    return Baseline(
        noisy,
        dict(given or {}),
        tuple(needs),
        repeats,
        _moved(entries, again),
        _together(entries, again),
        reference,
        provenance.now(),
        provenance.commit(),
        provenance.command_line(),
        provenance.versions(),
    )


def _repeat(options: RunOptions, progress: Progress, number: int) -> Repeat:
    """The same once more, with fewer threads (where there are several) and another batch size."""
    threads = torch.get_num_threads()
    other = max(1, threads - 1 - number)
    batch = (options.batch_size or 64) // 2 + 1 + number
    progress.line(f"repeat {number + 1}: {other} threads, batches of {batch}", style="dim")
    torch.set_num_threads(other)
    try:
        with measured(replace(options, batch_size=batch), progress) as run_:
            return {(e.method, e.suite, e.seed): e for e in map(Entry.of, run_.results)}
    finally:
        torch.set_num_threads(threads)


def _noise(entry: Entry, again: Sequence[Repeat]) -> Noise:
    changes = [entry.worse(other) for repeat in again if (other := repeat.get((entry.method, entry.suite, entry.seed)))]
    return Noise.of(np.concatenate(changes)) if changes else Noise()


def _moved(entries: Sequence[Entry], again: Sequence[Repeat]) -> dict[str, tuple[int, int]]:
    """By method: distinct images that a repeat flipped in any suite, and all that it looked at; summed over repeats."""
    counts: dict[str, tuple[int, int]] = {}
    for method in dict.fromkeys(entry.method for entry in entries if again):
        mine = [entry for entry in entries if entry.method == method]
        images = {image for entry in mine for image in entry.images.ids.tolist()}
        counts[method] = sum(len(_flipped(mine, repeat)) for repeat in again), len(again) * len(images)
    return counts


def _together(entries: Sequence[Entry], again: Sequence[Repeat]) -> dict[str, Together]:
    """By method: how far repeats flip the same images in several of its accuracies."""
    return {
        method: _overlap([e for e in entries if e.method == method and e.definition.is_accuracy], again)
        for method in dict.fromkeys(entry.method for entry in entries if again)
    }


def _overlap(accuracies: Sequence[Entry], again: Sequence[Repeat]) -> Together:
    flips = Counter[str]()
    averages = []
    for repeat in again:
        others = [repeat.get((entry.method, entry.suite, entry.seed)) for entry in accuracies]
        parts = [(one.images.ids, one.worse(o)) for one, o in zip(accuracies, others, strict=True) if o]
        for ids, worse in parts:
            flips.update(ids[np.abs(worse) > 1e-9].tolist())
        if parts and len(parts) == len(accuracies):
            averages.append(averaged(parts))
    average = Noise.of(np.concatenate(averages)) if averages else Noise()
    return Together.of(list(flips.values()), most_of_an_image(accuracies), average)


def _flipped(entries: Sequence[Entry], repeat: Repeat) -> set[str]:
    """Ids of images that a repeat flipped in any of these entries."""
    pairs = [(entry, repeat.get((entry.method, entry.suite, entry.seed))) for entry in entries]
    return {image for before, after in pairs if after for image in flipped_images(before, after).tolist()}


def _time_reference(device: str) -> float:
    """Seconds of the quickest pass of a fixed workload: matrix products and softmax as in a ViT's block."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.rand(8, 145, 192, generator=generator).to(device)
    weights = torch.rand(192, 192, generator=generator).to(device)
    best = float("inf")
    for _ in range(PASSES):
        start = time.perf_counter()
        x = tokens
        for _ in range(8):
            x = torch.softmax(x @ weights @ x.transpose(1, 2), dim=-1) @ x
        float(x.sum())  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return best
