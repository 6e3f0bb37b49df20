"""Carlini-Wagner l2 attack (arXiv:1608.04644, section VI-A), with one c for all images; `cw_search` searches for each.

Own code, because torchattacks 3.5.1 stops when the loss summed over the batch rises (so an outcome depends on the
batch), takes the largest other logit of (1 - onehot) * z (which never falls below 0), and maps pixels that are
exactly 0 or 1 to infinity, where they stay. Here every image has its own objective and its own stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nsbench.attacks.common import Adam, Classifier, check_threat, gradient, margin, misclassified
from nsbench.registry import attack
from nsbench.types import ThreatModel

MARGIN = 0.01
BOUND = math.atanh(1 - MARGIN)


def to_box(w: Tensor) -> Tensor:
    """Images in [0, 1] for w in [-BOUND, BOUND]: the tanh of the paper's equation in section V-B, stretched.

    Dividing by 1 - MARGIN puts the pixel values 0 and 1 at a finite w with a slope of about MARGIN, so that
    saturated pixels can move, and leaves the start exactly at the image instead of beside it.
    """
    return 0.5 + torch.tanh(w) / (2 * (1 - MARGIN))


def from_box(images_BCHW: Tensor) -> Tensor:
    """The inverse of `to_box`."""
    return torch.atanh((2 * images_BCHW - 1) * (1 - MARGIN))


@attack(loss="squared l2 norm + c x margin of the logits", start="the image")
@torch.enable_grad()
def cw(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    c: float = 1.0,
    kappa: float = 0.0,
    steps: int = 50,
    lr: float = 0.01,
) -> Tensor:
    """Minimise ||x' - x||^2 + c max(z_y - max_other z, -kappa) over the tanh variable by Adam.

    Returns each image's misclassified iterate of the smallest l2 norm, and the image itself, unchanged, where no
    iterate is misclassified (or the image already was). All others take every step: Adam overshoots at first, and
    rules that stop on a rising objective or on a pause in progress end there, at up to twice the norm. Nothing is
    drawn: `ids` and `seed` have no effect. Raises UsageError for a threat model other than l2, unbounded.
    """
    check_threat("cw", threat, ["l2"], bounded=False)
    c_B = torch.full_like(images_BCHW[:, 0, 0, 0], c)
    return minimise(model, images_BCHW, labels_B, c_B, kappa, steps, lr)[0]


def minimise(
    model: Classifier, images_BCHW: Tensor, labels_B: Tensor, c_B: Tensor, kappa: float, steps: int, lr: float
) -> tuple[Tensor, Tensor]:
    """One run with each image's own c: the nearest successful iterates and their squared l2 norms (B,).

    The squared norm is infinity where no iterate succeeds and 0 where the image was misclassified from the start;
    both come back as they were.
    """
    best, best_B = images_BCHW.clone(), torch.full_like(c_B, torch.inf)
    active = torch.arange(len(images_BCHW), device=images_BCHW.device)
    w = from_box(images_BCHW)
    adam = Adam(w)
    for step in range(steps):
        w = w.detach().requires_grad_(step < steps - 1)
        adversarial = to_box(w)
        logits_BK = model(adversarial)
        square_B = (adversarial - images_BCHW[active]).square().flatten(1).sum(dim=1)
        objective_B = square_B + c_B[active] * margin(logits_BK, labels_B[active]).clamp_min(-kappa)
        success_B = _succeeded(logits_BK, labels_B[active], kappa)
        better_B = success_B & (square_B < best_B[active])
        if step:  # an image that was wrong from the start stays as it is
            best[active[better_B]] = adversarial.detach()[better_B].clamp(0, 1)
        best_B[active[better_B]] = square_B.detach()[better_B] if step else 0.0
        stays_B = ~success_B if step == 0 else torch.ones_like(success_B)
        if step == steps - 1 or not stays_B.any():
            break
        slope = gradient(objective_B, w)[stays_B]
        active, w = active[stays_B], w.detach()[stays_B]
        adam.keep(stays_B)
        w = (w + adam.step(slope, lr)).clamp(-BOUND, BOUND)
    return best, best_B


def _succeeded(logits_BK: Tensor, labels_B: Tensor, kappa: float) -> Tensor:
    """Misclassified, and by at least the confidence kappa."""
    return misclassified(logits_BK, labels_B) & (margin(logits_BK, labels_B).detach() <= -kappa)
