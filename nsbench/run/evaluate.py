"""model x condition -> per-image outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsbench import processes, registry
from nsbench.attacks.card import AttackCost, attack_card, of_all_processes
from nsbench.errors import DataError, doing
from nsbench.models.faster import faster_linear
from nsbench.models.memory import let_go, out_of_memory, too_large
from nsbench.models.model import frozen
from nsbench.progress import SILENT, Progress
from nsbench.results import AttackCard, OutputCheck
from nsbench.results.samples import Sample, Sampler
from nsbench.run.attacked import attacked_columns
from nsbench.run.class_maps import for_classes
from nsbench.run.judge import Columns
from nsbench.run.known import UNKNOWN, Memory
from nsbench.run.one_condition import OneCondition, share_unreadable
from nsbench.run.sound import check_attackable, check_condition
from nsbench.run.unattacked import clean_columns, keep_samples
from nsbench.types import Condition, Outcomes

if TYPE_CHECKING:
    from nsbench.data import Split
    from nsbench.models import Model

PROBABILITIES = ("label_probability", "confidence", "top5")  # columns that are fields of Outcomes


@dataclass(frozen=True)
class Evaluation:
    """What became of the images of one condition."""

    outcomes: Outcomes
    unreadable: Mapping[str, str] = field(default_factory=dict)  # id -> why: images that were left out
    attack_card: AttackCard | None = None
    samples: tuple[Sample, ...] = ()
    outputs: OutputCheck | None = None  # of the model's first batch
    cost: AttackCost | None = None  # what the card is made of


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
    evaluation and left out; where that leaves none, it raises DataError, unless it `may_be_empty`. So does an attack on
    images with several right labels, and a condition that cannot be evaluated raises UsageError. So many `pictures`
    of right and of wrong images are kept. `memory` carries what is known of unattacked images from one condition of
    this model to the next. Where a batch does not fit into memory, half as many images are taken at a time, which moves
    no outcome. Several processes take a part of the images each, and all get the whole evaluation.
    """
    check_condition(condition)
    check_attackable(condition, split)
    memory, title = memory or Memory(), label or condition.name
    if split.set_classes:
        model = for_classes(model, split.set_classes)
    while True:
        room = max(1, min(batch_size, memory.room or batch_size, len(split)))
        job = OneCondition(model, split, condition, room, workers, {} if leave_out else None)
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
    job: OneCondition, seed: int, progress: Progress, title: str, pictures: int, memory: Memory, may_be_empty: bool
) -> Evaluation:
    condition, sampler, card, cost = job.condition, Sampler(pictures), None, None
    columns = clean_columns(job, memory, progress, f"{title} · clean" if condition.attack else title)
    if (columns["predictions"] == UNKNOWN).all():
        if not may_be_empty:
            raise none_read(job.split.name, len(job.split))
        share_unreadable(job)
        none = columns["predictions"][:0]
        return Evaluation(Outcomes(job.split.ids[:0], job.split.labels[:0], none), dict(job.unreadable or {}))
    if condition.attack:
        cost = AttackCost()
        columns = attacked_columns(job, columns, seed, cost, progress, title, sampler)
        cost = of_all_processes(cost)
        card = attack_card(registry.attacks[condition.attack], condition, cost)
    elif pictures:
        keep_samples(job, columns["predictions"], sampler)
    share_unreadable(job)
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
