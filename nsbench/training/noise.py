"""The images that a round's noise is learnt on, and what the history tells about the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from nsbench import processes
from nsbench.data import Split
from nsbench.data.loading import batches
from nsbench.errors import ModelError, TrainingError, UsageError
from nsbench.models import Model, frozen
from nsbench.models.preprocessing import unit
from nsbench.nullspace import LearntNoise, noise_influence
from nsbench.nullspace.approximate import NoiseWatch
from nsbench.nullspace.layers import INPUT, at_layer, describe, layers
from nsbench.nullspace.random_noise import LEAST
from nsbench.randomness import derive_seed, global_generators_kept
from nsbench.results import NoiseOfRound
from nsbench.training.augment import Augmented, erase, seeded
from nsbench.training.cost import besides
from nsbench.training.recipe import Recipe
from nsbench.types import FitPasses, Passes


class Pool(Iterable[torch.Tensor]):
    """The first `count` batches of a stream, as often as they are asked for; none is made before it is needed."""

    def __init__(self, stream: Iterator[torch.Tensor], count: int) -> None:
        self.stream, self.count, self.taken = stream, count, list[torch.Tensor]()

    def __iter__(self) -> Iterator[torch.Tensor]:
        for index in range(self.count):
            if index == len(self.taken):
                self.taken.append(next(self.stream))
            yield self.taken[index]


@dataclass(frozen=True)
class NoiseImages:
    """Training images of one round, drawn apart from those of its steps, in [0, 1] and augmented like them."""

    batches: Iterable[torch.Tensor]  # (B, 3, H, W) each: an iterator of new ones, or `noise_batches` to take in turn
    held_out: torch.Tensor  # (B, 3, H, W) that the noise is not learnt on
    stop: torch.Tensor | None  # the same where the recipe stops by them, else None
    watch: NoiseWatch | None = None  # called as the noise is learnt
    start: torch.Tensor | None = None  # (1, N, D) to begin from: the last round's noise, where the recipe says so


# perturb(model, images, round) -> the noise of a round: as it was learnt, or as a tensor (1, N, D)
Perturb = Callable[[Model, NoiseImages, int], LearntNoise | torch.Tensor | None]


def noisy_at(model: Model, layer: int | str, recipe: Recipe) -> Model:
    """The model as noise sees it: `embed` gives what the noise is added to (`nullspace/layers.py`).

    "0" are the patch tokens, whatever their shape, k what block k gives, "input" the pixels, of a CNN too. Raises
    ModelError or UsageError where the model or the recipe does not go with it.
    """
    if str(layer) == "0" and "0" not in (places := layers(model)):
        raise ModelError(
            f"model '{model.name}' has no patch embedding that gives tokens for a noise; "
            f"say with the method's setting layer, --set METHOD.layer=PLACE, where to add it: {describe(places)}"
        )
    view = at_layer(model, layer)
    if view is model or str(layer) == INPUT:
        return view
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise UsageError(
            f"layer {layer}: model '{model.name}' has batch norm, whose statistics a cut inside disturbs; take layer input"
        )
    if recipe.compile:
        raise UsageError(f"layer {layer}: a compiled model is not cut there; use a recipe with compile = false")
    return view


def round_noise(
    model: Model,
    perturb: Perturb,
    train: Split,
    recipe: Recipe,
    round: int,
    workers: int,
    watch: NoiseWatch | None = None,
    start: torch.Tensor | None = None,
) -> tuple[torch.Tensor | None, NoiseOfRound | None]:
    """This round's noise (1, N, D), and what the history tells of it. `start`: see `NoiseImages`.

    What `perturb` draws from the global generators follows the seed, whatever the number of workers and processes.
    Raises TrainingError for what cannot be added, NsbenchError where several processes have another noise each.
    """
    parts = _stream(model, train, recipe, round, workers)
    with closing(parts):
        held_out = next(parts)
        apart = _undisturbed(parts, model.device)
        taken = Pool(apart, recipe.noise_batches) if recipe.noise_batches else apart
        stop = held_out if recipe.noise_stop == "held-out" else None
        images = NoiseImages(taken, held_out, stop, watch, start)
        with seeded(derive_seed(recipe.seed, "perturb", round), model.device):
            learnt = perturb(model, images, round)
    noise_1ND = learnt.noise_1ND if isinstance(learnt, LearntNoise) else learnt
    with processes.section():
        _check(noise_1ND, model, held_out)
    _require_same(noise_1ND, round)
    if learnt is None or noise_1ND is None:
        return None, None
    if isinstance(learnt, LearntNoise):
        besides(-learnt.unused_gradients)  # which one process does not compute
    norm, influence = noise_1ND.norm().item(), noise_influence(model, held_out, noise_1ND)
    if isinstance(learnt, torch.Tensor):
        return noise_1ND, NoiseOfRound(norm, influence)
    return noise_1ND, NoiseOfRound(norm, influence, learnt.mse_probability, learnt.steps, learnt.converged)


def _undisturbed(stream: Iterator[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """The same batches; making them moves no generator that a noise is drawn from."""
    while True:
        with global_generators_kept(device):
            batch = next(stream, None)
        if batch is None:
            return
        yield batch


def _check(noise_1ND: object, model: Model, held_out: torch.Tensor) -> None:
    if noise_1ND is None:
        return
    if not isinstance(noise_1ND, torch.Tensor):
        raise TrainingError(
            f"perturb returned {type(noise_1ND).__name__}, not a noise: return a tensor (1, N, D), or None"
        )
    with frozen(model), torch.no_grad():
        wanted = model.embed(held_out[:1]).shape
    try:
        fits = torch.broadcast_shapes(noise_1ND.shape, wanted) == wanted
    except RuntimeError:
        fits = False
    if not fits:
        raise TrainingError(
            f"perturb returned a noise of shape {tuple(noise_1ND.shape)}, and what it is added to has {tuple(wanted)}"
        )


def _require_same(noise_1ND: torch.Tensor | None, round: int) -> None:
    if processes.count() > 1:
        content = b"" if noise_1ND is None else noise_1ND.detach().cpu().contiguous().numpy().tobytes()
        processes.agree(sha256(content).hexdigest(), f"the noises of round {round + 1} differ")


def _stream(model: Model, train: Split, recipe: Recipe, round: int, workers: int) -> Generator[torch.Tensor]:
    """First the held-out images, then as many batches as the noise can ask for: a function of (seed, round) alone."""
    count = recipe.noise_batches or recipe.noise_max_steps + 2
    split = Augmented(
        train, recipe, model, stream=f"noise {round}", length=recipe.noise_held_out + count * recipe.noise_batch
    )
    held_out, rest = np.split(np.arange(len(split)), [recipe.noise_held_out])
    first = _together(split, model, held_out, len(held_out))
    others = _together(split, model, rest, recipe.noise_batch, workers)
    for part in (first, others):
        for number, images in enumerate(part):
            with seeded(derive_seed(recipe.seed, "noise", "erase", round, part is first, number), model.device):
                images_BCHW = erase(unit(images, model.device), recipe, model)
            yield images_BCHW


def _together(
    split: Split, model: Model, indices: np.ndarray, batch_size: int, workers: int = 0
) -> Generator[torch.Tensor]:
    """Batches (B, 3, H, W) uint8 of these images. Of several processes each makes its part of a batch, and all get it."""
    own = processes.share(batch_size) if batch_size >= processes.count() else slice(batch_size)
    rows = indices.reshape(-1, batch_size)[:, own]
    transform = model.preprocessing.transform("none")
    for batch in batches(split, transform, batch_size=rows.shape[1], workers=workers, indices=rows.flatten()):
        if rows.shape[1] == batch_size:
            yield batch.images
        else:
            yield processes.gathered_rows(batch.images, batch_size)


def learnt_noise_passes(recipe: Recipe) -> FitPasses:
    """What a training with `learn_noise` does: between no step of the noise in a round and all of them."""
    return _with_noise(recipe, (0, recipe.noise_max_steps), backwards=True)


def scaled_noise_passes(recipe: Recipe) -> FitPasses:
    """What a training with `scale_noise` does: between no multiplication in a round and as many as there can be."""
    return _with_noise(recipe, (0, math.floor(math.log(LEAST) / math.log(recipe.noise_shrink)) + 1), backwards=False)


def round_passes(recipe: Recipe, steps: float, backwards: bool) -> Passes:
    """Of a round whose noise takes so many steps; the images that measure its influence go forward twice.

    Noise that must be inside on them, too, is tested there at every step at most.
    """
    clean = min(recipe.noise_batches or math.inf, steps + 1)
    held_out = 2 + (1 + steps + 1 if recipe.noise_stop == "held-out" else 0)
    noisy = Passes(steps + 1, steps if backwards else 0)
    return (noisy + Passes(clean)) * recipe.noise_batch + Passes(held_out) * recipe.noise_held_out


def _with_noise(recipe: Recipe, steps: tuple[int, int], backwards: bool) -> FitPasses:
    """Steps of a training see every image once for each term of the outer loss."""
    terms = 2 if recipe.outer == "clean+noisy" else 1
    least = round_passes(recipe.model_copy(update={"noise_stop": "batch"}), steps[0], backwards)
    return FitPasses(terms, trained=terms, round_least=least, round_most=round_passes(recipe, steps[1], backwards))
