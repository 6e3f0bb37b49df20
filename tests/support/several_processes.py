"""What several processes do in the tests: trainings and evaluations of a tiny model in float64. torchrun starts it.

torchrun --nproc-per-node N tests/support/several_processes.py FILE TASK ...

Process 0 writes to FILE what each task gave; the tests compare it with what one process gives.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from training_reference import Pictures, recipe, tiny_model

import nsbench as nb
from nsbench import processes, registry
from nsbench.errors import CorruptImage, NsbenchError, TrainingError
from nsbench.models import Model
from nsbench.run.evaluate import evaluate
from nsbench.run.known import Memory
from nsbench.training import Trained, finetune

STEPS = {"rounds": 2, "steps_per_round": 2, "batch_size": 8}
AUGMENTED = {"crop_scale": (0.3, 1.0), "crop_ratio": (0.75, 1.33), "flip": 0.5, "random_erasing": 0.5, "drop_path": 0.3}
NOISE = {
    "noise_batch": 5,
    "noise_batches": 0,
    "noise_held_out": 7,
    "noise_max_steps": 12,
    "epsilon": 0.05,
    "noise_lr": 0.3,
}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "finetune": ("finetune", AUGMENTED),
    "micro_batch": ("finetune", AUGMENTED | {"micro_batch": 6, "batch_size": 12}),
    "compute": ("finetune", AUGMENTED | {"compute": 100.0}),
    "averaged": ("finetune", {"ema": 0.5, "label_smoothing": 0.1}),
    "mixed": ("finetune", AUGMENTED | {"mixup": 0.8, "cutmix": 1.0}),
    "ns": ("ns", AUGMENTED | NOISE),
    "ns_held_out": ("ns", NOISE | {"noise_stop": "held-out"}),
    "random_noise": ("random_noise", NOISE | {"noise_batches": 60}),
    "madry": ("madry", AUGMENTED | {"attack_steps": 2}),
    "trades": ("trades", {"attack_steps": 2}),
    "sam": ("sam", AUGMENTED),
    "pr": ("pr", AUGMENTED),
    "augmix": ("augmix", AUGMENTED),
}


def trained(task: str) -> dict[str, Any]:
    """Weights and history of a training."""
    registry.load_content()
    method, fields = TASKS[task]
    model = tiny_model(4 if method == "pr" else 8).double()
    fitted = registry.methods[method].fit(model, Pictures(20), recipe(**(STEPS | fields)))
    assert isinstance(fitted, Trained)
    return {
        "weights": fitted.model.timm_state_dict(),
        "losses": [dict(entry.losses) for entry in fitted.history],
        "cost": [entry.forward_equivalents for entry in fitted.history],
        "noise": [asdict(entry.noise) for entry in fitted.history if entry.noise],
    }


def refused(task: str) -> dict[str, Any]:
    """What a training says that several processes cannot share, or that fails in one of them."""

    def permuted(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        return {"clean": criterion(model(images), targets[torch.randperm(len(targets))])}

    def broken(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        loss = criterion(model(images), targets)
        return {"clean": loss * float("nan") if processes.number() == 1 else loss}

    def raising(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        if processes.number() == 1:
            raise TrainingError("planted in the second process")
        return {"clean": criterion(model(images), targets)}

    def odd(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        torch.rand(processes.number() + 1)  # an amount that is another one in each process
        return {"clean": criterion(model(images), targets)}

    def unsendable(
        model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any
    ) -> dict[str, torch.Tensor]:
        class Local(ValueError):  # a class that cannot be pickled
            def __str__(self) -> str:
                return "of a class of this file"

        if processes.number() == 1:
            raise Local
        return {"clean": criterion(model(images), targets)}

    def terms(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        return {f"clean{processes.number()}": criterion(model(images), targets)}

    def each(model: Model, images: Any, round: int) -> torch.Tensor:
        tokens = model.embed(images.held_out[:1])
        return tokens.new_full(tokens.shape, processes.number())

    def drawn(model: Model, images: Any, round: int) -> torch.Tensor:
        return torch.rand_like(model.embed(images.held_out[:1]))

    perturb = {"noise of each": each, "noise": drawn}.get(task)
    found = [permuted, broken, raising, odd, unsendable, terms]
    losses = {one.__name__: one for one in found}.get(task)
    fields = {"batch_size": 3} if task == "too few" else {"compile": True} if task == "compile" else {}
    try:
        with processes.section():
            own = finetune(
                tiny_model().double(), Pictures(20), recipe(**(STEPS | fields)), losses=losses, perturb=perturb
            )
    except (NsbenchError, RuntimeError, ValueError) as error:
        return {"said": processes.gathered(f"{type(error).__name__}: {error}")}
    return {"said": ["nothing"], "norms": [one.noise.norm for one in own.history if one.noise]}


def short_of_memory() -> dict[str, Any]:
    """A training in which the second process has no room for more than two images at a time."""

    def losses(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        if len(images) > 2 and processes.number() == processes.count() - 1:
            raise MemoryError
        return {"clean": criterion(model(images), targets)}

    fitted = finetune(tiny_model().double(), Pictures(20), recipe(**STEPS), losses=losses)
    return {"weights": fitted.model.timm_state_dict(), "micro_batch": [one.micro_batch for one in fitted.history]}


class OneBroken(Pictures):
    """Of which one cannot be read: the last of all, which falls to the last process."""

    def load(self, index: int) -> Image.Image:
        if index == len(self.ids) - 1:
            raise CorruptImage(f"{self.ids[index]} cannot be decoded")
        return super().load(index)


def evaluated() -> dict[str, Any]:
    """Outcomes, cards and pictures of conditions of one model, which share what is known of the clean images."""
    registry.load_content()
    model, memory, found = tiny_model(), Memory(), {}
    split = OneBroken(23)
    with torch.no_grad():  # labels that it has right of every third image, so that there is something to attack
        pixels = torch.from_numpy(split.pixels).permute(0, 3, 1, 2).float() / 255
        split.labels = (model.eval()(pixels).argmax(dim=1).numpy() + (np.arange(23) % 3 == 0)) % 5
    for attack in (None, "pgd", "fgsm", "cw"):
        threat = nb.ThreatModel("l2") if attack == "cw" else nb.ThreatModel("linf", 4 / 255) if attack else None
        one = evaluate(
            model,
            split,
            nb.Condition(attack or "clean", "train", attack=attack, threat=threat),
            batch_size=4,
            leave_out=True,
            pictures=3,
            memory=memory,
        )
        card = replace(one.attack_card, seconds=0.0) if one.attack_card else None
        found[attack or "clean"] = (one.outcomes, dict(one.unreadable), card, one.samples, one.outputs)
    return found


def main(file: Path, tasks: list[str]) -> None:
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with processes.joined("cpu"):
        for task in tasks:
            if task in TASKS:
                found[task] = trained(task)
            elif task == "evaluate":
                found[task] = evaluated()
            elif task == "memory":
                found[task] = short_of_memory()
            else:
                found[task] = refused(task)
        if processes.number() == 0:
            torch.save(found | {"processes": processes.count()}, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
