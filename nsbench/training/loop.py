"""The one finetuning loop (Algorithm 1 of arXiv 2403.10476): rounds of one noise and some training steps with it.

Every method of a comparison runs it with the same recipe, hence the same images, augmentation, optimiser, schedule
and number of steps. Without a noise it is the matched control. The loss with a noise is L(clean) + L(noisy), equal
weight (line 19), and L(clean) without: about twice as large, which moves AdamW's steps hardly at all, because they
do not depend on the scale of the gradient (up to its eps of 1e-8) and its weight decay is decoupled from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from nsbench.data import Split
from nsbench.data.loading import Batch, batches
from nsbench.errors import TrainingError, UsageError
from nsbench.models import Model, class_token_only
from nsbench.models.memory import let_go, out_of_memory, too_large
from nsbench.progress import SILENT, Advance, Fact, Progress, duration
from nsbench.randomness import derive_seed
from nsbench.results import Round
from nsbench.training.augment import Augmented, erase, mix, pixels, seeded
from nsbench.training.masked import Masked, mix_masked, with_masks
from nsbench.training.noise import Perturb, round_noise
from nsbench.training.optimisation import autocast, compiled, drop_path, laid_out
from nsbench.training.recipe import Recipe
from nsbench.training.state import State, Trained

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits (B, K), targets (B,) or (B, K) -> batch mean
# losses(model, images_BCHW, targets, criterion) -> the terms whose sum a step descends, by name; with masks they are
# a fifth argument (B, 1, H, W)
Losses = Callable[..., Mapping[str, torch.Tensor]]
Facts = Callable[[], Mapping[str, int | float | str]]  # called after every round: what the method tells of it
# called after every finished round with the model and the round; returns accuracies that it watched, by suite
OnRound = Callable[[Model, Round], Mapping[str, float]]


def finetune(
    model: Model,
    train: Split,
    recipe: Recipe,
    *,
    perturb: Perturb | None = None,
    losses: Losses | None = None,
    facts: Facts | None = None,
    masks: bool = False,
    progress: Progress = SILENT,
    workers: int = 0,
    checkpoint: Path | None = None,
    on_round: OnRound | None = None,
) -> Trained:
    """A finetuned copy of `model`, and its history; `model` itself is not changed.

    Raises TrainingError where the loss becomes NaN.

    A method brings one of two things. `perturb(model, images, round)` gives the noise of a round, which is trained
    with as the recipe's `outer` says. `losses(model, images_BCHW, targets, criterion)` gives the terms of a step's
    loss, such as {"adversarial": criterion(model(adversarial), targets)}; it is called in training mode, with draws
    of its own that move nobody else's. Without either this is the matched control. `facts()` is called after every
    round; what it returns stands in the history. With `masks`, `losses` gets the foreground of each image too, NaN where
    the source does not know it.

    `checkpoint` is a file that is written after each round, and that training goes on from where it is there.
    `on_round` is called after every finished round; accuracies that it returns become a part of the history.
    """
    if perturb and losses:
        raise UsageError("finetune takes `perturb` or `losses`, not both; chain two methods instead: first+second")
    state = _begun(model, recipe, checkpoint, progress)
    model = state.model
    total, unit = (round(recipe.compute), "forwards") if recipe.compute else (recipe.steps, "steps")
    with (
        drop_path(model, recipe.drop_path),
        compiled(model, recipe.compile),
        progress.task("training", total, unit=unit) as advance,
    ):
        advance(_moved(state, 0))
        images = _stream(state, train, workers, masks)
        while not state.finished:
            together = state.micro_batch
            with class_token_only(model), state.cost.counted(model):
                entry = _round(state, images, train, perturb, losses, workers, advance, checkpoint)
            entry = replace(entry, facts=dict(facts())) if facts else entry
            progress.event("round", _told(entry, recipe), _facts(entry))
            if state.micro_batch < together:
                fitting = f"went on with {state.micro_batch}, which give the same gradients"
                progress.line(f"{together} images at a time do not fit into memory; {fitting}", style="yellow")
            state.history.append(entry)
            try:
                if on_round:
                    state.history[-1] = replace(entry, accuracies=on_round(state.fitted.eval(), entry))
            except Exception:  # a look that failed costs no round; one that was interrupted is taken again, with it
                if checkpoint:
                    state.save(checkpoint)
                raise
            if checkpoint:
                state.save(checkpoint)
    return Trained(state.fitted.eval(), tuple(state.history))


def _told(entry: Round, recipe: Recipe) -> str:
    """A round in words."""
    losses = ", ".join(f"{name} {value:.3f}" for name, value in entry.losses.items())
    noise = f", noise norm {entry.noise.norm:.2f}" if entry.noise else ""
    outside = ", still outside ε" if entry.noise and entry.noise.converged is False else ""
    of = "" if recipe.compute else f"/{recipe.rounds}"
    return f"round {entry.round}{of}: loss {losses}{noise}{outside}, {duration(entry.seconds)}"


def _facts(entry: Round) -> dict[str, Fact]:
    """A round for the log file."""
    facts: dict[str, Fact] = {"round": entry.round, "step": entry.step, "lr": entry.lr, "seconds": entry.seconds}
    facts |= {f"loss_{name}": value for name, value in entry.losses.items()}
    if entry.noise:
        facts |= {"noise_norm": entry.noise.norm, "mse_probability": entry.noise.mse_probability}
        facts |= {"noise_steps": entry.noise.steps, "noise_converged": entry.noise.converged}
    facts |= dict(entry.facts)
    return facts


def _begun(model: Model, recipe: Recipe, checkpoint: Path | None, progress: Progress) -> State:
    """The training of a copy of `model` as the checkpoint has it, or from the beginning."""
    state = State.fresh(deepcopy(model).requires_grad_(True), recipe)
    if checkpoint and checkpoint.exists():
        why_not = state.load(checkpoint)
        progress.line(
            why_not or f"goes on after round {state.round}, from {checkpoint}", "yellow" if why_not else "dim"
        )
        if why_not:
            return State.fresh(deepcopy(model).requires_grad_(True), recipe)
    return state


def _round(
    state: State,
    images: Iterator[Batch],
    train: Split,
    perturb: Perturb | None,
    losses: Losses | None,
    workers: int,
    advance: Advance,
    checkpoint: Path | None,
) -> Round:
    """One noise and the steps with it; the round's entry in the history."""
    recipe, start, spent = state.recipe, time.perf_counter(), state.cost.forward_equivalents
    name = f"round {state.round + 1}" + ("" if recipe.compute else f"/{recipe.rounds}")
    noise, learnt = None, None
    if perturb:
        advance(0, note=f"{name}: noise")

        def watch(step: int, distance: float) -> None:
            advance(0, note=f"{name}: noise, step {step}, {distance:.3f} of ε {recipe.epsilon:g}")

        noise, learnt = round_noise(state.model, perturb, train, recipe, state.round, workers, watch)
    noise_seconds = time.perf_counter() - start
    found, lr = [], state.lr
    for _ in range(recipe.steps_per_round):
        before, lr = state.position, state.lr
        found.append(_step(state, next(images), losses or noise_losses(noise, recipe.outer)))
        advance(_moved(state, before), note=name)
        if recipe.compute and state.finished:
            break
    means = _mean_losses(found, state, checkpoint)
    state.round += 1
    return Round(
        round=state.round,
        step=state.step,
        lr=lr,
        losses=means,
        noise=learnt,
        forward_equivalents=state.cost.forward_equivalents - spent,
        noise_seconds=noise_seconds,
        seconds=time.perf_counter() - start,
        micro_batch=state.micro_batch if state.micro_batch < recipe.batch_size else None,
    )


