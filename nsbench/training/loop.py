"""The one finetuning loop (Algorithm 1 of arXiv 2403.10476): rounds of one noise and some training steps with it.

Every method of a comparison runs it with the same recipe, hence the same images, augmentation, optimiser, schedule
and number of steps. Without a noise it is the matched control. The loss with a noise is L(clean) + L(noisy), equal
weight (line 19), and L(clean) without: about twice as large, which moves AdamW's steps hardly at all, because they
do not depend on the scale of the gradient (up to its eps of 1e-8) and its weight decay is decoupled from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from timm.layers import DropPath
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.nn.functional import cross_entropy

from nsbench.data import Split
from nsbench.data.loading import Batch, batches
from nsbench.errors import TrainingError, UsageError
from nsbench.models import Model
from nsbench.nullspace import LearntNoise, noise_influence
from nsbench.progress import SILENT, Progress
from nsbench.randomness import derive_seed
from nsbench.training.augment import Augmented, erase, mix, seeded
from nsbench.training.recipe import Recipe

Perturb = Callable[[Model, torch.Tensor, int], LearntNoise | torch.Tensor | None]


def finetune(model: Model, train: Split, recipe: Recipe, *, perturb: Perturb | None = None,
             progress: Progress = SILENT, workers: int = 0) -> Model:
    """A finetuned copy of `model`; `model` itself is not changed. Raises TrainingError where the loss becomes NaN.

    `perturb(model, images_BCHW, round)` gives the noise of a round, as a tensor (1, N, D) or as it was learnt, from
    `noise_batches` x `noise_batch` training images that are drawn apart from those of the steps. `history` of the copy
    has one entry per round.
    """
    model = deepcopy(model).requires_grad_(True)
    model.history = []
    images = _stream(model, train, recipe, "training", recipe.steps, recipe.batch_size, workers)
    noise_images = _stream(model, train, recipe, "noise", recipe.rounds * (recipe.noise_batches + 1),
                           recipe.noise_batch, workers)
    optimiser, scheduler = _optimiser(model, recipe)
    with _drop_path(model, recipe.drop_path), progress.task("training", recipe.steps, unit="steps") as advance:
        for round in range(recipe.rounds):
            start = time.perf_counter()
            advance(0, note=f"round {round + 1}/{recipe.rounds}: noise")
            noise, facts = _noise(model, perturb, noise_images, recipe, round)
            noise_seconds = time.perf_counter() - start
            losses, lr = [], 0.0
            for step in range(round * recipe.steps_per_round, (round + 1) * recipe.steps_per_round):
                lr = optimiser.param_groups[0]["lr"]
                losses.append(_step(model, next(images), noise, recipe, step, optimiser))
                if scheduler:
                    scheduler.step_update(step + 1)
                advance(1, note=f"round {round + 1}/{recipe.rounds}")
            model.history.append({
                "round": round + 1, "step": (round + 1) * recipe.steps_per_round, **_mean_losses(losses, round, recipe),
                "lr": lr, **facts, "noise_seconds": noise_seconds, "seconds": time.perf_counter() - start})
    return model.eval()


def _stream(model: Model, train: Split, recipe: Recipe, name: str, count: int, size: int,
            workers: int) -> Iterator[Batch]:
    """`count` batches of augmented images."""
    split = Augmented(train, recipe, model, stream=name, length=count * size)
    return batches(split, model.preprocessing.transform("none"), batch_size=size, workers=workers)


def _noise(model: Model, perturb: Perturb | None, images: Iterator[Batch], recipe: Recipe,
           round: int) -> tuple[torch.Tensor | None, dict[str, float]]:
    """This round's noise, and what the history tells about it."""
    if perturb is None:
        return None, {}
    with seeded(derive_seed(recipe.seed, "noise", "erase", round), model.device):
        parts = [erase(_pixels(next(images), model), recipe, model) for _ in range(recipe.noise_batches + 1)]
    learnt = perturb(model, torch.cat(parts[:-1]), round)
    if learnt is None:
        return None, {}
    noise_1ND = learnt if isinstance(learnt, torch.Tensor) else learnt.noise_1ND
    facts = {"noise_norm": noise_1ND.norm().item(),
             "mse_probability_held_out": noise_influence(model, parts[-1], noise_1ND)}
    if isinstance(learnt, LearntNoise):
        facts |= {"noise_steps": learnt.steps, "noise_converged": learnt.converged,
                  "mse_probability": learnt.mse_probability}
    return noise_1ND, facts


