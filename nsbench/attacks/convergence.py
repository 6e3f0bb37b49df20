"""How far an attack got at the images that it does not break: what it tells whoever listens.

An attack returns images and nothing else, so a figure that its settings gave looks like one that the model earned.
One that minimises a loss tells here what became of it; the harness listens and keeps it in the attack card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nsbench.results.record import Convergence

LATE = 10  # the last steps are one of so many parts
FALLING = 0.01  # share of a loss by which it still falls

_listener: ContextVar[Callable[[Tensor, Tensor], None] | None] = ContextVar("listener", default=None)


@dataclass
class Descent:
    """The loss and the label's margin of B images at the first step, before the last steps, and at the last."""

    steps: int
    losses: dict[str, Tensor] = field(default_factory=dict)  # "first", "late", "last": (B,)
    margins: dict[str, Tensor] = field(default_factory=dict)

    def look(self, step: int, at: Tensor, loss_B: Tensor, margin_B: Tensor, images: int) -> None:
        """Keep what is wanted of one step; `at`: which of so many images these are."""
        late = self.steps - 1 - max(1, self.steps // LATE)
        for name in (
            name for name, wanted in (("first", 0), ("late", late), ("last", self.steps - 1)) if step == wanted
        ):
            for kept, values in ((self.losses, loss_B), (self.margins, margin_B)):
                kept.setdefault(name, values.new_full((images,), torch.nan))[at] = values

    def tell(self, unbroken_B: Tensor) -> None:
        """Tell the listener, where there is one, how these images stood."""
        listen = _listener.get()
        if listen is None or {"first", "late", "last"} - set(self.losses) or not unbroken_B.any():
            return
        late, last = (self.losses[name][unbroken_B] for name in ("late", "last"))
        first, end = (self.margins[name][unbroken_B] for name in ("first", "last"))
        listen(late - last > FALLING * late.abs(), end / first)


@dataclass
class Endings:
    """What was told, of all batches of one condition."""

    falling: list[Tensor] = field(default_factory=list)  # (unbroken,) bool each
    margins: list[Tensor] = field(default_factory=list)  # (unbroken,) share that was left

    @contextmanager
    def heard(self) -> Iterator[None]:
        def listen(falling: Tensor, left: Tensor) -> None:
            self.falling.append(falling.cpu())
            self.margins.append(left.cpu())

        token = _listener.set(listen)
        try:
            yield
        finally:
            _listener.reset(token)

    @property
    def convergence(self) -> Convergence | None:
        """None where nothing was told: nothing stayed unbroken, or the attack does not tell."""
        if not self.falling:
            return None
        falling, left = torch.cat(self.falling), torch.cat(self.margins).double()
        known = left[left.isfinite()]
        mean = round(float(known.mean()), 4) if len(known) else None
        return Convergence(len(falling), int(falling.sum()), mean)
