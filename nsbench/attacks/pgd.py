"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083), l-inf, l2 and l1, with restarts.

Own code: torchattacks.PGD draws its random start from the global generator, so an outcome would depend on the
batch, and a start handed to it from outside would become the centre of its projection. Without a random start
and early stop the iterates are those of torchattacks.PGD, which a test holds to 1e-6. In l1 a step moves a share of the
values (SLIDE: Tramer and Boneh 2019, arXiv:1904.13000, section 3), and the projection is exact inside [0, 1].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from nsbench.attacks.common import (
    Classifier,
    averaged,
    check_passes,
    check_threat,
    l2_norm,
    margin,
    misclassified,
    normal,
    per_image,
    project_l1,
    project_l2,
    project_linf,
    take,
    uniform,
)
from nsbench.attacks.convergence import Breaking, Descent
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

Job = tuple[int, int]  # image, restart


def ascent_passes(model: object, *, steps: int, restarts: int, eot: int, **_: object) -> Passes:
    """Of one image in `ascend`, at most: a last iterate goes back, too, where others of its batch go on."""
    return Passes(steps + 1, steps + 1 if steps else 0) * restarts * eot


@attack(loss="cross-entropy", passes=ascent_passes)
@torch.enable_grad()
def pgd(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: PositiveInt = 10,
    step_size: PositiveFloat | None = None,
    restarts: PositiveInt = 1,
    random_start: bool = True,
    early_stop: bool = True,
    eot: PositiveInt = 1,
    moved: PositiveFloat = 0.01,
    batch_size: int | None = None,
) -> Tensor:
    """Ascend the cross-entropy in steps of `step_size` (default 2.5 eps / steps), projecting after each.

    The start is uniform in the eps ball. An image leaves with its first misclassified iterate; one that never is
    misclassified comes back as the last iterate of the restart with the highest loss. `early_stop=False` looks
    at last iterates only. `eot` passes of a model that draws are averaged at each iterate, logits, loss and gradient
    (expectation over transformation: Athalye et al. 2018, arXiv:1802.00420). In l1 a step
    moves the share `moved` of an image's values, those of the largest slope that have room, by `step_size` together.
    Raises UsageError for a norm other than linf, l2 and l1.
    """
    eps = check_threat("pgd", threat, ["linf", "l2", "l1"])
    check_passes("pgd", eot)
    size = 2.5 * eps / max(steps, 1) if step_size is None else step_size
    steps_of: dict[str, Callable[..., Tensor]] = {
        "linf": _linf_step,
        "l2": _l2_step,
        "l1": partial(_l1_step, moved=moved),
    }
    step = steps_of[threat.norm]

    def starts(jobs: Sequence[Job]) -> Tensor:
        clean = images_BCHW[[i for i, _ in jobs]]
        if not random_start:
            return clean
        each = zip(jobs, clean.split(1), strict=True)
        return torch.cat([_start(image, [ids[i]], seed, restart, threat.norm, eps) for (i, restart), image in each])

    return ascend(
        model,
        images_BCHW,
        labels_B,
        starts,
        lambda x, slope, clean, _: step(x, slope, clean, size, eps),
        steps,
        restarts,
        early_stop,
        eot,
        batch_size,
    )


