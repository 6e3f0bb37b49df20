"""model x condition -> per-image outcomes. The harness does not believe an attack: it checks, then judges itself.

Shapes: B images of a batch, K classes, N images of a split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from nsbench import processes, registry
from nsbench.attacks.card import AttackCost, attack_card, import_library, of_all_processes
from nsbench.data.loading import batches
from nsbench.errors import AttackError, DataError, doing
from nsbench.models.faster import faster_linear
from nsbench.models.memory import let_go, out_of_memory, too_large
from nsbench.models.model import class_token_only, every_token, frozen
from nsbench.models.preprocessing import in_8_bits, unit
from nsbench.progress import SILENT, Progress
from nsbench.results import AttackCard, OutputCheck
from nsbench.results.samples import Sample, Sampler
from nsbench.run.class_maps import for_classes
from nsbench.run.judge import LOOKED_AT, Columns, judge, look_at_outputs, predictions
from nsbench.run.known import UNKNOWN, Known, Memory
from nsbench.run.threat_check import check_adversarial
from nsbench.types import Condition, Outcomes

if TYPE_CHECKING:
    from nsbench.data import Split
    from nsbench.models import Model

POOL = 4  # batches that an attack which refills its batch is handed at a time: what bounds the memory
PROBABILITIES = ("label_probability", "confidence", "top5")  # columns that are fields of Outcomes
_Batch = tuple[torch.Tensor, torch.Tensor, list[str], np.ndarray]  # images, labels, ids, positions in the split


@dataclass(frozen=True)
class Evaluation:
    """What became of the images of one condition."""

    outcomes: Outcomes
    unreadable: Mapping[str, str] = field(default_factory=dict)  # id -> why: images that were left out
    attack_card: AttackCard | None = None
    samples: tuple[Sample, ...] = ()
    outputs: OutputCheck | None = None  # of the model's first batch
    cost: AttackCost | None = None  # what the card is made of


@dataclass(frozen=True)
class _Job:
    """One model, one split and how its images reach the model."""

    model: Model
    split: Split
    condition: Condition
    batch_size: int
    workers: int
    unreadable: dict[str, str] | None

    def batches(self, indices: np.ndarray) -> Iterator[_Batch]:
        """Images in [0, 1], labels, ids and positions in the split, in full batches of these images."""
        transform = self.model.preprocessing.transform(self.condition.preprocess)
        for batch in batches(
            self.split,
            transform,
            batch_size=self.batch_size,
            workers=self.workers,
            indices=indices,
            corrupt=self.unreadable,
        ):
            yield unit(batch.images, self.model.device), batch.labels.to(self.model.device), batch.ids, batch.indices


def evaluate(
    model: Model,
    split: Split,
    condition: Condition,
    *,
    seed: int = 0,
    batch_size: int = 64,
    workers: int = 0,
    progress: Progress = SILENT,
    label: str = "",
    leave_out: bool = False,
    pictures: int = 0,
    memory: Memory | None = None,
    may_be_empty: bool = False,
) -> Evaluation:
    """What becomes of every image of `split` under `condition`, in the split's order.

    Images that are misclassified before the attack count as broken and are not attacked; the others are attacked in
    full batches. Raises ModelError for logits that are not finite and AttackError for adversarial images outside
    their threat model. An image that cannot be decoded raises CorruptImage; with `leave_out` it is named in the
    evaluation and left out; where that leaves none, it raises DataError, unless it `may_be_empty`. So many `pictures`
    of right and of wrong images are kept. `memory` carries what is known of unattacked images from one condition of
    this model to the next. Where a batch does not fit into memory, half as many images are taken at a time, which moves
    no outcome. Several processes take a part of the images each, and all get the whole evaluation.
    """
    memory, title = memory or Memory(), label or condition.name
    if split.set_classes:
        model = for_classes(model, split.set_classes)
    while True:
        room = max(1, min(batch_size, memory.room or batch_size, len(split)))
        job = _Job(model, split, condition, room, workers, {} if leave_out else None)
        try:
            with (
                processes.section(repeated=out_of_memory),
                frozen(model),
                faster_linear(model),
                doing(f"evaluating {title}"),
            ):
                return _evaluated(job, seed, progress, title, pictures, memory, may_be_empty)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if room == 1:
                raise too_large(error) from error
        memory.room = -(-room // 2)
        let_go()  # here, where the failed batch's tensors are let go
        progress.line(f"{title}: {room} images at a time do not fit into memory; again with {memory.room}", "yellow")


def _evaluated(
    job: _Job, seed: int, progress: Progress, title: str, pictures: int, memory: Memory, may_be_empty: bool
) -> Evaluation:
    condition, sampler, card, cost = job.condition, Sampler(pictures), None, None
    columns = _clean(job, memory, progress, f"{title} · clean" if condition.attack else title)
    if (columns["predictions"] == UNKNOWN).all():
        if not may_be_empty:
            raise none_read(job.split.name, len(job.split))
        _share_unreadable(job)
        none = columns["predictions"][:0]
        return Evaluation(Outcomes(job.split.ids[:0], job.split.labels[:0], none), dict(job.unreadable or {}))
    if condition.attack:
        cost = AttackCost()
        columns = _attack(job, columns, seed, cost, progress, title, sampler)
        cost = of_all_processes(cost)
        card = attack_card(registry.attacks[condition.attack], condition, cost)
    elif pictures:
        _sample(job, columns["predictions"], sampler)
    _share_unreadable(job)
    return Evaluation(
        _outcomes(job.split, columns), dict(job.unreadable or {}), card, tuple(sampler.samples), memory.outputs, cost
    )


def none_read(split: str, images: int) -> DataError:
    return DataError(f"split '{split}': none of its {images} images can be read")


def _outcomes(split: Split, columns: Columns) -> Outcomes:
    """Of the images that were judged."""
    kept = columns["predictions"] != UNKNOWN
    columns = {name: values[kept] for name, values in columns.items()}
    probabilities = {name: columns.pop(name) for name in PROBABILITIES}
    return Outcomes(split.ids[kept], split.labels[kept], columns.pop("predictions"), columns, **probabilities)


def _sample(job: _Job, predicted: np.ndarray, sampler: Sampler) -> None:
    """Pictures of a few images as they are, which are read once more."""
    labels, known = job.split.labels, np.flatnonzero(predicted != UNKNOWN)
    wanted = known[sampler.chosen(job.split.ids[known], (predicted == labels)[known])]
    for images, _, ids, indices in job.batches(np.sort(wanted)):
        sampler.offer(ids, labels[indices], predicted[indices], images)


def _clean(job: _Job, memory: Memory, progress: Progress, title: str) -> Columns:
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
    job: _Job,
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
            found.append((indices, _accepted(job.split, indices, judged)))
            advance(len(images))
    for indices, judged in (one for parts in processes.gathered(found) for one in parts):
        known.put(positions[indices], judged)
    _share_unreadable(job)
    why = job.unreadable or {}
    known.unreadable |= {
        int(positions[k]): why[str(job.split.ids[k])] for k in missing.tolist() if str(job.split.ids[k]) in why
    }


def _attack(
    job: _Job, clean: Columns, seed: int, cost: AttackCost, progress: Progress, title: str, sampler: Sampler
) -> Columns:
    """Attack the images that are still right, check what came back, judge it, and judge it again in 8 bits.

    The attack may search on the short form of the last block; what became of an image is judged on the whole model.

    The others are not touched, so their predictions, rounded to 8 bits or not, are the clean ones.
    """
    condition, before = job.condition, clean["predictions"]
    if condition.threat is None:
        raise AttackError(f"condition '{condition.name}': an attack needs a threat model")
    import_library(registry.attacks[str(condition.attack)])
    zeros = np.zeros(len(before), dtype=np.float32)
    columns = {name: values.copy() for name, values in clean.items()} | {
        "predictions_clean": before,
        "predictions_uint8": before.copy(),
        "linf": zeros,
        "l2": zeros.copy(),
    }
    right = np.flatnonzero(before == job.split.labels)
    columns["predictions"][right] = UNKNOWN  # until judged: an image that cannot be read any more is left out
    own = right[processes.share(len(right))]
    found: list[tuple[np.ndarray, Columns]] = []
    with class_token_only(job.model), progress.task(title, len(own)) as advance:
        for images, labels, ids, indices in _pools(job.batches(own), POOL if _refills(job) else 1):
            adversarial = _perturb(job, images, labels, ids, seed, cost)
            for start in range(0, len(ids), job.batch_size):
                part = slice(start, start + job.batch_size)
                measured = _measure(job, images[part], adversarial[part], ids[part], indices[part])
                found.append((indices[part], measured))
                sampler.offer(
                    ids[part],
                    job.split.labels[indices[part]],
                    measured["predictions"],
                    images[part],
                    adversarial[part],
                    {name: measured[name] for name in ("linf", "l2")},
                )
            advance(len(images))
    for places, measured in (one for parts in processes.gathered(found) for one in parts):
        for name, values in measured.items():
            columns[name][places] = values
    if processes.count() > 1:
        sampler.take_over(processes.gathered(sampler.samples))
    return columns


def _prepare(job: _Job, missing: np.ndarray, progress: Progress) -> None:
    """Make images that do not exist yet: the first process makes them, and the others find them."""

    def made() -> None:
        job.split.prepare(
            missing, device=job.model.device, batch_size=job.batch_size, workers=job.workers, progress=progress
        )

    processes.first(made)
    if processes.number() > 0:
        made()


def _share_unreadable(job: _Job) -> None:
    """Images that any process could not read are left out by all, in the order of the split."""
    if job.unreadable is None or processes.count() == 1:
        return
    found = {image: why for part in processes.gathered(job.unreadable) for image, why in part.items()}
    job.unreadable.clear()
    job.unreadable.update(found)


def _refills(job: _Job) -> bool:
    """Whether the attack takes `batch_size`: more images than that, of which it attacks so many at a time."""
    return registry.attacks[str(job.condition.attack)].takes_batch_size


def _pools(parts: Iterator[_Batch], number: int) -> Iterator[_Batch]:
    """So many batches joined into one."""
    while group := list(islice(parts, number)):
        images, labels, ids, indices = zip(*group, strict=True)
        yield torch.cat(images), torch.cat(labels), [one for part in ids for one in part], np.concatenate(indices)


def _perturb(
    job: _Job,
    images: torch.Tensor,
    labels: torch.Tensor,
    ids: list[str],
    seed: int,
    cost: AttackCost,
) -> torch.Tensor:
    """What the attack makes of these images, after the check."""
    name, threat = str(job.condition.attack), job.condition.threat
    assert threat is not None
    room = {"batch_size": job.batch_size} if _refills(job) else {}
    with cost.counted(job.model, len(images)):
        returned = registry.attacks[name](
            job.model, images, labels, ids=ids, seed=seed, threat=threat, **room, **job.condition.params
        )
    bound = str(job.condition.params.get("bound") or threat.norm)
    check_adversarial(images, returned, threat, ids, name, job.model, bound)
    return returned.clamp(0, 1)


def _measure(
    job: _Job, images: torch.Tensor, adversarial: torch.Tensor, ids: list[str], indices: np.ndarray
) -> Columns:
    difference = (adversarial - images).flatten(1)
    with every_token(job.model):
        judged = judge(job.model, adversarial, job.split.labels[indices], ids, job.split.classes) | {
            "predictions_uint8": predictions(job.model, in_8_bits(adversarial), ids, job.split.classes),
            "linf": difference.abs().amax(dim=1).cpu().numpy(),
            "l2": difference.norm(dim=1).cpu().numpy(),
        }
    return _accepted(job.split, indices, judged)


def _accepted(split: Split, indices: np.ndarray, columns: Columns) -> Columns:
    """Where an image has several right labels and one of them is predicted, the one that is stored stands for it."""
    if split.also_right is None:
        return columns
    others = [split.also_right.get(str(one), ()) for one in split.ids[indices]]
    accepted = dict(columns)
    for name in ("predictions", "predictions_uint8"):
        if name in columns:
            right = [said in also for said, also in zip(columns[name].tolist(), others, strict=True)]
            accepted[name] = np.where(right, split.labels[indices], columns[name])
    return accepted
