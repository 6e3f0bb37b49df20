"""One step of the optimiser: the gradient of a method's losses on a batch, in parts where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

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
    """One update; where memory is short, again with half as many images at a time, which give the same gradient.

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
                    found = {
                        name: loss * (len(part) / recipe.batch_size)
                        for name, loss in losses(model, part, wanted, criterion, *others).items()
                    }
                torch.stack(list(found.values())).sum().backward()
            sums = {name: sums.get(name, 0.0) + loss.detach() for name, loss in found.items()}
        require_same_draws(model.device)
    return sums


def mean_losses(found: list[dict[str, torch.Tensor]], state: State, checkpoint: Path | None) -> dict[str, float]:
    """Means over a round's steps. Looked at once a round: a look at every step would make a GPU wait."""
    names = list(found[0])
    table = torch.stack([torch.stack([losses[name] for name in names]) for losses in found]).cpu()
    broken = (~table.isfinite()).any(dim=1)
    if broken.any():
        kept = f"; the weights after round {state.round} are in {checkpoint}" if checkpoint and state.round else ""
        raise TrainingError(
            f"the loss became NaN or infinite in round {state.round + 1}, step "
            f"{int(broken.nonzero()[0]) + 1} of {len(found)}; lower the recipe's lr "
            f"({state.recipe.lr:g}): --set lr={state.recipe.lr / 10:g}{kept}"
        )
    return {name: mean for name, mean in zip(names, table.double().mean(dim=0).tolist(), strict=True)}