def _step(model: Model, batch: Batch, noise: torch.Tensor | None, recipe: Recipe, step: int,
          optimiser: torch.optim.Optimizer) -> torch.Tensor:
    """One update; the clean and the noisy loss (NaN without noise), left on the device."""
    model.train()
    with seeded(derive_seed(recipe.seed, "training", "step", step), model.device):
        images = erase(_pixels(batch, model), recipe, model)
        images, targets = mix(images, batch.labels.to(model.device), recipe, model.num_classes)
        smoothing = 0.0 if targets.is_floating_point() else recipe.label_smoothing  # soft targets are smooth already
        if noise is None:
            losses = [cross_entropy(model(images), targets, label_smoothing=smoothing)]
        else:
            tokens_BND = model.embed(images)
            losses = [cross_entropy(model.head(model.encode(tokens)), targets, label_smoothing=smoothing)
                      for tokens in (tokens_BND, tokens_BND + noise)]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    return torch.stack(losses).detach()


def _pixels(batch: Batch, model: Model) -> torch.Tensor:
    """Images (B, 3, H, W) in [0, 1] on the model's device."""
    return batch.images.to(model.device, non_blocking=True).float() / 255


def _mean_losses(losses: list[torch.Tensor], round: int, recipe: Recipe) -> dict[str, float]:
    """Means over a round's steps. Looked at once a round: a look at every step would make a GPU wait."""
    table = torch.stack(losses).cpu()
    broken = (~table.isfinite()).any(dim=1)
    if broken.any():
        step = int(broken.nonzero()[0])
        raise TrainingError(f"the loss became NaN or infinite in round {round + 1} of {recipe.rounds}, step {step + 1} "
                            f"of {recipe.steps_per_round}; lower the recipe's lr ({recipe.lr:g})")
    return dict(zip(("loss_clean", "loss_noisy"), table.double().mean(dim=0).tolist(), strict=False))


def _optimiser(model: nn.Module, recipe: Recipe) -> tuple[torch.optim.Optimizer, CosineLRScheduler | None]:
    """AdamW, without weight decay on biases and other 1-d parameters; timm's cosine from lr to min_lr, step by step."""
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
              {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr)
    if recipe.schedule == "constant" and not recipe.warmup_steps:
        return optimiser, None
    return optimiser, CosineLRScheduler(
        optimiser, t_initial=recipe.steps, lr_min=recipe.min_lr if recipe.schedule == "cosine" else recipe.lr,
        warmup_t=recipe.warmup_steps, warmup_lr_init=recipe.min_lr, t_in_epochs=False)


@contextmanager
def _drop_path(model: Model, rate: float) -> Iterator[None]:
    """Stochastic depth while training: block i of L drops its branches with probability rate * i / (L - 1)."""
    blocks = list(getattr(model.vit, "blocks", []))
    before = [(block, name, module) for block in blocks for name, module in block.named_children()
              if name.startswith("drop_path")]
    if rate and not before:
        raise UsageError(f"model '{model.name}' has no blocks with drop path; use a recipe with drop_path = 0")
    if rate:
        for block, name, _ in before:
            setattr(block, name, DropPath(rate * blocks.index(block) / max(len(blocks) - 1, 1)))
    try:
        yield
    finally:
        for block, name, module in before:
            setattr(block, name, module)
