"""Adversarial images to train on, by torchattacks: fast and the same for all, not the judged attacks of the suites."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import kl_div, log_softmax, softmax

from nsbench.errors import UsageError
from nsbench.files import importing
from nsbench.models import Model, frozen
from nsbench.training.recipe import Recipe

ATTACKS = ("pgd", "apgd")


@dataclass(frozen=True)
class Adversary:
    """Who makes the adversarial images of a training: `adversary(model, images_BCHW, targets, done)`.

    For the first `eps_warmup` of the steps the budget and its steps grow linearly from 0, which is what lets
    transformers begin (Debenedetti et al. 2023, arXiv:2209.07399). `attack` is "pgd", or "apgd" (Croce and Hein 2020,
    arXiv:2003.01690), which chooses its steps itself and gives the images of the largest loss on the way.

    Raises UsageError for settings that cannot be, before anything is trained.
    """

    recipe: Recipe
    attack: str = "pgd"
    eps_warmup: float = 0.0

    def __post_init__(self) -> None:
        if self.attack not in ATTACKS:
            raise UsageError(f"attack '{self.attack}' is none of {', '.join(ATTACKS)}")
        if not 0 <= self.eps_warmup <= 1:
            raise UsageError(f"eps_warmup {self.eps_warmup:g} is no share of the steps; give 0 (none) to 1 (all)")
        if self.attack == "apgd" and (self.recipe.mixup or self.recipe.cutmix):
            raise UsageError(
                f"apgd needs one label an image, and recipe '{self.recipe.name}' mixes them; "
                "take pgd, or --set mixup=0 --set cutmix=0"
            )

    def __call__(
        self, model: Model, images_BCHW: torch.Tensor, targets: torch.Tensor | None, done: float
    ) -> torch.Tensor:
        """`adversarial` with the budget of the moment: `done` is the share of the training that lies behind."""
        budget = min(1.0, done / self.eps_warmup) if self.eps_warmup else 1.0
        return adversarial(model, images_BCHW, targets, self.recipe, attack=self.attack, budget=budget)


def adversarial(
    model: Model,
    images_BCHW: torch.Tensor,
    targets: torch.Tensor | None,
    recipe: Recipe,
    *,
    attack: str = "pgd",
    budget: float = 1.0,
) -> torch.Tensor:
    """Images (B, 3, H, W) within the recipe's l-infinity budget of `images_BCHW`, attacked in evaluation mode.

    With targets (B,) or (B, K) they maximise the cross-entropy, from a uniform start (PGD, Madry et al. 2018; or APGD,
    with targets (B,) alone); without them the KL divergence from the model's own prediction, from a normal start of
    0.001 (TPGD, Zhang et al. 2019). `budget` is the share of the recipe's budget and step that is taken. Random erasing
    puts normal noise into images, and an attack keeps to [0, 1]: give images that are clamped.
    """
    with importing():
        import torchattacks

    eps, size, steps = recipe.attack_eps * budget, recipe.attack_step_size * budget, recipe.attack_steps
    adversarial_BCHW: torch.Tensor
    with frozen(model):
        if targets is not None and attack == "apgd":
            # one run, not its __call__: that seeds the global generator anew, and spares images that are wrong already
            adversarial_BCHW = torchattacks.APGD(model, eps=eps, steps=steps).attack_single_run(images_BCHW, targets)[0]
            return adversarial_BCHW.detach()
        crafted = (torchattacks.TPGD if targets is None else torchattacks.PGD)(model, eps=eps, alpha=size, steps=steps)
        adversarial_BCHW = crafted(images_BCHW, targets)
    return adversarial_BCHW


def divergence(logits_BK: torch.Tensor, other_BK: torch.Tensor) -> torch.Tensor:
    """Batch mean of KL(softmax logits || softmax other): the second term of TRADES (arXiv 1901.08573)."""
    return kl_div(log_softmax(other_BK, dim=1), softmax(logits_BK, dim=1), reduction="batchmean")
