"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083), l-inf and l2, with restarts.

Own code: torchattacks.PGD draws its random start from the global generator, so an outcome would depend on the
batch, and a start handed to it from outside would become the centre of its projection. Without a random start
and early stop the iterates are those of torchattacks.PGD, which a test holds to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nsbench.attacks.common import (
    Classifier,
    check_threat,
    cross_entropy,
    gradient,
    l2_norm,
    misclassified,
    normal,
    per_image,
    project_l2,
    project_linf,
    uniform,
)
from nsbench.registry import attack
from nsbench.types import ThreatModel


@attack(loss="cross-entropy")
@torch.enable_grad()
def pgd(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: int = 10,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    early_stop: bool = True,
) -> Tensor:
    """Ascend the cross-entropy in steps of `step_size` (default 2.5 eps / steps), projecting after each.

    The start is uniform in the eps ball. An image leaves with its first misclassified iterate; one that never is
    misclassified comes back as the last iterate of the restart with the highest loss. `early_stop=False` looks
    at last iterates only. Raises UsageError for a norm other than linf and l2.
    """
    eps = check_threat("pgd", threat, ["linf", "l2"])
    size = 2.5 * eps / max(steps, 1) if step_size is None else step_size
    step = _linf_step if threat.norm == "linf" else _l2_step
    result = images_BCHW.clone()
    best_B = torch.full_like(result[:, 0, 0, 0], -torch.inf)
    robust = torch.arange(len(images_BCHW), device=images_BCHW.device)
    for restart in range(restarts):
        clean, labels = images_BCHW[robust], labels_B[robust]
        start = clean
        if random_start:
            start = _start(clean, [ids[i] for i in robust.tolist()], seed, restart, threat.norm, eps)
        found, loss_B, broken_B = _ascend(model, start, clean, labels, step, size, eps, steps, early_stop)
        better_B = broken_B | (loss_B > best_B[robust])
        result[robust[better_B]], best_B[robust[better_B]] = found[better_B], loss_B[better_B]
        robust = robust[~broken_B]
    return result


def _ascend(
    model: Classifier, start: Tensor, clean: Tensor, labels_B: Tensor, step: Callable, size: float, eps: float,
    steps: int, early_stop: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One run: the iterate that each image leaves with, its loss (B,), and whether it is misclassified (B,)."""
    found, active = start.clone(), torch.arange(len(start), device=start.device)
    loss_found_B = torch.zeros_like(start[:, 0, 0, 0])
    broken_found_B = torch.zeros_like(labels_B, dtype=torch.bool)
    current = start
    for count in range(steps + 1):
        if not len(active):
            break
        current = current.detach().requires_grad_(count < steps)
        logits_BK = model(current)
        loss_B, broken_B = cross_entropy(logits_BK, labels_B[active]), misclassified(logits_BK, labels_B[active])
        leaves_B = broken_B if early_stop and count < steps else torch.full_like(broken_B, count == steps)
        left = active[leaves_B]
        found[left], loss_found_B[left] = current.detach()[leaves_B], loss_B.detach()[leaves_B]
        broken_found_B[left] = broken_B[leaves_B]
        active = active[~leaves_B]
        if len(active):
            slope = gradient(loss_B, current)[~leaves_B]
            current = step(current.detach()[~leaves_B], slope, clean[active], size, eps)
    return found, loss_found_B, broken_found_B


def _linf_step(current: Tensor, slope: Tensor, clean: Tensor, size: float, eps: float) -> Tensor:
    return project_linf(current + size * slope.sign(), clean, eps)


def _l2_step(current: Tensor, slope: Tensor, clean: Tensor, size: float, eps: float) -> Tensor:
    return project_l2(current + size * slope / per_image(l2_norm(slope), slope).clamp_min(1e-12), clean, eps)


def _start(clean: Tensor, ids: Sequence[str], seed: int, restart: int, norm: str, eps: float) -> Tensor:
    """A point drawn uniformly from the eps ball around each image, clipped to [0, 1]."""
    if norm == "linf":
        return project_linf(clean + uniform(clean, ids, seed, "pgd", restart, low=-eps, high=eps), clean, eps)
    direction = normal(clean, ids, seed, "pgd direction", restart)
    radius_B = uniform(clean[:, :1, :1, :1], ids, seed, "pgd radius", restart).view(-1)
    length_B = eps * radius_B ** (1 / clean[0].numel()) / l2_norm(direction)
    return project_l2(clean + direction * per_image(length_B, direction), clean, eps)
