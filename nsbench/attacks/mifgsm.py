"""Momentum iterative FGSM (Dong et al. 2018, arXiv:1710.06081, algorithm 1), l-inf: made to transfer.

Own code, because torchattacks.MIFGSM divides by the mean absolute gradient unguarded, which makes NaN of an image whose
gradient is zero in float32; otherwise the iterates are its, which a test holds to 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from nsbench.attacks.common import Classifier, check_threat, cross_entropy, gradient, project_linf
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel


@attack(loss="cross-entropy", start="the image", passes=lambda model, *, steps, **_: Passes(steps, steps))
@torch.enable_grad()
def mifgsm(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: PositiveInt = 10,
    decay: NonNegativeFloat = 1.0,
) -> Tensor:
    """`steps` sign steps of eps / steps along the sum of all gradients so far, each scaled to mean absolute value 1.

    Every image takes every step, misclassified or not: an attack that is to transfer goes on behind the surrogate's
    decision boundary. Nothing is drawn: `ids` and `seed` have no effect. Raises UsageError for a norm other than linf.
    """
    eps = check_threat("mifgsm", threat, ["linf"])
    current, momentum = images_BCHW, torch.zeros_like(images_BCHW)
    for _ in range(steps):
        current = current.detach().requires_grad_()
        slope = gradient(cross_entropy(model(current), labels_B), current)
        momentum = decay * momentum + slope / slope.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-37)
        current = project_linf(current.detach() + eps / steps * momentum.sign(), images_BCHW, eps)
    return current
