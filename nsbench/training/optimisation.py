"""What moves the weights: AdamW on a cosine, averaged weights, stochastic depth, and the arithmetic of a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from timm.layers import DropPath
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from nsbench.errors import UsageError
from nsbench.models import Model
from nsbench.nullspace.layers import blocks_of
from nsbench.training.recipe import Recipe


def optimiser_of(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW, without weight decay on biases and other 1-d parameters."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr)


def schedule_of(optimiser: torch.optim.Optimizer, recipe: Recipe) -> CosineLRScheduler | None:
    """timm's cosine from lr to min_lr, with a linear warm-up; None where the learning rate does not move."""
    if recipe.schedule == "constant" and not recipe.warmup_steps:
        return None
    return CosineLRScheduler(
        optimiser,
        t_initial=recipe.steps,
        lr_min=recipe.min_lr if recipe.schedule == "cosine" else recipe.lr,
        warmup_t=recipe.warmup_steps,
        warmup_lr_init=recipe.min_lr,
        t_in_epochs=False,
    )


def averaged(model: Model, recipe: Recipe) -> ModelEmaV3 | None:
    """The moving average of the weights, by timm; None where the recipe wants the last ones."""
    if not 0 <= recipe.ema < 1:  # a method may set it
        raise UsageError(f"ema {recipe.ema:g} is no decay of averaged weights; give 0 (the last ones) to below 1")
    return ModelEmaV3(model, decay=recipe.ema) if recipe.ema else None


@contextmanager
def drop_path(model: Model, rate: float) -> Iterator[None]:
    """Stochastic depth while training: block i of L drops its branches with probability rate * i / (L - 1)."""
    blocks = blocks_of(model.vit)
    before = [
        (block, name, module)
        for block in blocks
        for name, module in block.named_children()
        if name.startswith("drop_path")
    ]
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


@contextmanager
def compiled(model: Model, wanted: bool) -> Iterator[None]:
    """`vit.forward_features` by torch.compile, and as it was afterwards: copies of the model are not compiled."""
    if not wanted:
        yield
        return
    model.vit.forward_features = torch.compile(model.vit.forward_features)
    try:
        yield
    finally:
        del model.vit.forward_features


def autocast(model: Model, recipe: Recipe) -> AbstractContextManager[object]:
    """The recipe's precision, for the forward passes of a training step."""
    if recipe.precision == "float32":
        return nullcontext()
    return torch.autocast(model.device.type, dtype=getattr(torch, recipe.precision))


def laid_out(images_BCHW: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Channels last for half-precision convolutions on a GPU, whose kernels read them so; as they are elsewhere."""
    wanted = images_BCHW.is_cuda and recipe.precision != "float32"
    return images_BCHW.contiguous(memory_format=torch.channels_last) if wanted else images_BCHW
