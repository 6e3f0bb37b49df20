"""A batch of images of which each has a state of its own, so that they enter and leave it at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from nsbench.attacks.common import take


class Rows(Protocol):
    """A frozen dataclass of tensors, a row for each image at work: which image it is, which of its runs, ..."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def image(self) -> Tensor: ...

    @property
    def run(self) -> Tensor: ...


AnyRows = TypeVar("AnyRows", bound=Rows)


def refill(
    images: int,
    runs: int,
    batch_size: int | None,
    start: Callable[[Sequence[tuple[int, int]]], AnyRows],
    look: Callable[[AnyRows], tuple[AnyRows, Tensor, Tensor]],
    move: Callable[[AnyRows], AnyRows],
) -> None:
    """Take every image through its `runs`, one after the other, until one breaks it; `batch_size` images at a time.

    `start(jobs)` gives the rows of these (image, run); `look(rows)` sends them through the model and says which stay
    and which of the others are broken; `move(rows)` takes those that stay one step on. When an image leaves, the next
    waiting one takes its place; one that leaves unbroken with runs to go waits again, last.
    """
    waiting = deque((i, 0) for i in range(images) if runs > 0)
    if not waiting:
        return
    rows = start(take(waiting, batch_size))
    while len(rows.image):
        rows, stays_B, broken_B = look(rows)
        over = (~stays_B & ~broken_B).nonzero().squeeze(1)
        jobs = zip(rows.image[over].tolist(), rows.run[over].tolist(), strict=True)
        waiting.extend((i, run + 1) for i, run in jobs if run + 1 < runs)
        rows = rows if stays_B.all() else _kept(rows, stays_B)
        if len(rows.image):
            rows = move(rows)
        if fresh := take(waiting, batch_size, len(rows.image)):
            rows = _joined(rows, start(fresh))


def _kept(rows: AnyRows, stays_B: Tensor) -> AnyRows:
    return _each(rows, lambda name: getattr(rows, name)[stays_B])


def _joined(rows: AnyRows, others: AnyRows) -> AnyRows:
    return _each(rows, lambda name: torch.cat([getattr(rows, name), getattr(others, name)]))


def _each(rows: AnyRows, value: Callable[[str], Tensor]) -> AnyRows:
    return replace(rows, **{field.name: value(field.name) for field in fields(rows)})
