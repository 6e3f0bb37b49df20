"""What the model says of images as they are: computed once, whatever conditions ask for it.

Shapes: N images of a split.
"""

from __future__ import annotations

import numpy as np

from nsbench import processes
from nsbench.progress import Progress
from nsbench.results.samples import Sampler
from nsbench.run.judge import LOOKED_AT, Columns, judge, look_at_outputs
from nsbench.run.known import UNKNOWN, Known, Memory
from nsbench.run.one_condition import OneCondition, accepted, share_unreadable


def clean_columns(job: OneCondition, memory: Memory, progress: Progress, title: str) -> Columns:
    """What the model says of the images as they are, computed where it is not known yet."""
    known, positions = memory.of(job.split, job.condition.preprocess)
    bad = [] if job.unreadable is None else list(known.unreadable)
    if job.unreadable is not None and known.unreadable:
        places = dict(zip(positions.tolist(), job.split.ids.tolist(), strict=True))
        job.unreadable.update({str(places[at]): why for at, why in known.unreadable.items() if at in places})
    missing = np.flatnonzero((known.columns["predictions"][positions] == UNKNOWN) & ~np.isin(positions, bad))
    if len(missing):
        _look(job, memory, known, positions, missing, progress, title)
    return {name: values[positions] for name, values in known.columns.items()}


def _look(
    job: OneCondition,
    memory: Memory,
    known: Known,
    positions: np.ndarray,
    missing: np.ndarray,
    progress: Progress,
    title: str,
) -> None:
    """Judge the images `missing` of the job's split, which stand at `positions` in the known ones."""
    _prepare(job, missing, progress)
    own = missing[processes.share(len(missing))]
    if processes.count() > 1 and memory.outputs is None:  # what the first of all images give, in every process
        for images, *_ in job.batches(missing[:LOOKED_AT]):
            memory.outputs = memory.outputs or look_at_outputs(job.model, images)
    found: list[tuple[np.ndarray, Columns]] = []
    with progress.task(title, len(own)) as advance:
        for images, _, ids, indices in job.batches(own):
            memory.outputs = memory.outputs or look_at_outputs(job.model, images)
            judged = judge(job.model, images, job.split.labels[indices], ids, job.split.classes)
            found.append((indices, accepted(job.split, indices, judged)))
            advance(len(images))
    for indices, judged in (one for parts in processes.gathered(found) for one in parts):
        known.put(positions[indices], judged)
    share_unreadable(job)
    why = job.unreadable or {}
    known.unreadable |= {
        int(positions[k]): why[str(job.split.ids[k])] for k in missing.tolist() if str(job.split.ids[k]) in why
    }


def _prepare(job: OneCondition, missing: np.ndarray, progress: Progress) -> None:
    """Make images that do not exist yet: the first process makes them, and the others find them."""

    def made() -> None:
        job.split.prepare(
            missing, device=job.model.device, batch_size=job.batch_size, workers=job.workers, progress=progress
        )

    processes.first(made)
    if processes.number() > 0:
        made()


def keep_samples(job: OneCondition, predicted: np.ndarray, sampler: Sampler) -> None:
    """Pictures of a few images as they are, which are read once more."""
    labels, known = job.split.labels, np.flatnonzero(predicted != UNKNOWN)
    wanted = known[sampler.chosen(job.split.ids[known], (predicted == labels)[known])]
    for images, _, ids, indices in job.batches(np.sort(wanted)):
        sampler.offer(ids, labels[indices], predicted[indices], images)
