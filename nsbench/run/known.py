"""What the conditions of one model share: predictions of unattacked images, and how many images fit into memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nsbench.data.source import Subset
from nsbench.results import OutputCheck
from nsbench.run.judge import Columns

if TYPE_CHECKING:
    from nsbench.data import Split

UNKNOWN = -1  # in place of a prediction


@dataclass
class Known:
    """What the model says of the unattacked images of one split, by position in it."""

    columns: Columns  # "predictions" is UNKNOWN where it was not computed
    unreadable: dict[int, str] = field(default_factory=dict)  # position -> why

    def put(self, positions: np.ndarray, judged: Columns) -> None:
        for name, values in judged.items():
            if name not in self.columns:
                self.columns[name] = np.zeros((len(self.columns["predictions"]), *values.shape[1:]), values.dtype)
            self.columns[name][positions] = values


@dataclass
class Memory:
    """What the conditions of one model share, so that nothing is computed twice: never use it for two models."""

    known: dict[tuple[object, ...], Known] = field(default_factory=dict)
    room: int | None = None  # images at a time that fitted into memory, once more did not
    outputs: OutputCheck | None = None  # what the first batch of logits looks like

    def of(self, split: Split, preprocess: str) -> tuple[Known, np.ndarray]:
        """What is known of the whole split that `split` is, or is a subset of, and where in it the images stand."""
        positions = np.arange(len(split))
        while isinstance(split, Subset):
            positions, split = split.indices[positions], split.base
        key = (split.name, split.digest, split.classes, preprocess)
        if key not in self.known:
            self.known[key] = Known({"predictions": np.full(len(split), UNKNOWN, dtype=np.int64)})
        return self.known[key], positions
