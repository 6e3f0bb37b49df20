"""One condition of one model: its images, how they reach the model, and those that cannot be read.

Shapes: B images of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nsbench import processes
from nsbench.data.loading import batches
from nsbench.models.preprocessing import unit
from nsbench.run.judge import Columns
from nsbench.types import Condition

if TYPE_CHECKING:
    from nsbench.data import Split
    from nsbench.models import Model

Images = tuple[torch.Tensor, torch.Tensor, list[str], np.ndarray]  # images, labels, ids, positions in the split


@dataclass(frozen=True)
class OneCondition:
    """One model, one split and how its images reach the model."""

    model: Model
    split: Split
    condition: Condition
    batch_size: int
    workers: int
    unreadable: dict[str, str] | None  # id -> why, of images that are left out; None: one is an error

    def batches(self, indices: np.ndarray) -> Iterator[Images]:
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


def share_unreadable(job: OneCondition) -> None:
    """Images that any process could not read are left out by all, in the order of the split."""
    if job.unreadable is None or processes.count() == 1:
        return
    found = {image: why for part in processes.gathered(job.unreadable) for image, why in part.items()}
    job.unreadable.clear()
    job.unreadable.update(found)


def accepted(split: Split, indices: np.ndarray, columns: Columns) -> Columns:
    """Where an image has several right labels and one of them is predicted, the one that is stored stands for it."""
    if split.also_right is None:
        return columns
    others = [split.also_right.get(str(one), ()) for one in split.ids[indices]]
    found = dict(columns)
    for name in ("predictions", "predictions_uint8"):
        if name in columns:
            right = [said in also for said, also in zip(columns[name].tolist(), others, strict=True)]
            found[name] = np.where(right, split.labels[indices], columns[name])
    return found
