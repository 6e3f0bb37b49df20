"""Random noise of the same influence as nullspace noise: what NS is compared with (arXiv 2403.10476, section 5.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from nsbench.errors import TrainingError, UsageError
from nsbench.models import Model, frozen
from nsbench.nullspace.approximate import InsideTest, LearntNoise, clean_outputs, mse_probability, normal_like, of_all
from nsbench.randomness import derive_seed

LEAST = 1e-4  # a smaller factor than this is no noise any more: 41 times 0.8


def scale_noise(
    model: Model,
    images: torch.Tensor | Iterable[torch.Tensor],
    *,
    held_out: torch.Tensor | None = None,
    epsilon: float = 0.03,
    shrink: float = 0.8,
    seed: int = 0,
    round: int = 0,
) -> LearntNoise:
    """v ~ N(0, 1) of shape (1, N, D), multiplied by `shrink` per batch until it is inside the epsilon region.

    `images` and `held_out` as for `learn_noise`; `steps` of the answer counts the multiplications. Raises UsageError
    for a `shrink` outside (0, 1) and TrainingError where the logits are NaN.
    """
    if not 0 < shrink < 1:
        raise UsageError(f"shrink {shrink:g} must be between 0 and 1, or the noise never becomes smaller")
    with frozen(model), torch.no_grad():
        inside = InsideTest(model, held_out, epsilon)
        scale, start_1ND = 1.0, None
        for step, (tokens_BND, clean_BK, part) in enumerate(clean_outputs(model, images)):
            if start_1ND is None:
                start_1ND = normal_like(tokens_BND[:1], derive_seed(seed, "random noise", round))
            noise_1ND = start_1ND * scale
            noisy_BK = model.head(model.encode(tokens_BND + noise_1ND))
            mse = of_all(mse_probability(noisy_BK, clean_BK), part).item()
            if not math.isfinite(mse):
                raise TrainingError(f"random noise of scale {scale:.3g} gave NaN logits; check the weights")
            if (converged := inside(noise_1ND, mse)) or scale < LEAST:
                return LearntNoise(noise_1ND, step, mse, noise_1ND.norm().item(), converged)
            scale *= shrink
    raise TrainingError(f"random noise is still outside epsilon = {epsilon:g} after {step + 1} batches; give more")
