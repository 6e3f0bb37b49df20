"""Spatially transformed adversarial images (Xiao et al. 2018, arXiv:1801.02612): pixels move, and no value is added.

The flow is bounded here, because without a bound some flow breaks any image; the authors leave it to the weight `tau`.
They minimise by L-BFGS; here it is Adam, whose steps need no line search, so that images of one batch stay apart.

Shape legend: B images, C channels, H x W pixels, 2: down and right.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from nsbench.attacks.common import (
    Adam,
    Classifier,
    check_passes,
    check_threat,
    gradient,
    margin,
    mean_of,
    misclassified,
    room_for,
    take,
)
from nsbench.attacks.convergence import NEVER, Breaking, Descent
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel


@attack(
    loss="share of the first margin of the logits + tau x variation of the flow",
    start="the image",
    # a last one goes back with others of its batch
    passes=lambda model, *, steps, eot, **_: Passes(steps + 1, steps + 1) * eot,
)
@torch.enable_grad()
def stadv(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: PositiveInt = 100,
    lr: PositiveFloat = 0.1,
    tau: NonNegativeFloat = 0.2,
    eot: PositiveInt = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Minimise the margin + tau x `variation(flow)` / pixels over a flow that moves no pixel further than it may.

    The margin z_y - max_other z is taken as a share of the image's own at first, so that `tau` weighs alike whatever the
    scale of the logits. The paper's of 0.05 weighs the margin itself against the sum over pixels, by L-BFGS; the mean
    weighs alike in images of any size.
    Adam's rate is `lr` times that distance; each coordinate of the flow is clipped to it. An image leaves with its first
    misclassified iterate, else with the one of the smallest margin. Nothing is drawn: `ids` and `seed` have no effect.
    `eot` is that of CW. Raises UsageError for a threat model that is no flow.
    """
    check_threat("stadv", threat, ["flow"], bounded=False)
    check_passes("stadv", eot)
    network, room = mean_of(model, eot), room_for(batch_size, eot)
    height, width = images_BCHW.shape[-2:]
    far = threat.share * min(height, width)
    result, best_B = images_BCHW.clone(), torch.full_like(images_BCHW[:, 0, 0, 0], torch.inf)
    first_B = torch.ones_like(best_B)  # margins
    descent, breaking = Descent(steps + 1), Breaking(labels_B)
    waiting = deque(range(len(images_BCHW)))
    active = torch.tensor(take(waiting, room), dtype=torch.long, device=labels_B.device)
    flow, step_B = _still(images_BCHW, len(active)), torch.zeros_like(active)
    adam = Adam(flow)
    while len(active):
        flow = flow.detach().requires_grad_()
        moved = warped(images_BCHW[active], flow)
        logits_BK = network(moved)
        margin_B = margin(logits_BK, labels_B[active]).to(best_B.dtype)
        broken_B = misclassified(logits_BK, labels_B[active])
        fresh_B = step_B == 0
        first_B[active[fresh_B]] = margin_B.detach()[fresh_B].clamp_min(torch.finfo(margin_B.dtype).tiny)
        descent.look(step_B, active, margin_B, margin_B, len(labels_B))
        breaking.note(active, broken_B, step_B)
        better_B = broken_B | (margin_B.detach() < best_B[active])
        result[active[better_B]] = moved.detach()[better_B]
        best_B[active[better_B]] = margin_B.detach()[better_B]
        stays_B = ~broken_B & (step_B < steps)
        if stays_B.any():
            slope = gradient(margin_B / first_B[active] + tau / (height * width) * variation(flow), flow)[stays_B]
        active, flow, step_B = active[stays_B], flow.detach()[stays_B], step_B[stays_B] + 1
        adam.keep(stays_B)
        if len(active):
            flow = (flow + adam.step(slope, lr * far)).clamp(-far, far)
        if fresh := take(waiting, room, len(active)):
            active = torch.cat([active, torch.tensor(fresh, device=active.device)])
            flow, step_B = torch.cat([flow, _still(images_BCHW, len(fresh))]), F.pad(step_B, (0, len(fresh)))
            adam.grow(len(fresh))
    descent.tell(breaking.first_B == NEVER)
    breaking.tell(steps)
    return result


def warped(images_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """Each pixel from where the flow points, in pixels down and right, bilinear; from the border where that is outside."""
    height, width = images_BCHW.shape[-2:]
    down = torch.arange(height, device=flow_B2HW.device)[:, None] + flow_B2HW[:, 0]
    right = torch.arange(width, device=flow_B2HW.device) + flow_B2HW[:, 1]
    places = torch.stack([2 * right / max(width - 1, 1) - 1, 2 * down / max(height - 1, 1) - 1], dim=3)
    moved = F.grid_sample(images_BCHW, places, mode="bilinear", padding_mode="border", align_corners=True)
    return moved + (moved.clamp(0, 1) - moved).detach()  # rounding may pass a bound, where clamping alone has no slope


def variation(flow_B2HW: Tensor) -> Tensor:
    """The paper's equation 4, (B,): over all pixels and their neighbours below and to the right, the distance of flows.

    Each pair counts twice, once from either side, as there. Where two flows are equal the slope is zero.
    """
    below, beside = (
        (pair.square().sum(dim=1) + 1e-10).sqrt().flatten(1).sum(dim=1)
        for pair in (flow_B2HW.diff(dim=2), flow_B2HW.diff(dim=3))
    )
    return 2 * (below + beside)


def _still(images_BCHW: Tensor, images: int) -> Tensor:
    return images_BCHW.new_zeros(images, 2, *images_BCHW.shape[-2:])
