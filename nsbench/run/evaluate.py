"""model x condition -> per-image outcomes. The harness does not believe an attack: it checks, then judges itself.

Shapes: B images of a batch, K classes, N images of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import signature
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsbench import registry
from nsbench.attacks.card import Cost, attack_card, import_library
from nsbench.data.loading import batches
from nsbench.data.source import Subset
from nsbench.errors import AttackError, DataError, ModelError
from nsbench.models.model import frozen
from nsbench.progress import SILENT, Progress
from nsbench.run.threat_check import check_adversarial
from nsbench.types import Condition, Outcomes

if TYPE_CHECKING:
    from nsbench.data import Split
    from nsbench.models import Model
    from nsbench.results.samples import Sampler

UNKNOWN = -1  # in place of a prediction
POOL = 4  # batches that an attack which refills its batch is handed at a time: what bounds the memory
LOOKED_AT = 8  # images whose logits are looked at for signs of ill health, once per model
Columns = dict[str, np.ndarray]
_Batch = tuple[torch.Tensor, torch.Tensor, list[str], np.ndarray]  # images, labels, ids, positions in the split


@dataclass
class Known:
    """Predictions on the unattacked images of one split, by position in it; UNKNOWN where not computed."""

    predictions: np.ndarray  # (N,) int32, inside the split's classes
    predictions_all: np.ndarray | None  # over all classes, where the split has a class subset
    unreadable: dict[int, str] = field(default_factory=dict)  # position -> why


@dataclass
class Memory:
    """What the conditions of one model share, so that nothing is computed twice: never use it for two models."""

    known: dict[tuple, Known] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)  # what the first batch of logits looks like

    def of(self, split: Split, preprocess: str) -> tuple[Known, np.ndarray]:
        """Predictions on the whole split that `split` is, or is a subset of, and where in it the images stand."""
        positions = np.arange(len(split))
        while isinstance(split, Subset):
            positions, split = split.indices[positions], split.base
        key = (split.name, split.digest, split.classes, preprocess)
        if key not in self.known:
            empty = np.full(len(split), UNKNOWN, dtype=np.int32)
            self.known[key] = Known(empty, None if split.classes is None else empty.copy())
        return self.known[key], positions


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
            images = batch.images.to(self.model.device, non_blocking=True).float() / 255
            yield images, batch.labels.to(self.model.device), batch.ids, batch.indices


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
    unreadable: dict[str, str] | None = None,
    memory: Memory | None = None,
    card: dict[str, Any] | None = None,
    samples: Sampler | None = None,
) -> Outcomes:
    """Outcomes of every image of `split` under `condition`, in the split's order.

    Images that are misclassified before the attack count as broken and are not attacked; the others are attacked in
    full batches. Raises ModelError for logits that are not finite and AttackError for adversarial images outside
    their threat model. An image that cannot be decoded raises CorruptImage; with a dictionary `unreadable` it is
    noted there (id -> why) and left out. `memory` carries predictions on unattacked images from one condition of this
    model to the next, and what its outputs look like; `card` is filled with the attack card; `samples` keeps a few
    pictures.
    """
    job = _Job(model, split, condition, batch_size, workers, unreadable)
    title = label or condition.name
    with frozen(model):
        columns = _clean(job, memory, progress, f"{title} · clean" if condition.attack else title)
        if (columns["predictions"] == UNKNOWN).all():
            raise DataError(f"split '{split.name}': none of its {len(split)} images can be read")
        if condition.attack:
            cost = Cost()
            columns = _attack(job, columns, seed, cost, progress, title, samples)
            if card is not None:
                card.update(attack_card(registry.attacks[condition.attack], condition, cost))
        elif samples is not None:
            _sample(job, columns["predictions"], samples)
    kept = columns["predictions"] != UNKNOWN
    columns = {name: values[kept] for name, values in columns.items()}
    return Outcomes(split.ids[kept], split.labels[kept], columns.pop("predictions"), columns)


def _sample(job: _Job, predictions: np.ndarray, samples: Sampler) -> None:
    """Pictures of a few images as they are, which are read once more."""
    labels, known = job.split.labels, np.flatnonzero(predictions != UNKNOWN)
    wanted = known[samples.chosen(job.split.ids[known], (predictions == labels)[known])]
    for images, _, ids, indices in job.batches(np.sort(wanted)):
        samples.offer(ids, labels[indices], predictions[indices], images)


def _clean(job: _Job, memory: Memory | None, progress: Progress, title: str) -> Columns:
    """Predictions on the images as they are, computed where they are not known yet."""
    known, positions = (memory or Memory()).of(job.split, job.condition.preprocess)
    if job.unreadable is not None:
        job.unreadable.update(
            {
                str(job.split.ids[k]): known.unreadable[at]
                for k, at in enumerate(positions.tolist())
                if at in known.unreadable
            }
        )
    bad = [] if job.unreadable is None else list(known.unreadable)
    missing = np.flatnonzero((known.predictions[positions] == UNKNOWN) & ~np.isin(positions, bad))
    if len(missing):
        job.split.prepare(
            missing, device=job.model.device, batch_size=job.batch_size, workers=job.workers, progress=progress
        )
        with progress.task(title, len(missing)) as advance:
            for images, _, ids, indices in job.batches(missing):
                if memory and not memory.outputs:
                    memory.outputs |= look_at_outputs(job.model, images)
                part = _judge(job.model, images, ids, job.split.classes)
                known.predictions[positions[indices]] = part["predictions"]
                if known.predictions_all is not None:
                    known.predictions_all[positions[indices]] = part["predictions_all"]
                advance(len(images))
        why = job.unreadable or {}
        known.unreadable |= {
            int(positions[k]): why[str(job.split.ids[k])] for k in missing.tolist() if str(job.split.ids[k]) in why
        }
    columns = {"predictions": known.predictions[positions].astype(np.int64)}
    if known.predictions_all is not None:
        columns["predictions_all"] = known.predictions_all[positions].astype(np.int64)
    return columns


def _judge(model: Model, images_BCHW: torch.Tensor, ids: list[str], classes: tuple[int, ...] | None) -> Columns:
    """Predictions inside the split's classes, and over all classes where the two may differ."""
    with torch.inference_mode():
        logits_BK = model(images_BCHW)
    finite = torch.isfinite(logits_BK).all(dim=1)
    if not finite.all():
        first = ids[int((~finite).nonzero()[0])]
        raise ModelError(
            f"model '{model.name}' gives NaN or infinite logits for image '{first}'; "
            "the checkpoint is damaged or training diverged"
        )
    everything = logits_BK.argmax(dim=1).cpu().numpy()
    if classes is None:
        return {"predictions": everything}
    subset_C = torch.tensor(classes, device=logits_BK.device)
    inside = subset_C[logits_BK[:, subset_C].argmax(dim=1)].cpu().numpy()
    return {"predictions": inside, "predictions_all": everything}


