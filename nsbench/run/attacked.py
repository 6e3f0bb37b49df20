"""What becomes of the images that are right before an attack. The harness does not believe an attack: it checks, then
judges itself.

Shapes: B images of a batch, N images of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from nsbench import processes, registry
from nsbench.attacks.card import AttackCost, import_library
from nsbench.models.model import class_token_only, every_token
from nsbench.models.preprocessing import in_8_bits
from nsbench.models.subset import labels_within, over_classes
from nsbench.progress import Progress
from nsbench.results.samples import Sampler
from nsbench.run.attack_call import call_attack
from nsbench.run.guard import Guard
from nsbench.run.judge import Columns, judge, predictions
from nsbench.run.known import UNKNOWN
from nsbench.run.one_condition import Images, OneCondition, accepted
from nsbench.run.threat_check import bound_of, check_adversarial

POOL = 4  # batches that an attack which refills its batch is handed at a time: what bounds the memory


def attacked_columns(
    job: OneCondition, clean: Columns, seed: int, cost: AttackCost, progress: Progress, title: str, sampler: Sampler
) -> Columns:
    """Attack the images that are still right, check what came back, judge it, and judge it again in 8 bits.

    Where the split has a class subset, the attack is given a model of these classes alone: it is judged among them.
    The attack may search on the short form of the last block; what became of an image is judged on the whole model.

    The others are not touched, so their predictions, rounded to 8 bits or not, are the clean ones.
    """
    condition, before = job.condition, clean["predictions"]
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
    attacked = over_classes(job.model, job.split.classes)
    guard = Guard(attacked)
    found: list[tuple[np.ndarray, Columns]] = []
    with class_token_only(attacked), progress.task(title, len(own)) as advance:
        for images, labels, ids, indices in _pools(job.batches(own), POOL if _refills(job) else 1):
            adversarial = _perturb(job, guard, images, labels, ids, seed, cost)
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


def _refills(job: OneCondition) -> bool:
    """Whether the attack takes `batch_size`: more images than that, of which it attacks so many at a time."""
    return registry.attacks[str(job.condition.attack)].takes_batch_size


def _pools(parts: Iterator[Images], number: int) -> Iterator[Images]:
    """So many batches joined into one."""
    while group := list(islice(parts, number)):
        images, labels, ids, indices = zip(*group, strict=True)
        yield torch.cat(images), torch.cat(labels), [one for part in ids for one in part], np.concatenate(indices)


def _perturb(
    job: OneCondition,
    guard: Guard,
    images: torch.Tensor,
    labels: torch.Tensor,
    ids: list[str],
    seed: int,
    cost: AttackCost,
) -> torch.Tensor:
    """What the attack makes of these images, after the check. It knows the classes that are judged, and no others."""
    attack, threat = registry.attacks[str(job.condition.attack)], job.condition.threat
    assert threat is not None
    room = {"batch_size": job.batch_size} if _refills(job) else {}
    params = {**job.condition.params, **room}
    with guard.around(), cost.counted(guard.model, len(images)):
        returned = call_attack(
            attack,
            guard.model,
            images,
            labels_within(labels, job.split.classes),
            ids=ids,
            seed=seed,
            threat=threat,
            params=params,
        )
    check_adversarial(images, returned, threat, ids, attack.name, job.model, bound_of(job.condition))
    return returned.clamp(0, 1)


def _measure(
    job: OneCondition, images: torch.Tensor, adversarial: torch.Tensor, ids: list[str], indices: np.ndarray
) -> Columns:
    difference = (adversarial - images).flatten(1)
    with every_token(job.model):
        judged = judge(job.model, adversarial, job.split.labels[indices], ids, job.split.classes) | {
            "predictions_uint8": predictions(job.model, in_8_bits(adversarial), ids, job.split.classes),
            "linf": difference.abs().amax(dim=1).cpu().numpy(),
            "l2": difference.norm(dim=1).cpu().numpy(),
        }
    return accepted(job.split, indices, judged)
