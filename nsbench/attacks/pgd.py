"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083), l-inf and l2, with restarts.

Own code: torchattacks.PGD draws its random start from the global generator, so an outcome would depend on the
batch, and a start handed to it from outside would become the centre of its projection. Without a random start
and early stop the iterates are those of torchattacks.PGD, which a test holds to 1e-6.
"""

from __future__ import annotations

from collections import deque
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
    take,
    uniform,
)
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

Job = tuple[int, int]  # image, restart


def _passes(model: object, *, steps: int, restarts: int, **_: object) -> Passes:
    """A last iterate goes back, too, where others of its batch go on."""
    return Passes(steps + 1, steps + 1 if steps else 0) * restarts


@attack(loss="cross-entropy", passes=_passes)
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
    batch_size: int | None = None,
) -> Tensor:
    """Ascend the cross-entropy in steps of `step_size` (default 2.5 eps / steps), projecting after each.

    The start is uniform in the eps ball. An image leaves with its first misclassified iterate; one that never is
    misclassified comes back as the last iterate of the restart with the highest loss. `early_stop=False` looks
    at last iterates only. Raises UsageError for a norm other than linf and l2.
    """
    eps = check_threat("pgd", threat, ["linf", "l2"])
    size = 2.5 * eps / max(steps, 1) if step_size is None else step_size
    step = _linf_step if threat.norm == "linf" else _l2_step

    def starts(jobs: Sequence[Job]) -> Tensor:
        clean = images_BCHW[[i for i, _ in jobs]]
        if not random_start:
            return clean
        each = zip(jobs, clean.split(1), strict=True)
        return torch.cat([_start(image, [ids[i]], seed, restart, threat.norm, eps) for (i, restart), image in each])

    return _ascend(
        model,
        images_BCHW,
        labels_B,
        starts,
        lambda x, slope, clean: step(x, slope, clean, size, eps),
        steps,
        restarts,
        early_stop,
        batch_size,
    )


def _ascend(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    starts: Callable[[Sequence[Job]], Tensor],
    step: Callable[[Tensor, Tensor, Tensor], Tensor],
    steps: int,
    restarts: int,
    early_stop: bool,
    batch_size: int | None,
) -> Tensor:
    """Each image's first misclassified iterate that may count, else the last iterate of the highest loss.

    `starts(jobs)` gives first iterates, `step(iterates, gradients, clean images)` the next ones. When an image leaves
    the batch, the next waiting one takes its place; one that leaves unbroken with restarts to go waits again, last.
    """
    result, best_B = images_BCHW.clone(), torch.full_like(images_BCHW[:, 0, 0, 0], -torch.inf)
    waiting: deque[Job] = deque((i, 0) for i in range(len(labels_B)) if restarts > 0)
    jobs = take(waiting, batch_size)
    current, step_B = starts(jobs) if jobs else images_BCHW, labels_B.new_zeros(len(jobs))
    while jobs:
        active = torch.tensor([i for i, _ in jobs], device=labels_B.device)
        current = current.detach().requires_grad_(bool((step_B < steps).any()))
        logits_BK = model(current)
        loss_B, broken_B = cross_entropy(logits_BK, labels_B[active]), misclassified(logits_BK, labels_B[active])
        stays_B = (step_B < steps) & ~(broken_B & early_stop)
        better_B = ~stays_B & (broken_B | (loss_B > best_B[active]))
        result[active[better_B]] = current.detach()[better_B]
        best_B[active[better_B]] = loss_B.detach()[better_B]
        if stays_B.any():
            slope = gradient(loss_B, current)[stays_B]
            moved = step(current.detach()[stays_B], slope, images_BCHW[active[stays_B]])
        else:
            moved = images_BCHW[:0]
        again = (~stays_B & ~broken_B).tolist()
        waiting.extend((i, r + 1) for (i, r), more in zip(jobs, again, strict=True) if more and r + 1 < restarts)
        jobs = [job for job, stays in zip(jobs, stays_B.tolist(), strict=True) if stays]
        fresh = take(waiting, batch_size, len(jobs))
        current = torch.cat([moved, starts(fresh)]) if fresh else moved
        step_B = torch.cat([step_B[stays_B] + 1, step_B.new_zeros(len(fresh))])
        jobs += fresh
    return result


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
