"""One step of the optimiser: the gradient of a method's losses on a batch, in parts where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from timm.layers import DropPath
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from nsbench import processes
from nsbench.data.loading import Batch
from nsbench.errors import TrainingError
from nsbench.models import Model
from nsbench.models.memory import let_go, out_of_memory, too_large
from nsbench.randomness import derive_seed
from nsbench.training.ascent import ascended
from nsbench.training.augment import seeded
from nsbench.training.draws import Drawn, drawn_of, require_same_draws
from nsbench.training.noise import Perturb
from nsbench.training.optimisation import autocast
from nsbench.training.shares import pieces
from nsbench.training.state import State
from nsbench.training.trainable import Probe, training_mode
from nsbench.training.views import Views, shown

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits (B, K), targets (B,) or (B, K) -> batch mean
# losses(model, images_BCHW or images_BVCHW, targets, criterion) -> the terms whose sum a step descends, by name; with
# masks they are a fifth argument (B, 1, H, W). One with a parameter `done` is also given, by name, the share of the
# training that lies behind: 0 at the first step
Losses = Callable[..., Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Brought:
    """What a method brings: the arguments of `finetune` of these names."""

    perturb: Perturb | None
    losses: Losses | None
    noisy: Model  # what `perturb` is given: the model, cut at `layer`
    views: Views | None
    ascent: float | None
    probe: Probe | None

    def probing(self, state: State) -> bool:
        """Whether the round that comes trains the head alone."""
        return self.probe is not None and state.position < self.probe.share * state.recipe.steps


def take_step(state: State, batch: Batch, losses: Losses, brought: Brought) -> dict[str, torch.Tensor]:
    """One update; where memory is short, again with half as many images at a time (`gradient_of_parts`).

    The model and the loss with a noise, which keep nothing from one pass to the next, are taken to draw nothing among
    several processes until they do, and then the step is repeated too.
    """
    while True:
        try:
            with state.cost.of_all_processes():
                found = _update(state, batch, losses, brought)
            break
        except (RuntimeError, MemoryError) as error:
            if not _repeated(error):
                raise
            drawn = processes.gathered(isinstance(error, Drawn))  # one may have drawn while another was out of memory
            state.draws |= any(drawn)
            if all(drawn):
                continue
            if state.micro_batch == 1:
                raise TrainingError(str(too_large(error))) from error
        state.micro_batch = -(-state.micro_batch // 2)
        let_go()  # here, where the failed step's tensors are let go
    state.step += 1
    if state.ema:
        state.ema.update(state.model)
    if state.scheduler:
        state.scheduler.step_update(state.position)
    return found


def gradient_of_parts(model: Model) -> str:
    """What becomes of a step's gradient where fewer images go through the model at a time, in words."""
    if any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        return "whose batch statistics are those of fewer images: this is another training than with more memory"
    drops = any(isinstance(one, DropPath | _DropoutNd) and _rate(one) > 0 for one in model.modules())
    return (
        "which draw dropped paths of their own, and else give the same gradients"
        if drops
        else "which give the same gradients"
    )


def _rate(module: nn.Module) -> float:
    return float(getattr(module, "drop_prob", getattr(module, "p", 0.0)) or 0.0)


def _repeated(error: Exception) -> bool:
    """Whether the step is done again after it."""
    return isinstance(error, Drawn) or out_of_memory(error)


def _update(state: State, batch: Batch, losses: Losses, brought: Brought) -> dict[str, torch.Tensor]:
    """One step of the optimiser; the batch means of the losses, left on the device."""
    found = _gradient(state, batch, losses, brought.views)
    if brought.ascent is not None:
        with ascended(state.model, brought.ascent):
            worst = _gradient(state, batch, losses, brought.views)
        found |= {f"{name}_ascended": loss for name, loss in worst.items()}
    state.optimiser.step()
    return found


def _gradient(state: State, batch: Batch, losses: Losses, views: Views | None) -> dict[str, torch.Tensor]:
    """The gradient of a step's losses, and nothing else in `.grad`; every call for one step makes the same draws.

    Of several processes each adds what its own images give; afterwards all have the same.
    """
    with processes.section(_repeated):
        sums = _own_gradient(state, batch, losses, views)
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    processes.agree((list(sums), len(gradients)), "the terms of the loss, or the weights they reach, differ")
    processes.add_up([*gradients, *sums.values()])
    return sums


def _own_gradient(state: State, batch: Batch, losses: Losses, views: Views | None) -> dict[str, torch.Tensor]:
    """What this process's images give of the gradient and of the losses."""
    model, recipe = state.model, state.recipe
    training_mode(model)
    state.optimiser.zero_grad()
    sums: dict[str, torch.Tensor] = {}
    with seeded(derive_seed(recipe.seed, "training", "step", state.step), model.device):
        images, targets, more = shown(batch, recipe, model, views=views, step=state.step)
        smoothing = 0.0 if targets.is_floating_point() else recipe.label_smoothing  # soft targets are smooth already
        criterion = partial(cross_entropy, label_smoothing=smoothing)
        for piece in pieces(recipe, len(images), state.micro_batch):
            part, wanted, *others = (tensor[piece.rows] for tensor in (images, targets, *more))
            with drawn_of(piece, model.device, expected=state.draws):
                with autocast(model, recipe):
                    terms = _checked(losses(model, part, wanted, criterion, *others))
                    found = {name: loss * (len(part) / recipe.batch_size) for name, loss in terms.items()}
                torch.stack(list(found.values())).sum().backward()
            sums |= {name: sums.get(name, 0.0) + loss.detach() for name, loss in found.items()}
        require_same_draws(model.device)
    return sums


def _checked(terms: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """What a method's `losses` returned. Raises TrainingError for what cannot be descended."""
    if not isinstance(terms, Mapping) or not terms:
        raise TrainingError(
            f"losses returned {'no terms' if isinstance(terms, Mapping) else type(terms).__name__}: "
            'give the terms of the loss by name, such as {"clean": criterion(model(images), targets)}'
        )
    for name, loss in terms.items():
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise TrainingError(
                f"losses: the term '{name}' is {what}; give the mean over the images, a tensor of one number"
            )
    if not any(loss.requires_grad for loss in terms.values()):
        raise TrainingError(f"losses: no weight that is trained has a part in the terms {', '.join(map(str, terms))}")
    return terms


def mean_losses(found: list[dict[str, torch.Tensor]], state: State, checkpoint: Path | None) -> dict[str, float]:
    """Means over a round's steps, of each term over those that have it.

    Looked at once a round: a look at every step would make a GPU wait.
    """
    names = list(dict.fromkeys(name for losses in found for name in losses))
    there = torch.tensor([[name in losses for name in names] for losses in found])
    nothing = next(iter(found[0].values())).new_zeros(())
    table = torch.stack([torch.stack([losses.get(name, nothing) for name in names]) for losses in found]).cpu()
    broken = (~table.isfinite()).any(dim=1)
    if broken.any():
        kept = f"; the weights after round {state.round} are in {checkpoint}" if checkpoint and state.round else ""
        raise TrainingError(
            f"the loss became NaN or infinite in round {state.round + 1}, step "
            f"{int(broken.nonzero()[0]) + 1} of {len(found)}; lower the recipe's lr "
            f"({state.recipe.lr:g}): --set lr={state.recipe.lr / 10:g}{kept}"
        )
    means = [table[there[:, column], column].double().mean().item() for column in range(len(names))]
    return dict(zip(names, means, strict=True))
