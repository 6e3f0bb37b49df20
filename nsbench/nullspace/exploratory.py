"""Exploratory noise (arXiv 2403.10476, equation 4 and figure 3): large, and yet of little influence.

One universal noise v (1, N, D) descends  mean_u ||f(u + v) - f(u)||_2 - lambda log ||v||_2  by plain gradient descent,
from a uniform start, for a fixed number of passes over the images. lambda keeps v from shrinking to zero; lambda and
the start together decide its magnitude.
"""

from __future__ import annotations

import math

import torch

from nsbench.errors import TrainingError, UsageError
from nsbench.models import Model, frozen
from nsbench.nullspace.approximate import LearntNoise, l2, mse_probability, uniform_like
from nsbench.randomness import derive_seed


def explore_noise(
    model: Model,
    images_BCHW: torch.Tensor,
    *,
    regularisation: float,
    limit: float = 3.0,
    lr: float = 0.02,
    passes: int = 1,
    batch_size: int = 64,
    seed: int = 0,
) -> LearntNoise:
    """Learn one noise on images (B, 3, H, W) in [0, 1]; the model's weights stay as they are.

    It starts uniform in (-limit, limit). `regularisation` is lambda; lr 0.02 is the paper's. Clean logits are computed
    once. `converged` of what is returned is True: there is nothing to be reached. Raises TrainingError where the logits
    become NaN.
    """
    if regularisation < 0 or limit <= 0 or passes < 1:
        raise UsageError(
            f"regularisation {regularisation:g}, limit {limit:g}, passes {passes}: need at least 0, more "
            "than 0 and at least 1"
        )
    with frozen(model), torch.enable_grad():
        with torch.no_grad():
            tokens = [model.embed(part) for part in torch.split(images_BCHW, batch_size)]
            batches = [(part, model.head(model.encode(part))) for part in tokens]
        noise_1ND = uniform_like(tokens[0][:1], limit, derive_seed(seed, "exploratory noise")).requires_grad_()
        distance, steps = math.nan, passes * len(batches)
        for step in range(steps):
            tokens_BND, clean_BK = batches[step % len(batches)]
            noisy_BK = model.head(model.encode(tokens_BND + noise_1ND))
            loss = l2(noisy_BK, clean_BK) - regularisation * noise_1ND.norm().log()
            (gradient_1ND,) = torch.autograd.grad(loss, noise_1ND)
            noise_1ND = (noise_1ND - lr * gradient_1ND).detach().requires_grad_()
            distance = mse_probability(noisy_BK.detach(), clean_BK).item()
            if not math.isfinite(distance):
                raise TrainingError(
                    f"the noise's logits became NaN at step {step + 1}; lower --lr ({lr:g}) or the limit ({limit:g})"
                )
    noise_1ND = noise_1ND.detach()
    return LearntNoise(noise_1ND, steps, distance, noise_1ND.norm().item(), True)
