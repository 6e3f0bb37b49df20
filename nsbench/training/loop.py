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
from inspect import signature
from pathlib import Path

import torch

from nsbench import processes
from nsbench.data import Split
from nsbench.data.loading import Batch
from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, class_token_only, weights_digest
from nsbench.progress import SILENT, Advance, Fact, Progress, duration
from nsbench.results import Round
from nsbench.training.ascent import check_radius
from nsbench.training.calls import beginning, checkpoint_of, next_number
from nsbench.training.noise import Perturb, noisy_at, round_noise
from nsbench.training.optimisation import compiled, drop_path
from nsbench.training.recipe import Recipe, adapted
from nsbench.training.shares import require_same_weights, require_shareable
from nsbench.training.state import State, Trained
from nsbench.training.step import Brought, Criterion, Losses, gradient_of_parts, mean_losses, take_step
from nsbench.training.trainable import Probe, train_only
from nsbench.training.views import Views, training_batches

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
    views: Views | None = None,
    augmentation: Mapping[str, object] | None = None,
    layer: int | str = 0,
    ascent: float | None = None,
    probe: Probe | None = None,
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
    with as the recipe's `outer` says. It is added to the patch tokens (`layer` 0), behind block `layer`, or to the pixels
    ("input"): `model.embed` gives what it is added to. A pass from there on is counted as a whole one.

    `losses(model, images_BCHW, targets, criterion)` gives the terms of a step's loss, such as
    {"adversarial": criterion(model(adversarial), targets)}; it is called in training mode, with draws of its own that
    move nobody else's. One with a parameter `done` is given the share of the training that lies behind, for what
    changes on the way. Without either this is the matched control.

    With `ascent` a step's gradient is taken at the worst weights within that distance (`training/ascent.py`), which is
    a second pass over the step's images with the same draws; its losses are named "<term>_ascended" in the history.

    With `probe` the first rounds train the head alone, at a learning rate of its own. The schedule, which counts all
    steps, goes on behind it where it stands by then, and so do AdamW's moments of the head.

    `views` lets `losses` see further views of every image; with `masks` it gets the foreground of each image instead, NaN
    where the source does not know it. `augmentation` are fields of the recipe's augmentation that the method itself
    decides, such as {"color_jitter": 0.4}; a line says where the recipe has them too. `facts()` is called after every
    round; what it returns stands in the history.

    `checkpoint` is a file that is written after each round, and that training goes on from where it is there. A method
    that trains several times may hand over the same one: each training in turn has a file of its own.
    `on_round` is called after every finished round; accuracies that it returns become a part of the history.
    """
    if perturb and losses:
        raise UsageError("finetune takes `perturb` or `losses`, not both; chain two methods instead: first+second")
    if views and not losses:
        raise UsageError("finetune takes `views` for `losses` to see; give both")
    if views and masks:
        raise UsageError("finetune takes `views` or `masks`, not both")
    check_radius(ascent)
    number, begins = next_number(), ""
    require_shareable(model, recipe)
    if augmentation is not None:
        recipe = adapted(recipe, augmentation, progress, nothing_else=not (perturb or losses))
    if views:
        views.check(recipe)
    if checkpoint:
        checkpoint = checkpoint_of(checkpoint, number)
        begins = beginning(weights_digest(model), number, layer, ascent, probe, masks, *map(_named, (perturb, losses)))
    if next(model.parameters(), None) is None:
        raise ModelError(f"model '{model.name}' has no weights that could be trained")
    state = _begun(model, recipe, checkpoint, progress, begins)
    model, state.draws = state.model, losses is not None
    train_only(model, recipe.trainable)  # what it cannot be is said before anything is done
    brought = Brought(perturb, losses, noisy_at(model, layer, recipe) if perturb else model, views, ascent, probe)
    total, unit = (round(recipe.compute), "forwards") if recipe.compute else (recipe.steps, "steps")
    with (
        drop_path(model, recipe.drop_path),
        compiled(model, recipe.compile),
        progress.task("training", total, unit=unit) as advance,
    ):
        advance(_moved(state, 0))
        least = 3 if recipe.trainable == "all" and not probe else 1
        images = _stream(state, train, views, masks, workers, least)
        while not state.finished:
            together = state.micro_batch
            train_only(model, "head" if brought.probing(state) else recipe.trainable)
            with class_token_only(model), state.cost.counted(model):
                entry = _round(state, images, train, brought, workers, advance, checkpoint)
            entry = replace(entry, facts=dict(facts())) if facts else entry
            progress.event("round", _told(entry, recipe), _facts(entry))
            if state.micro_batch < together:
                fitting = f"went on with {state.micro_batch}, {gradient_of_parts(state.model)}"
                progress.line(f"{together} images at a time do not fit into memory; {fitting}", style="yellow")
            state.history.append(entry)
            try:
                if on_round:
                    state.history[-1] = replace(entry, accuracies=on_round(state.fitted.eval(), entry))
            except Exception:  # a look that failed costs no round; one that was interrupted is taken again, with it
                if checkpoint and processes.number() == 0:
                    state.save(checkpoint)
                raise
            if checkpoint:
                processes.first(partial(state.save, checkpoint))
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


def _named(function: Callable[..., object] | None) -> str:
    """A function's name in its file, the same in every process and run."""
    return getattr(function, "__qualname__", type(function).__name__)