def look_at_outputs(model: Model, images_BCHW: torch.Tensor) -> dict[str, Any]:
    """Whether the outputs for the first images of a batch are probabilities instead of logits, and whether they repeat.

    "probabilities": every row lies in [0, 1] and sums to 1. "repeat_change": the largest difference between two
    passes of the same images, as a share of the logits' standard deviation; rounding alone is far below 1e-3.
    """
    with torch.inference_mode():
        first_BK, second_BK = model(images_BCHW[:LOOKED_AT]).double(), model(images_BCHW[:LOOKED_AT]).double()
    inside = bool(((first_BK >= 0) & (first_BK <= 1)).all())
    one = bool(((first_BK.sum(dim=1) - 1).abs() < 1e-4).all())
    spread = float(first_BK.std(correction=0))
    change = float((first_BK - second_BK).abs().max()) / spread if spread else 0.0
    return {"images": len(first_BK), "probabilities": inside and one, "repeat_change": change}


def _attack(
    job: _Job, clean: Columns, seed: int, cost: Cost, progress: Progress, title: str, samples: Sampler | None
) -> Columns:
    """Attack the images that are still right, check what came back, judge it, and judge it again in 8 bits.

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
    with progress.task(title, len(right)) as advance:
        for images, labels, ids, indices in _pools(job.batches(right), POOL if _refills(job) else 1):
            adversarial = _perturb(job, images, labels, ids, seed, cost)
            for start in range(0, len(ids), job.batch_size):
                part = slice(start, start + job.batch_size)
                measured = _measure(job, images[part], adversarial[part], ids[part])
                for name, values in measured.items():
                    columns[name][indices[part]] = values
                if samples is not None:
                    samples.offer(
                        ids[part],
                        job.split.labels[indices[part]],
                        measured["predictions"],
                        images[part],
                        adversarial[part],
                        {name: measured[name] for name in ("linf", "l2")},
                    )
            advance(len(images))
    return columns


def _refills(job: _Job) -> bool:
    """Whether the attack takes `batch_size`: more images than that, of which it attacks so many at a time."""
    return "batch_size" in signature(registry.attacks[str(job.condition.attack)]).parameters


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
    cost: Cost,
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


def _measure(job: _Job, images: torch.Tensor, adversarial: torch.Tensor, ids: list[str]) -> Columns:
    difference = (adversarial - images).flatten(1)
    rounded = (adversarial * 255).round() / 255
    return _judge(job.model, adversarial, ids, job.split.classes) | {
        "predictions_uint8": _judge(job.model, rounded, ids, job.split.classes)["predictions"],
        "linf": difference.abs().amax(dim=1).cpu().numpy(),
        "l2": difference.norm(dim=1).cpu().numpy(),
    }
