"""Training that survives: everything that the next round needs, on disk after each round.

Draws are functions of (seed, step, image id) and the position in the data is the step, so there is no random state to
keep: weights, optimiser, averaged weights, history and cost are all. A run that goes on from a checkpoint ends with
the weights of an uninterrupted one, bit for bit on one CPU with the same number of threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

from nsbench.errors import TrainingError
from nsbench.files import OTHER_CACHE, open_atomically, open_regular, writing
from nsbench.models import Model
from nsbench.results import Round
from nsbench.training.cost import TrainingCost
from nsbench.training.optimisation import averaged, optimiser_of, schedule_of
from nsbench.training.recipe import Recipe

_ROUNDS = TypeAdapter(list[Round])
FORMAT = 4  # of the checkpoint; one of another format is not gone on from


@dataclass(frozen=True)
class Trained:
    """What a training gives: the model, and what each of its rounds did."""

    model: Model
    history: tuple[Round, ...] = ()


@dataclass
class State:
    """A training in progress."""

    model: Model
    recipe: Recipe
    optimiser: torch.optim.AdamW
    scheduler: CosineLRScheduler | None
    ema: ModelEmaV3 | None
    cost: TrainingCost = field(default_factory=TrainingCost)
    history: list[Round] = field(default_factory=list)  # one entry per finished round
    round: int = 0  # rounds that are finished
    step: int = 0  # steps that are finished
    micro_batch: int = 0  # images per forward pass: the recipe's, or what fitted into memory
    draws: bool = False  # whether torch's generators have moved in a step, or may move in a method's own losses
    noise: torch.Tensor | None = None  # (1, N, D) of the last round, where the next one begins from it
    begins: str = ""  # digest of what it started from, and of what the method brings: see training/calls.py

    @classmethod
    def fresh(cls, model: Model, recipe: Recipe, begins: str = "") -> State:
        optimiser = optimiser_of(model, recipe)
        return cls(
            model,
            recipe,
            optimiser,
            schedule_of(optimiser, recipe),
            averaged(model, recipe),
            micro_batch=min(recipe.micro_batch or recipe.batch_size, recipe.batch_size),
            begins=begins,
        )

    @property
    def finished(self) -> bool:
        if self.recipe.compute:
            return self.cost.forward_equivalents >= self.recipe.compute
        return self.round >= self.recipe.rounds

    @property
    def position(self) -> float:
        """Where the schedule stands, in steps: as far as the steps are, or the cost where the recipe bounds that."""
        if self.recipe.compute:
            return self.recipe.steps * self.cost.forward_equivalents / self.recipe.compute
        return self.step

    @property
    def fitted(self) -> Model:
        """What the training gives back: the averaged weights where there are some, else the last ones."""
        return self.ema.module if self.ema else self.model

    @property
    def lr(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def set_lr(self, lr: float | None) -> None:
        """The learning rate of the next step; None: the schedule's."""
        if lr is None and self.scheduler:
            self.scheduler.step_update(self.position)
            return
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.lr if lr is None else lr

    def save(self, path: Path) -> None:
        """Whole or not at all. Raises TrainingError naming the path and the reason."""
        refusals = (OSError, RuntimeError)  # torch's writer raises RuntimeError on a full disk
        what = f"cannot keep the checkpoint of round {self.round}"
        with writing(path, TrainingError, OTHER_CACHE, refusals, what), open_atomically(path) as file:
            record = self._record()
            torch.save(record | {"digest": _digest(record)}, file)

    def load(self, path: Path) -> str:
        """Go on from a checkpoint of this training. Returns "", or in a line why there is nothing to go on from.

        What was read is compared with the digest that was kept with it before anything of it is taken.
        """
        if not path.exists():
            return "nothing was kept"
        try:
            with open_regular(path) as file:
                record = torch.load(file, map_location="cpu", weights_only=True)
            if record.get("format") != FORMAT or record["recipe"] != self.recipe.digest():
                return f"{path}: is of another version or recipe; the training starts anew"
            if record["begins"] != self.begins:
                return f"{path}: is of a training of other weights or another loss; the training starts anew"
            if record.pop("digest") != _digest(record):
                raise ValueError("its content differs from its digest")
            self._restore(record)
        except Exception as error:  # noqa: BLE001  torch's reader lets through whatever it meets in a damaged file
            why = (str(error).splitlines() or [type(error).__name__])[0][:120]
            return f"{path}: is no checkpoint that training can go on from ({why}); the training starts anew"
        return ""

    def _restore(self, record: dict[str, Any]) -> None:
        self.model.load_timm_state_dict(record["model"])
        self.optimiser.load_state_dict(record["optimiser"])
        if self.ema:
            self.ema.module.load_timm_state_dict(record["ema"])
        self.cost, self.history = TrainingCost(**record["cost"]), _ROUNDS.validate_python(record["history"])
        self.round, self.step, self.micro_batch = record["round"], record["step"], record["micro_batch"]
        self.noise = record["noise"]
        if self.scheduler:
            self.scheduler.step_update(self.position)

    def _record(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "recipe": self.recipe.digest(),
            "begins": self.begins,
            "model": self.model.timm_state_dict(),
            "ema": self.ema.module.timm_state_dict() if self.ema else None,
            "optimiser": self.optimiser.state_dict(),
            "cost": asdict(self.cost),
            "history": [asdict(entry) for entry in self.history],
            "round": self.round,
            "step": self.step,
            "micro_batch": self.micro_batch,
            "noise": self.noise,
        }


def _digest(value: object) -> str:
    """64 hex digits over a checkpoint: names, numbers, and types, shapes and bytes of tensors, in their order."""
    digest = hashlib.sha256()
    _feed(value, digest.update)
    return digest.hexdigest()


def _feed(value: object, update: Callable[[bytes | memoryview], None]) -> None:
    if isinstance(value, torch.Tensor):
        update(f"\x1f{value.dtype} {tuple(value.shape)}".encode())
        update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        update(f"\x1fmapping {len(value)}".encode())
        for key, item in value.items():
            _feed(key, update)
            _feed(item, update)
    elif isinstance(value, list | tuple):
        update(f"\x1flist {len(value)}".encode())
        for item in value:
            _feed(item, update)
    else:
        update(f"\x1f{type(value).__name__} {value!r}".encode())
