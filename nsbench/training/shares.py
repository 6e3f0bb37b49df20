"""Which images of a step's batch this process computes, and how many go through the model at a time.

One process takes the batch as it is, in parts of the micro-batch. Of several, each takes a part of every micro-batch, so
that the draws that are made for a micro-batch are the same however many processes there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from torch.nn.modules.batchnorm import _BatchNorm

from nsbench import processes
from nsbench.errors import UsageError
from nsbench.models import Model
from nsbench.training.recipe import Recipe

LEAST = 2  # images of a process at a time: with one, a draw for it could not be told from a draw for all


@dataclass(frozen=True)
class Piece:
    """Images that go through the model together."""

    rows: slice  # of this process's images
    place: slice  # where they are among those of all processes
    whole: int  # how many these are

    @property
    def own(self) -> int:
        return int(self.rows.stop) - int(self.rows.start)


_present: ContextVar[Piece | None] = ContextVar("present", default=None)


@contextmanager
def at_work(piece: Piece) -> Iterator[None]:
    """Inside, `present` is this piece."""
    token = _present.set(piece)
    try:
        yield
    finally:
        _present.reset(token)


def present() -> Piece | None:
    """What goes through the model now; None with one process."""
    return _present.get()


def rounded(amount: float, piece: Piece | None) -> int:
    """A share of images as a whole number. For a piece, the first process counts what all have, rounded as in one."""
    if piece is None:
        return round(amount)
    return round(amount * piece.whole / piece.own) if processes.number() == 0 else 0


def require_shareable(model: Model, recipe: Recipe) -> None:
    """Raises UsageError for a training whose steps are not sums over images that several processes can share."""
    if processes.count() == 1:
        return
    _together(recipe)
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise UsageError(
            f"model '{model.name}' has batch norm, whose statistics are those of a whole batch; train it in one process"
        )
    if recipe.compile:
        raise UsageError(
            "a compiled model is trained in one process, since its draws cannot be shared: --set compile=false"
        )


def require_same_weights(model: Model) -> None:
    """Raises NsbenchError where the weights of the processes have come apart."""
    if processes.count() > 1:
        sums = [parameter.detach().double().sum().item() for parameter in model.parameters()]
        processes.agree(sums, "the weights differ")


def own_rows(recipe: Recipe) -> np.ndarray:
    """The images of a step's batch that fall to this process; raises UsageError where they are too few."""
    rows = np.arange(recipe.batch_size)
    if processes.count() == 1:
        return rows
    return np.concatenate([rows[start:][processes.share(length)] for start, length in _together(recipe)])


def pieces(recipe: Recipe, images: int, micro_batch: int) -> list[Piece]:
    """Of a step in which `images` are this process's, and `micro_batch` of all processes fit into memory at a time.

    Raises MemoryError where memory leaves too few images to each process.
    """
    if processes.count() == 1:
        starts = range(0, images, micro_batch)
        ends = [min(start + micro_batch, images) for start in starts]
        return [Piece(slice(a, b), slice(0, b - a), b - a) for a, b in zip(starts, ends, strict=True)]
    found, at = [], 0
    parts = -(-min(recipe.micro_batch or recipe.batch_size, recipe.batch_size) // micro_batch)
    for _, length in _together(recipe):
        sizes = [_length(length, number, processes.count()) for number in range(processes.count())]
        if parts > 1 and min(sizes) // parts < LEAST:
            raise MemoryError(
                f"{LEAST} images at a time in each of {processes.count()} processes do not fit into memory"
            )
        for part in range(parts):
            lengths = [_length(size, part, parts) for size in sizes]
            ends = list(accumulate(lengths))
            own, end = lengths[processes.number()], ends[processes.number()]
            found.append(Piece(slice(at, at + own), slice(end - own, end), ends[-1]))
            at += own
    return found


def _length(of: int, number: int, among: int) -> int:
    part = processes.share(of, number, among)
    return int(part.stop) - int(part.start)


def _together(recipe: Recipe) -> list[tuple[int, int]]:
    """Start and length of the micro-batches that the recipe cuts a batch into."""
    size = min(recipe.micro_batch or recipe.batch_size, recipe.batch_size)
    found = [(start, min(size, recipe.batch_size - start)) for start in range(0, recipe.batch_size, size)]
    if min(length for _, length in found) // processes.count() < LEAST:
        raise UsageError(
            f"{min(length for _, length in found)} images at a time and {processes.count()} processes: each takes at least "
            f"{LEAST}; start fewer processes, or give a larger batch_size or micro_batch, a divisor of it"
        )
    return found
