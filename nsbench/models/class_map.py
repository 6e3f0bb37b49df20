"""A head of other classes than the data source's: from the outputs of a network to the classes that are asked about.

Several outputs may stand for one class. By "sum", the class has the sum of their probabilities: its logit is
log(sum(exp(logits))), which is that up to a constant that all classes share. By "mean", it has their mean. By "max", it
has their largest logit.
Outputs that stand for no class are left out, so probabilities are among the classes of the source. Both are
differentiable, and where each class has one output, the logits are the network's own, to the bit.

Shapes: B images, O outputs of the network, K classes of the data source, M outputs of one class at most.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import nn

from nsbench.errors import ModelError, UsageError

BY = {"sum": "sum of probabilities", "mean": "mean of probabilities", "max": "largest logit"}
NEVER = 100.0  # by so much the logit of a class without an output is below the lowest of the others


@dataclass(frozen=True)
class Assignment:
    """Which output stands for which class."""

    name: str  # of the map, or of its file
    class_of: tuple[int | None, ...]  # by output; None: for no class of the source
    classes: int  # of the source
    by: str = "sum"  # how several outputs of one class become one logit: a key of BY

    def __post_init__(self) -> None:
        """Raises UsageError for another `by`, and where no output stands for any class."""
        if self.by not in BY:
            raise UsageError(f"--class-map-by {self.by}: is none of {', '.join(BY)}")
        if all(one is None for one in self.class_of):
            raise UsageError(
                f"--class-map {self.name}: none of its {len(self.class_of)} outputs is a class of the source"
            )

    @property
    def without(self) -> tuple[int, ...]:
        """Classes that no output stands for."""
        return tuple(sorted(set(range(self.classes)) - set(self.class_of)))

    def words(self) -> str:
        """For the first line of a run and for its results."""
        used = sum(one is not None for one in self.class_of)
        have = self.classes - len(self.without)
        return (
            f"class map {self.name}: {used} of {len(self.class_of)} outputs to {have} of {self.classes} classes, "
            f"by {BY[self.by]}"
        )


class ClassMap(nn.Module):
    """Logits (B, O) to logits (B, K). It has no weights."""

    table_KM: torch.Tensor  # outputs of each class, padded
    padding_KM: torch.Tensor  # where the table is padded
    empty_K: torch.Tensor  # classes without an output

    def __init__(self, assignment: Assignment) -> None:
        super().__init__()
        self.assignment = assignment
        self.classes, self.outputs = assignment.classes, len(assignment.class_of)
        of_class: list[list[int]] = [[] for _ in range(assignment.classes)]
        for output, target in enumerate(assignment.class_of):
            if target is not None:
                of_class[target].append(output)
        most = max(map(len, of_class))
        table = torch.tensor([outputs + [-1] * (most - len(outputs)) for outputs in of_class])
        self.register_buffer("table_KM", table.clamp(min=0), persistent=False)
        self.register_buffer("padding_KM", table < 0, persistent=False)
        self.register_buffer("empty_K", (table < 0).all(dim=1), persistent=False)

    @property
    def digest(self) -> str:
        """Equal for maps that give the same logits."""
        own = self.assignment
        by = own.by if self.table_KM.shape[1] > 1 else ""
        return hashlib.sha256(f"{own.class_of} {own.classes} {by}".encode()).hexdigest()[:16]

    def forward(self, logits_BO: torch.Tensor) -> torch.Tensor:
        found_BKM = logits_BO[:, self.table_KM]
        if found_BKM.shape[2] == 1:
            logits_BK = found_BKM[:, :, 0]
        else:  # a padded place repeats output 0 and must neither be added nor be the largest
            low = torch.finfo(found_BKM.dtype).min
            found_BKM = found_BKM.masked_fill(self.padding_KM, low)
            logits_BK = found_BKM.amax(dim=2) if self.assignment.by == "max" else found_BKM.logsumexp(dim=2)
            if self.assignment.by == "mean":
                logits_BK = logits_BK - (~self.padding_KM).sum(dim=1).clamp(min=1).log()
        if self.assignment.without:
            lowest_B1 = logits_BO.detach().amin(dim=1, keepdim=True) - NEVER
            logits_BK = torch.where(self.empty_K, lowest_B1, logits_BK)
        return logits_BK


def require_outputs(class_map: ClassMap, outputs: int, model: str) -> None:
    """Raises ModelError where the map is of another head than the model's."""
    if class_map.outputs != outputs:
        raise ModelError(
            f"--class-map {class_map.assignment.name}: is of a head of {class_map.outputs} outputs, and model '{model}' "
            f"has {outputs}; give the map of this head"
        )
