"""Noise of the epsilon-approximate nullspace of the encoder (arXiv 2403.10476, section 4, equations 5, 7 and 8).

One universal tensor v (1, N, D) is added to the patch tokens u of every image. It starts far outside, uniform in
(-limit, limit), is pulled in by gradient descent on the change of the logits, and stops as soon as it is inside:
E_u d(softmax f(u + v), softmax f(u)) < epsilon. Shapes: B images, N patches, D embedding width, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle

import torch

from nsbench import processes
from nsbench.errors import TrainingError, UsageError
from nsbench.models import Model, class_token_only, frozen
from nsbench.randomness import derive_seed


def l2(noisy_BK: torch.Tensor, clean_BK: torch.Tensor) -> torch.Tensor:
    """Batch mean of the l2 norm of the logits' change (equation 7); its gradient where they are equal is 0, not NaN."""
    norm_B: torch.Tensor = torch.linalg.vector_norm(noisy_BK - clean_BK, dim=1)
    return norm_B.mean()


def squared_l2(noisy_BK: torch.Tensor, clean_BK: torch.Tensor) -> torch.Tensor:
    """Batch mean of the squared l2 norm: the authors' code since May 2023."""
    return (noisy_BK - clean_BK).square().sum(dim=1).mean()


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"l2": l2, "squared_l2": squared_l2}


def mse_probability(noisy_BK: torch.Tensor, clean_BK: torch.Tensor) -> torch.Tensor:
    """The authors' d: squared probability differences, summed over classes, batch mean; a scalar in [0, 2]."""
    difference_BK = noisy_BK.float().softmax(dim=1) - clean_BK.float().softmax(dim=1)
    return difference_BK.square().sum(dim=1).mean()


NoiseWatch = Callable[[int, float], None]  # called with each step and its MSE probability, which epsilon is about


@dataclass(frozen=True)
class LearntNoise:
    """A noise and how it came about."""

    noise_1ND: torch.Tensor
    steps: int  # updates that were made
    mse_probability: float  # on the batch of the last test
    norm: float  # l2 norm of all N x D elements
    converged: bool  # False: still outside the epsilon region after max_steps
    unused_gradients: int = 0  # images of this process, of several, whose gradient was computed before the last test


def learn_noise(
    model: Model,
    images: torch.Tensor | Iterable[torch.Tensor],
    *,
    held_out: torch.Tensor | None = None,
    epsilon: float = 0.03,
    lr: float = 0.1,
    limit: float = 3.0,
    start: torch.Tensor | None = None,
    max_steps: int = 3000,
    loss: str = "l2",
    weight_decay: float = 0.01,
    batch_size: int | None = None,
    seed: int = 0,
    round: int = 0,
    watch: NoiseWatch | None = None,
) -> LearntNoise:
    """Learn one noise on images in [0, 1]; the model's weights stay as they are.

    `images` is one tensor (B, 3, H, W), split into batches of `batch_size` (None: all at every step), or batches one
    after the other. An iterator is used up, a new batch at every step, as in the authors' code; anything else is
    taken in turn again and again, which saves the clean forward passes of all rounds but the first. AdamW with
    PyTorch's defaults (its weight decay of 0.01 shrinks the noise a little), evaluation mode, float32. Each test comes
    before the update. With `held_out` images, a noise that is inside on its batch must be inside on these too, so that
    the search does not end by the chance of one batch. `start` (1, N, D) is where it begins, instead of uniform in
    (-limit, limit); one that is inside already is given back as it is. `watch` is called at each test.

    Several processes are given the same images, and each computes its part of every batch; all get the same noise.

    Raises TrainingError where the logits become NaN.
    """
    if loss not in LOSSES:
        raise UsageError(f"noise loss '{loss}' is none of {', '.join(LOSSES)}")
    with frozen(model), class_token_only(model), torch.enable_grad():
        clean = clean_outputs(model, images, batch_size)
        tokens_BND, clean_BK, part = next(clean)
        if start is None:
            noise_1ND = uniform_like(tokens_BND[:1], limit, derive_seed(seed, "nullspace noise", round))
        else:
            noise_1ND = start.detach().to(tokens_BND, copy=True)
        noise_1ND.requires_grad_()
        optimiser = torch.optim.AdamW([noise_1ND], lr=lr, weight_decay=weight_decay)
        inside, several = InsideTest(model, held_out, epsilon), processes.count() > 1
        for step in range(max_steps + 1):
            noisy_BK = model.head(model.encode(tokens_BND + noise_1ND))
            distance = mse_probability(noisy_BK.detach(), clean_BK)
            if several:  # they meet once in a step, so that they wait for each other once
                _take_gradient(optimiser, LOSSES[loss](noisy_BK, clean_BK) * part)
                distance = distance * part
                processes.add_up([distance, *([noise_1ND.grad] if noise_1ND.grad is not None else [])])
            mse = _finite(distance.item(), step, lr, limit)
            if watch:
                watch(step, mse)
            found_1ND = noise_1ND.detach()
            if (converged := inside(found_1ND, mse)) or step == max_steps:
                unused = len(tokens_BND) if several else 0
                return LearntNoise(found_1ND, step, mse, found_1ND.norm().item(), converged, unused)
            if not several:
                _take_gradient(optimiser, LOSSES[loss](noisy_BK, clean_BK))
            optimiser.step()
            tokens_BND, clean_BK, part = next(clean)
    raise AssertionError("the last step returns")


