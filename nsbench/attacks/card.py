"""The attack card: what an attack is, and what it cost, counted by the harness and not by the attack.

Every image that goes forward through the attacked model is counted, and every image whose input gradient comes
back: each forward pass gets its own view of its images, and a hook on that view sees each backward pass through it.
What an attack does beside the model's own call (to a surrogate, or to parts of the model) is not counted.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from nsbench import processes
from nsbench.attacks.convergence import Endings
from nsbench.results.record import AttackCard
from nsbench.types import Attack, Condition

OWN = "nsbench"  # the library of an attack that states none


@dataclass
class AttackCost:
    """Counts over all images that one condition attacked."""

    images: int = 0
    forwards: int = 0  # images that went through the model
    backwards: int = 0  # images whose gradient came back to the input
    seconds: float = 0.0
    looked_at: int = 0  # images whose first gradient was looked at
    zero_gradients: list[Tensor] = field(default_factory=list)  # how many of these were zero in every pixel
    endings: Endings = field(default_factory=Endings)  # what the attack told of its course

    def on_cpu(self) -> AttackCost:
        """The same counts, for another process."""
        return replace(self, zero_gradients=[count.cpu() for count in self.zero_gradients])

    @contextmanager
    def counted(self, model: nn.Module, images: int) -> Iterator[None]:
        """Count and time what the attack of so many images does to `model`."""
        self.images += images
        first = True

        def backward(grad_BCHW: Tensor) -> None:
            nonlocal first
            self.backwards += len(grad_BCHW)
            if first:  # later ones may be zero for good reasons: an image is broken, its loss is clipped
                first = False
                self.looked_at += len(grad_BCHW)
                self.zero_gradients.append((grad_BCHW.flatten(1) == 0).all(dim=1).sum())

        def forward(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            if not arguments:  # called by keyword: cannot be told apart from the model's other arguments
                return arguments
            images_BCHW, *others = arguments
            self.forwards += len(images_BCHW)
            if not (torch.is_grad_enabled() and images_BCHW.requires_grad):
                return arguments
            view = images_BCHW.view_as(images_BCHW)
            view.register_hook(backward)
            return (view, *others)

        hook = model.register_forward_pre_hook(forward)
        start = time.perf_counter()
        try:
            with self.endings.heard():
                yield
        finally:
            hook.remove()
            if torch.cuda.is_initialized():  # else nothing is on a GPU, and asking would start one
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - start


def of_all_processes(cost: AttackCost) -> AttackCost:
    """The counts of all processes, which attacked an image each time one of them did."""
    return together(processes.gathered(cost.on_cpu()))


def together(costs: Iterable[AttackCost]) -> AttackCost:
    """The counts of several parts of a condition's images."""
    all_of_them = AttackCost()
    for one in costs:
        all_of_them.images += one.images
        all_of_them.forwards += one.forwards
        all_of_them.backwards += one.backwards
        all_of_them.seconds += one.seconds
        all_of_them.looked_at += one.looked_at
        all_of_them.zero_gradients += one.zero_gradients
        all_of_them.endings.add(one.endings)
    return all_of_them


def import_library(attack: Attack) -> None:
    """Load what does an attack's work beforehand: importing it is no part of the attack's time."""
    name = attack.facts.library or OWN
    if find_spec(name) is not None:
        import_module(name)


def attack_card(attack: Attack, condition: Condition, cost: AttackCost) -> AttackCard:
    """What a result keeps: what is not known is None. Counts and seconds are means over attacked images.

    Settings are the condition's, else what the attack states, else the defaults of its signature.
    """
    stated = {name: value for name, value in vars(attack.facts).items() if value is not None}
    settings = {**_defaults(attack), **stated, **condition.params}
    start = settings.get("start")
    if start is None and "random_start" in settings:
        start = "random in the budget" if settings["random_start"] else "the image"
    each = max(cost.images, 1)
    return AttackCard(
        images=cost.images,
        forwards=round(cost.forwards / each, 3),
        backwards=round(cost.backwards / each, 3),
        seconds=round(cost.seconds / each, 6),
        zero_gradients=sum(int(count) for count in cost.zero_gradients),
        looked_at=cost.looked_at,
        library=_library(attack.facts.library or OWN),
        steps=_number(settings.get("steps")),
        restarts=_number(settings.get("restarts")),
        loss=_text(settings.get("loss")),
        start=_text(start),
        convergence=cost.endings.convergence,
        still_right=cost.endings.still_right,
    )


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _defaults(attack: Attack) -> Mapping[str, object]:
    """The settings that a condition leaves to the attack."""
    parameters = attack.parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _library(name: str) -> str:
    """Name and version of what does the work."""
    import nsbench

    if name == OWN:
        return f"nsbench {nsbench.__version__}"
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name