def _moved(state: State, before: float) -> int:
    """How far the progress bar goes on: steps, or forward passes where these are what ends the training."""
    unit = state.recipe.compute / state.recipe.steps if state.recipe.compute else 1
    return round((state.position - before) * unit)


def noise_losses(noise_1ND: torch.Tensor | None, outer: str = "clean+noisy") -> Losses:
    """Cross-entropy of the images and of the images with noise on their tokens; of the images alone without noise."""

    def losses(
        model: Model,
        images_BCHW: torch.Tensor,
        targets: torch.Tensor,
        criterion: Criterion,
    ) -> dict[str, torch.Tensor]:
        if noise_1ND is None:
            return {"clean": criterion(model(images_BCHW), targets)}
        tokens_BND = model.embed(images_BCHW)
        clean = {"clean": tokens_BND} if outer == "clean+noisy" else {}
        return {
            name: criterion(model.head(model.encode(tokens)), targets)
            for name, tokens in (clean | {"noisy": tokens_BND + noise_1ND}).items()
        }

    return losses


def _stream(state: State, train: Split, workers: int, masks: bool = False) -> Iterator[Batch]:
    """The training images from the present step on: the same at the same step for every method."""
    recipe = state.recipe
    steps = recipe.steps
    if recipe.compute:  # no step costs less than one forward and two backward passes
        steps = int(recipe.compute / (3 * recipe.batch_size)) + recipe.steps_per_round + 1
    kind = Masked if masks else Augmented
    split = kind(train, recipe, state.model, stream="training", length=steps * recipe.batch_size)
    stream = batches(
        split,
        state.model.preprocessing.transform("none"),
        batch_size=recipe.batch_size,
        workers=workers,
        indices=np.arange(state.step * recipe.batch_size, len(split)),
    )
    return with_masks(stream, split) if isinstance(split, Masked) else stream


def _step(state: State, batch: Batch, losses: Losses) -> dict[str, torch.Tensor]:
    """One update; where memory is short, again with half as many images at a time, which give the same gradient."""
    while True:
        try:
            found = _update(state, batch, losses)
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
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


def _update(state: State, batch: Batch, losses: Losses) -> dict[str, torch.Tensor]:
    """One step of the optimiser; the batch means of the losses, left on the device."""
    model, recipe = state.model, state.recipe
    model.train()
    state.optimiser.zero_grad()
    sums: dict[str, torch.Tensor] = {}
    with seeded(derive_seed(recipe.seed, "training", "step", state.step), model.device):
        images = erase(pixels(batch, model.device), recipe, model)
        labels, more = batch.labels.to(model.device), list[torch.Tensor]()
        if batch.masks is None:
            images, targets = mix(images, labels, recipe, model.num_classes)
        else:
            masks = batch.masks.to(images)
            images, masks, targets = mix_masked(images, masks, labels, recipe, model.num_classes)
            more = [masks]
        images = laid_out(images, recipe)
        smoothing = 0.0 if targets.is_floating_point() else recipe.label_smoothing  # soft targets are smooth already
        criterion = partial(cross_entropy, label_smoothing=smoothing)
        parts = [tensor.split(state.micro_batch) for tensor in (images, targets, *more)]
        for part, wanted, *others in zip(*parts, strict=True):
            with autocast(model, recipe):
                found = {
                    name: loss * (len(part) / len(images))
                    for name, loss in losses(model, part, wanted, criterion, *others).items()
                }
            torch.stack(list(found.values())).sum().backward()
            sums = {name: sums.get(name, 0.0) + loss.detach() for name, loss in found.items()}
        state.optimiser.step()
    return sums


def _mean_losses(found: list[dict[str, torch.Tensor]], state: State, checkpoint: Path | None) -> dict[str, float]:
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