def _take_gradient(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Of what the optimiser moves, in place of the last one."""
    optimiser.zero_grad()
    torch.autograd.backward(loss)


def noise_influence(model: Model, images_BCHW: torch.Tensor, noise_1ND: torch.Tensor) -> float:
    """MSE probability of a noise on any images, such as a batch that it was not learnt on."""
    return InsideTest(model, images_BCHW, math.inf).influence(noise_1ND)


class InsideTest:
    """Whether a noise is inside the epsilon region: on the batch at hand, and on held-out images where there are some.

    The clean logits of the held-out images are computed once.
    """

    def __init__(self, model: Model, held_out: torch.Tensor | None, epsilon: float) -> None:
        self.model, self.epsilon = model, epsilon
        if held_out is not None:
            with frozen(model):
                self.tokens_BND, self.clean_BK, self.part = next(clean_outputs(model, held_out))
        self.held_out = held_out is not None

    def __call__(self, noise_1ND: torch.Tensor, mse_on_batch: float) -> bool:
        return mse_on_batch < self.epsilon and (not self.held_out or self.influence(noise_1ND) < self.epsilon)

    def influence(self, noise_1ND: torch.Tensor) -> float:
        with frozen(self.model), torch.no_grad():
            noisy_BK = self.model.head(self.model.encode(self.tokens_BND + noise_1ND))
        return of_all(mse_probability(noisy_BK, self.clean_BK), self.part).item()


def clean_outputs(
    model: Model, images: torch.Tensor | Iterable[torch.Tensor], batch_size: int | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    """Tokens (B, N, D) and logits (B, K) of batch after batch; endless, unless `images` is an iterator that ends.

    Of several processes each gets its part of a batch, and the share of the batch that this is; one gets 1.0.
    """

    @torch.no_grad()
    def output(batch_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        if len(batch_BCHW) < processes.count():
            raise UsageError(
                f"{len(batch_BCHW)} images of the noise and {processes.count()} processes: each takes at least one; start "
                "fewer processes, or give a larger noise_batch and noise_held_out"
            )
        part_BCHW = batch_BCHW[processes.share(len(batch_BCHW))]
        tokens_BND = model.embed(part_BCHW)
        return tokens_BND, model.head(model.encode(tokens_BND)), len(part_BCHW) / len(batch_BCHW)

    if isinstance(images, torch.Tensor):
        images = torch.split(images, batch_size or len(images))
    outputs = map(output, images)
    return outputs if isinstance(images, Iterator) else cycle(outputs)  # cycle keeps what it has given


def of_all(mean: torch.Tensor, part: float) -> torch.Tensor:
    """The mean over a batch, from the mean over this process's part of it."""
    if processes.count() == 1:
        return mean
    weighted = mean * part
    processes.add_up([weighted])
    return weighted


def _finite(distance: float, step: int, lr: float, limit: float) -> float:
    if not math.isfinite(distance):
        raise TrainingError(
            f"noise learning gave NaN logits at step {step}; lower the noise's learning rate "
            f"({lr:g}) or limit ({limit:g}), or check the weights"
        )
    return distance


def uniform_like(like_1ND: torch.Tensor, limit: float, seed: int) -> torch.Tensor:
    """Uniform in (-limit, limit), drawn on the CPU: the same on every device."""
    uniform_1ND = torch.rand(like_1ND.shape, generator=torch.Generator().manual_seed(seed))
    return ((2 * uniform_1ND - 1) * limit).to(like_1ND)


def normal_like(like_1ND: torch.Tensor, seed: int) -> torch.Tensor:
    """Standard normal, drawn on the CPU: the same on every device."""
    return torch.randn(like_1ND.shape, generator=torch.Generator().manual_seed(seed)).to(like_1ND)
