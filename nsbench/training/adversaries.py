"""Adversarial images to train on, by torchattacks: fast and the same for all, not the judged attacks of the suites."""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, log_softmax, softmax

from nsbench.models import Model, frozen
from nsbench.training.recipe import Recipe


def adversarial(model: Model, images_BCHW: torch.Tensor, targets: torch.Tensor | None, recipe: Recipe) -> torch.Tensor:
    """Images (B, 3, H, W) within the recipe's l-infinity budget of `images_BCHW`, attacked in evaluation mode.

    With targets (B,) or (B, K) they maximise the cross-entropy, from a uniform start (PGD, Madry et al. 2018); without
    them the KL divergence from the model's own prediction, from a normal start of 0.001 (TPGD, Zhang et al. 2019).
    Random erasing puts normal noise into images, and an attack keeps to [0, 1]: give images that are clamped.
    """
    import torchattacks

    attack = torchattacks.TPGD if targets is None else torchattacks.PGD
    with frozen(model):
        crafted = attack(model, eps=recipe.attack_eps, alpha=recipe.attack_step_size, steps=recipe.attack_steps)
        adversarial_BCHW: torch.Tensor = crafted(images_BCHW, targets)
    return adversarial_BCHW


def divergence(logits_BK: torch.Tensor, other_BK: torch.Tensor) -> torch.Tensor:
    """Batch mean of KL(softmax logits || softmax other): the second term of TRADES (arXiv 1901.08573)."""
    return kl_div(log_softmax(other_BK, dim=1), softmax(logits_BK, dim=1), reduction="batchmean")
