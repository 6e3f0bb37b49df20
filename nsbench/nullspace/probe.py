"""What a noise does to a model's predictions, and which other noises do as much.

Shapes: B images, N patches, D width, K classes. A noise (1, N, D) is added to the tokens of every image; a model cut
elsewhere (`nsbench.nullspace.layers`) has tokens of another shape, and everything here works on it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nsbench.errors import UsageError
from nsbench.models import Model, frozen
from nsbench.nullspace.approximate import normal_like
from nsbench.randomness import derive_seed


@dataclass(frozen=True)
class Influence:
    """How far predictions move; means over images."""

    match: float  # share of images, in [0, 1], whose predicted class stays the same
    mse_confidence: float  # (p_clean[c] - p_noisy[c])^2 with c the class predicted for the clean image, in [0, 1]
    mse_probability: float  # squared probability differences summed over classes, in [0, 2]; what epsilon bounds


class Probe:
    """Images with their clean tokens and probabilities, computed once, on which any number of noises is tried.

    `model` needs `embed`, `encode` and `head`; its weights are not changed. Images (B, 3, H, W) in [0, 1] of the
    model's own input size, otherwise UsageError.
    """

    def __init__(self, model: Model, images_BCHW: torch.Tensor, batch_size: int = 64) -> None:
        check_size(model, images_BCHW)
        self.model = model
        self.parts: list[tuple[torch.Tensor, torch.Tensor]] = []  # tokens (b, N, D) and probabilities (b, K)
        with frozen(model), torch.no_grad():
            for part_BCHW in torch.split(images_BCHW, batch_size):
                tokens_BND = model.embed(part_BCHW)
                self.parts.append((tokens_BND, self._probabilities(tokens_BND)))

    def __len__(self) -> int:
        return sum(len(clean_BK) for _, clean_BK in self.parts)

    def influence(self, noise_1ND: torch.Tensor) -> Influence:
        """Of one noise, on all images."""
        sums = torch.zeros(3, dtype=torch.float64)
        with frozen(self.model), torch.no_grad():
            for tokens_BND, clean_BK in self.parts:
                noisy_BK = self._probabilities(tokens_BND + noise_1ND)
                top_B1 = clean_BK.argmax(dim=1, keepdim=True)
                change_BK = noisy_BK - clean_BK
                sums += torch.stack(
                    [
                        (noisy_BK.argmax(dim=1, keepdim=True) == top_B1).sum(),
                        change_BK.gather(1, top_B1).square().sum(),
                        change_BK.square().sum(),
                    ]
                ).cpu()
        return Influence(*(sums / len(self)).tolist())

    def _probabilities(self, tokens_BND: torch.Tensor) -> torch.Tensor:
        return self.model.head(self.model.encode(tokens_BND)).double().softmax(dim=1)


def permuted(noise_1ND: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The same elements in a random order: the norm is kept, the direction is lost (figure 3's control)."""
    order = torch.randperm(noise_1ND.numel(), generator=torch.Generator().manual_seed(derive_seed(seed, "permuted")))
    return noise_1ND.flatten()[order.to(noise_1ND.device)].view_as(noise_1ND)


def random_direction(like_1ND: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Standard normal elements, of the shape, type and device of a noise."""
    return normal_like(like_1ND, derive_seed(seed, "random direction"))


def scaled_to_influence(probe: Probe, direction_1ND: torch.Tensor, target: float, *, rounds: int = 8) -> torch.Tensor:
    """The multiple of a direction whose MSE probability is `target`, from below, to one part in 2^rounds.

    From a sixteenth of the direction as it is, the scale is doubled until the influence is at least the target, then
    bisected `rounds` times. Raises UsageError where not even a million times the direction reaches it.
    """
    inside, outside = 0.0, 1 / 16
    while probe.influence(outside * direction_1ND).mse_probability < target:
        inside, outside = outside, 2 * outside
        if outside > 1e6:
            raise UsageError(
                f"no multiple of this direction has an MSE probability of {target:g}; ask for a smaller one"
            )
    for _ in range(rounds):
        middle = (inside + outside) / 2
        if probe.influence(middle * direction_1ND).mse_probability < target:
            inside = middle
        else:
            outside = middle
    return inside * direction_1ND


def check_size(model: Model, images_BCHW: torch.Tensor) -> None:
    """Raise UsageError unless the images are (B, 3, H, W) of the model's input size."""
    wanted = (3, model.input_size, model.input_size)
    if images_BCHW.ndim != 4 or tuple(images_BCHW.shape[1:]) != wanted or not len(images_BCHW):
        raise UsageError(
            f"images of shape {tuple(images_BCHW.shape)}: model '{model.name}' takes at least one of "
            f"(B, {', '.join(map(str, wanted))})"
        )
