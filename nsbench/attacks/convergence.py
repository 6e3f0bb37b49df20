"""How far an attack got, and how fast: what it tells whoever listens, beside the images that it returns.

An attack returns images and nothing else, so a figure that its settings gave looks like one that the model earned.
One that minimises a loss tells here what became of it, and with which iterate each image broke; the harness listens
and keeps both in the attack card. Neither costs a pass through the model or moves an iterate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nsbench.results.record import Convergence, StillRight

LATE = 10  # the last steps are one of so many parts
FALLING = 0.01  # share of a loss by which it still falls
NEVER = 2**62  # the iteration of the first misclassified iterate of an image that has none
MARKS = (1, 2, 5)  # times powers of ten: the iterations that the curve is kept at

_listener: ContextVar[Endings | None] = ContextVar("listener", default=None)


@dataclass
class Descent:
    """The loss and the label's margin of B images at the first step, before the last steps, and at the last."""

    steps: int
    losses: dict[str, Tensor] = field(default_factory=dict)  # "first", "late", "last": (B,)
    margins: dict[str, Tensor] = field(default_factory=dict)

    @property
    def late(self) -> int:
        """How many the last steps are."""
        return max(1, self.steps // LATE)

    def look(self, step: int | Tensor, at: Tensor, loss_B: Tensor, margin_B: Tensor, images: int) -> None:
        """Keep what is wanted of one step, or of each image's own; `at`: which of so many images these are."""
        late = self.steps - 1 - self.late
        for name, wanted in (("first", 0), ("late", late), ("last", self.steps - 1)):
            if isinstance(step, int) and step != wanted:
                continue
            for kept, values in ((self.losses, loss_B.detach()), (self.margins, margin_B.detach())):
                mine = kept.setdefault(name, values.new_full((images,), torch.nan))
                mine[at] = values if isinstance(step, int) else torch.where(step == wanted, values, mine[at])

    def tell(self, unbroken_B: Tensor) -> None:
        """Tell the listener, where there is one, how these images stood."""
        listener = _listener.get()
        looked_at = self.steps > 1 and not {"first", "late", "last"} - set(self.losses)
        if listener is None or not looked_at or not unbroken_B.any():
            return
        late, last = (self.losses[name][unbroken_B] for name in ("late", "last"))
        first, before, end = (self.margins[name][unbroken_B] for name in ("first", "late", "last"))
        listener.falling.append((late - last > FALLING * late.abs()).cpu())
        listener.margins.append((end / first).cpu())
        listener.near.append(((before - end) * (self.steps - 1) >= end * self.late).cpu())


class Breaking:
    """The iteration of each of B images' first misclassified iterate; iteration 0 is what the attack starts from."""

    def __init__(self, labels_B: Tensor) -> None:
        self.first_B = torch.full_like(labels_B, NEVER)

    def note(self, at: Tensor, broken_B: Tensor, iteration: int | Tensor) -> None:
        """Which of the images `at` are misclassified at this iteration, or each at its own."""
        self.first_B[at] = torch.where(broken_B, self.first_B[at].clamp_max(iteration), self.first_B[at])

    def tell(self, iterations: int) -> None:
        """Tell the listener, where there is one, of all images; there were so many iterations at most."""
        if listener := _listener.get():
            listener.first.append(self.first_B.cpu())
            listener.iterations = max(listener.iterations, iterations)


@dataclass
class Endings:
    """What was told, of all batches of one condition."""

    falling: list[Tensor] = field(default_factory=list)  # (unbroken,) bool each
    margins: list[Tensor] = field(default_factory=list)  # (unbroken,) share that was left
    near: list[Tensor] = field(default_factory=list)  # (unbroken,) bool: within reach of as many steps again
    first: list[Tensor] = field(default_factory=list)  # (attacked,) iteration of the first misclassified iterate
    iterations: int = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        token = _listener.set(self)
        try:
            yield
        finally:
            _listener.reset(token)

    def add(self, other: Endings) -> None:
        """Take in what was told of other images."""
        self.falling += other.falling
        self.margins += other.margins
        self.near += other.near
        self.first += other.first
        self.iterations = max(self.iterations, other.iterations)

    @property
    def convergence(self) -> Convergence | None:
        """None where nothing was told: nothing stayed unbroken, or the attack does not tell."""
        if not self.falling:
            return None
        falling, left = torch.cat(self.falling), torch.cat(self.margins).double()
        known = left[left.isfinite()]
        mean = round(float(known.mean()), 4) if len(known) else None
        return Convergence(len(falling), int(falling.sum()), mean, int(torch.cat(self.near).sum()))

    @property
    def still_right(self) -> tuple[StillRight, ...]:
        """Images that are unbroken after 0, 1, 2, 5, 10 ... iterations, half of them, and all; () if none was told."""
        if not self.first:
            return ()
        first = torch.cat(self.first)
        return tuple(StillRight(mark, int((first > mark).sum())) for mark in marks(self.iterations))


def marks(iterations: int) -> list[int]:
    """0, 1, 2, 5, 10 ... up to so many iterations, their half, and the last."""
    powers = [10**power for power in range(len(str(iterations)))]
    kept = {0, iterations // 2, iterations, *(mark * power for mark in MARKS for power in powers)}
    return sorted(mark for mark in kept if mark <= iterations)