def _begun(model: Model, recipe: Recipe, checkpoint: Path | None, progress: Progress, begins: str) -> State:
    """The training of a copy of `model` as the checkpoint has it, or from the beginning."""
    state = State.fresh(deepcopy(model).requires_grad_(True), recipe, begins)
    if checkpoint and processes.first(checkpoint.exists):
        why_not = next(filter(None, processes.gathered(state.load(checkpoint))), "")
        progress.line(
            why_not or f"goes on after round {state.round}, from {checkpoint}", "yellow" if why_not else "dim"
        )
        if why_not:
            return State.fresh(deepcopy(model).requires_grad_(True), recipe, begins)
    return state


def _round(
    state: State,
    images: Iterator[Batch],
    train: Split,
    brought: Brought,
    workers: int,
    advance: Advance,
    checkpoint: Path | None,
) -> Round:
    """One noise and the steps with it; the round's entry in the history."""
    recipe, start, spent = state.recipe, time.perf_counter(), state.cost.forward_equivalents
    name = f"round {state.round + 1}" + ("" if recipe.compute else f"/{recipe.rounds}")
    noise, learnt = None, None
    probing = brought.probing(state)
    if brought.perturb:
        advance(0, note=f"{name}: noise")

        def watch(step: int, distance: float) -> None:
            advance(0, note=f"{name}: noise at {distance:.3f}, ε {recipe.epsilon:g}, step {step}")

        with state.cost.of_all_processes():
            noise, learnt = round_noise(
                brought.noisy, brought.perturb, train, recipe, state.round, workers, watch, state.noise
            )
        state.noise = noise if recipe.noise_start == "last" else None
    noise_seconds = time.perf_counter() - start
    found, lr = [], state.lr
    losses = brought.losses or noise_losses(noise, brought.noisy, recipe.outer)
    asks = "done" in signature(losses).parameters
    for _ in range(recipe.steps_per_round):
        if brought.probe:
            state.set_lr(brought.probe.lr if probing else None)
        before, lr = state.position, state.lr
        told = partial(losses, done=before / recipe.steps) if asks else losses
        found.append(take_step(state, next(images), told, brought))
        advance(_moved(state, before), note=name)
        if recipe.compute and state.finished:
            break
    means = mean_losses(found, state, checkpoint)
    require_same_weights(state.model)
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


def noise_losses(noise_1ND: torch.Tensor | None, noisy: Model, outer: str = "clean+noisy") -> Losses:
    """Cross-entropy of the images and of the images with noise on what `noisy.embed` gives; without noise, of the images
    alone."""

    def losses(
        model: Model,
        images_BCHW: torch.Tensor,
        targets: torch.Tensor,
        criterion: Criterion,
    ) -> dict[str, torch.Tensor]:
        if noise_1ND is None:
            return {"clean": criterion(model(images_BCHW), targets)}
        tokens_BND = noisy.embed(images_BCHW)
        clean = {"clean": tokens_BND} if outer == "clean+noisy" else {}
        return {
            name: criterion(noisy.head(noisy.encode(tokens)), targets)
            for name, tokens in (clean | {"noisy": tokens_BND + noise_1ND}).items()
        }

    return losses


def _stream(state: State, train: Split, views: Views | None, masks: bool, workers: int, least: int) -> Iterator[Batch]:
    """The training images from the present step on.

    No step costs less than `least` passes of its images: one forward, and two backward where all weights are trained.
    """
    recipe = state.recipe
    steps = recipe.steps
    if recipe.compute:
        steps = int(recipe.compute / (least * recipe.batch_size)) + recipe.steps_per_round + 1
    return training_batches(
        train, recipe, state.model, views=views, masks=masks, workers=workers, begin=state.step, steps=steps
    )
