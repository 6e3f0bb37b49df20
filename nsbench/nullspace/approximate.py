"""Noise of the epsilon-approximate nullspace of the encoder (arXiv 2403.10476, section 4, equations 5, 7 and 8).

One universal tensor v (1, N, D) is added to the patch tokens u of every image. It starts far outside, uniform in
(-limit, limit), is pulled in by gradient descent on the change of the logits, and stops as soon as it is inside:
E_u d(softmax f(u + v), softmax f(u)) < epsilon. Shapes: B images, N patches, D embedding width, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nsbench.errors import TrainingError, UsageError
from nsbench.models import Model, frozen
from nsbench.randomness import derive_seed


def l2(noisy_BK: torch.Tensor, clean_BK: torch.Tensor) -> torch.Tensor:
    """Batch mean of the l2 norm of the logits' change (equation 7); its gradient where they are equal is 0, not NaN."""
    return torch.linalg.vector_norm(noisy_BK - clean_BK, dim=1).mean()


def squared_l2(noisy_BK: torch.Tensor, clean_BK: torch.Tensor) -> torch.Tensor:
    """Batch mean of the squared l2 norm: the authors' code since May 2023."""
    return (noisy_BK - clean_BK).square().sum(dim=1).mean()


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"l2": l2, "squared_l2": squared_l2}


def mse_probability(noisy_BK: torch.Tensor, clean_BK: torch.Tensor) -> torch.Tensor:
    """The authors' d: squared probability differences, summed over classes, batch mean; a scalar in [0, 2]."""
    difference_BK = noisy_BK.float().softmax(dim=1) - clean_BK.float().softmax(dim=1)
    return difference_BK.square().sum(dim=1).mean()


@dataclass(frozen=True)
class LearntNoise:
    """A noise and how it came about."""

    noise_1ND: torch.Tensor
    steps: int  # updates that were made
    mse_probability: float  # on the batch of the last test
    norm: float  # l2 norm of all N x D elements
    converged: bool  # False: still outside the epsilon region after max_steps


def learn_noise(model: Model, images_BCHW: torch.Tensor, *, epsilon: float = 0.03, lr: float = 0.1,
                limit: float = 3.0, max_steps: int = 3000, loss: str = "l2", batch_size: int | None = None,
                seed: int = 0, round: int = 0) -> LearntNoise:
    """Learn one noise on images (B, 3, H, W) in [0, 1]; the model's weights stay as they are.

    AdamW with PyTorch's defaults (its weight decay of 0.01 shrinks the noise a little), evaluation mode, float32.
    `batch_size` splits the images into batches that the steps take in turn, so the test meets images that the last
    updates did not use; None takes all images at every step. Each test comes before the update.
    """
    if loss not in LOSSES:
        raise UsageError(f"noise loss '{loss}' is none of {', '.join(LOSSES)}")
    with frozen(model), torch.enable_grad():
        batches = _clean_batches(model, images_BCHW, batch_size or len(images_BCHW))
        noise_1ND = _start(batches[0][0][:1], limit, derive_seed(seed, "nullspace noise", round))
        optimiser = torch.optim.AdamW([noise_1ND], lr=lr)
        for step in range(max_steps + 1):
            tokens_BND, clean_BK = batches[step % len(batches)]
            noisy_BK = model.head(model.encode(tokens_BND + noise_1ND))
            distance = mse_probability(noisy_BK.detach(), clean_BK).item()
            if not math.isfinite(distance):
                raise TrainingError(f"noise learning gave NaN logits at step {step}; lower the noise's learning rate "
                                    f"({lr:g}) or limit ({limit:g}), or check the weights")
            if distance < epsilon or step == max_steps:
                break
            optimiser.zero_grad()
            LOSSES[loss](noisy_BK, clean_BK).backward()
            optimiser.step()
    noise_1ND = noise_1ND.detach()
    return LearntNoise(noise_1ND, step, distance, noise_1ND.norm().item(), distance < epsilon)


def noise_influence(model: Model, images_BCHW: torch.Tensor, noise_1ND: torch.Tensor) -> float:
    """MSE probability of a noise on any images, such as a batch that it was not learnt on."""
    with frozen(model), torch.no_grad():
        tokens_BND = model.embed(images_BCHW)
        return mse_probability(model.head(model.encode(tokens_BND + noise_1ND)),
                               model.head(model.encode(tokens_BND))).item()


def _clean_batches(model: Model, images_BCHW: torch.Tensor, batch_size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Tokens and clean logits of each batch, computed once: the weights do not move while the noise is learnt."""
    with torch.no_grad():
        tokens = [model.embed(part) for part in images_BCHW.split(batch_size)]
        return [(part, model.head(model.encode(part))) for part in tokens]


def _start(like_1ND: torch.Tensor, limit: float, seed: int) -> torch.Tensor:
    """Uniform in (-limit, limit), drawn on the CPU: the same on every device."""
    uniform_1ND = torch.rand(like_1ND.shape, generator=torch.Generator().manual_seed(seed))
    return ((2 * uniform_1ND - 1) * limit).to(like_1ND).requires_grad_()