def ascend(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    starts: Callable[[Sequence[Job]], Tensor],
    step: Callable[[Tensor, Tensor, Tensor, Sequence[Job]], Tensor],
    steps: int,
    restarts: int,
    early_stop: bool,
    eot: int,
    batch_size: int | None,
) -> Tensor:
    """Each image's first misclassified iterate that may count, else the last iterate of the highest loss.

    `starts(jobs)` gives first iterates, `step(iterates, gradients, clean images, jobs)` the next. When an image leaves
    the batch, the next waiting one takes its place; one that leaves unbroken with restarts to go waits again, last.
    """
    result, best_B = images_BCHW.clone(), torch.full_like(images_BCHW[:, 0, 0, 0], -torch.inf)
    descent, breaking, unbroken_B = Descent(steps + 1), Breaking(labels_B), torch.ones_like(labels_B, dtype=torch.bool)
    waiting: deque[Job] = deque((i, 0) for i in range(len(labels_B)) if restarts > 0)
    jobs = take(waiting, batch_size)
    current, step_B = starts(jobs) if jobs else images_BCHW, labels_B.new_zeros(len(jobs))
    while jobs:
        active = torch.tensor([i for i, _ in jobs], device=labels_B.device)
        current = current.detach().requires_grad_(bool((step_B < steps).any()))
        logits_BK, loss_B, ascent = averaged(model, current, labels_B[active], eot)
        broken_B = misclassified(logits_BK, labels_B[active])
        stays_B = (step_B < steps) & ~(broken_B & early_stop)
        margin_B = margin(logits_BK.detach(), labels_B[active])
        descent.look(step_B, active, margin_B, margin_B, len(labels_B))
        restart_B = step_B.new_tensor([restart for _, restart in jobs])
        breaking.note(active, broken_B & ~stays_B, restart_B * (steps + 1) + step_B)
        unbroken_B[active] &= ~broken_B | stays_B
        better_B = ~stays_B & (broken_B | (loss_B > best_B[active]))
        result[active[better_B]] = current.detach()[better_B]
        best_B[active[better_B]] = loss_B.detach()[better_B].to(best_B.dtype)
        if stays_B.any():
            slope = ascent()[stays_B]
            staying = [job for job, stays in zip(jobs, stays_B.tolist(), strict=True) if stays]
            moved = step(current.detach()[stays_B], slope, images_BCHW[active[stays_B]], staying)
        else:
            moved = images_BCHW[:0]
        again = (~stays_B & ~broken_B).tolist()
        waiting.extend((i, r + 1) for (i, r), more in zip(jobs, again, strict=True) if more and r + 1 < restarts)
        jobs = [job for job, stays in zip(jobs, stays_B.tolist(), strict=True) if stays]
        fresh = take(waiting, batch_size, len(jobs))
        current = torch.cat([moved, starts(fresh)]) if fresh else moved
        step_B = torch.cat([step_B[stays_B] + 1, step_B.new_zeros(len(fresh))])
        jobs += fresh
    descent.tell(unbroken_B)
    if early_stop:  # else no iterate but the last ones is looked at
        breaking.tell(restarts * (steps + 1) - 1)
    return result


def _linf_step(current: Tensor, slope: Tensor, clean: Tensor, size: float, eps: float) -> Tensor:
    return project_linf(current + size * slope.sign(), clean, eps)


def _l2_step(current: Tensor, slope: Tensor, clean: Tensor, size: float, eps: float) -> Tensor:
    return project_l2(current + size * slope / per_image(l2_norm(slope), slope).clamp_min(1e-12), clean, eps)


def _l1_step(current: Tensor, slope: Tensor, clean: Tensor, size: float, eps: float, moved: float) -> Tensor:
    """Steepest ascent with a change of l1 norm `size`, over the values that have room towards their bound."""
    has_room = torch.where(slope > 0, current < 1, current > 0)
    steep_BN = (slope.abs() * has_room).flatten(1)
    values = max(1, round(moved * steep_BN.shape[1]))
    chosen_BK = steep_BN.topk(values, dim=1).indices
    push_BN = torch.zeros_like(steep_BN).scatter(1, chosen_BK, slope.flatten(1).sign().gather(1, chosen_BK))
    return project_l1(current + size / values * push_BN.view_as(current), clean, eps)


def _start(clean: Tensor, ids: Sequence[str], seed: int, restart: int, norm: str, eps: float) -> Tensor:
    """A point drawn uniformly from the eps ball around each image, clipped to [0, 1]."""
    if norm == "linf":
        return project_linf(clean + uniform(clean, ids, seed, "pgd", restart, low=-eps, high=eps), clean, eps)
    if norm == "l1":  # exponential sizes, one more than there are values, divided by their sum
        signs = uniform(clean, ids, seed, "pgd direction", restart, low=-1.0)
        sizes = -uniform(clean, ids, seed, "pgd sizes", restart).clamp_min(1e-12).log()
        more_B = -uniform(clean[:, :1, :1, :1], ids, seed, "pgd radius", restart).clamp_min(1e-12).log().view(-1)
        sizes = sizes / per_image(sizes.flatten(1).sum(dim=1) + more_B, sizes)
        return project_l1(clean + eps * sizes * signs.sign(), clean, eps)
    direction = normal(clean, ids, seed, "pgd direction", restart)
    radius_B = uniform(clean[:, :1, :1, :1], ids, seed, "pgd radius", restart).view(-1)
    length_B = eps * radius_B ** (1 / clean[0].numel()) / l2_norm(direction)
    return project_l2(clean + direction * per_image(length_B, direction), clean, eps)
