"""A square of any content at any place (Brown et al. 2017, arXiv:1712.09665; LaVAN: Karmon et al. 2018, arXiv:1801.02608).

Unlike Patch-Fool it knows nothing of the model's patches: places are drawn, and the content ascends the cross-entropy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from nsbench.attacks.common import Classifier, check_passes, check_threat, uniform
from nsbench.attacks.pgd import Job, ascend, ascent_passes
from nsbench.registry import attack
from nsbench.types import ThreatModel


@attack(loss="cross-entropy", start="uniform in the square", passes=ascent_passes)
@torch.enable_grad()
def patch(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: PositiveInt = 50,
    step_size: PositiveFloat = 0.05,
    restarts: PositiveInt = 5,
    eot: PositiveInt = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Learn the content of a square by sign steps of `step_size`, at one place after another: `restarts` of them.

    The square's side is `threat.share` of the image's, in whole pixels. Each place is drawn from (seed, image id), equally
    likely wherever the square lies inside the image, and its content starts uniform in [0, 1]. An image leaves with its
    first misclassified iterate, else with the last one of the place with the highest loss. `eot` is that of PGD.
    Raises UsageError for a threat model that is no square.
    """
    check_threat("patch", threat, ["square"], bounded=False)
    check_passes("patch", eot)

    def starts(jobs: Sequence[Job]) -> Tensor:
        return torch.cat([_start(images_BCHW[i : i + 1], [ids[i]], seed, place, threat) for i, place in jobs])

    def step(current: Tensor, slope: Tensor, clean: Tensor, jobs: Sequence[Job]) -> Tensor:
        inside = torch.cat([square(clean[:1], [ids[i]], seed, place, threat) for i, place in jobs])
        return torch.where(inside, (current + step_size * slope.sign()).clamp(0, 1), clean)

    return ascend(model, images_BCHW, labels_B, starts, step, steps, restarts, True, eot, batch_size)


def square(image_1CHW: Tensor, ids: Sequence[str], seed: int, place: int, threat: ThreatModel) -> Tensor:
    """Which pixels the image's square of this number holds, (1, 1, H, W) bool."""
    height, width = image_1CHW.shape[-2:]
    side = threat.pixels((height, width))
    draws = uniform(image_1CHW.new_empty(1, 2), ids, seed, "patch place", place)[0].tolist()
    top, left = (int(draw * (length - side + 1)) for draw, length in zip(draws, (height, width), strict=True))
    inside = torch.zeros(1, 1, height, width, dtype=torch.bool, device=image_1CHW.device)
    inside[..., top : top + side, left : left + side] = True
    return inside


def _start(image_1CHW: Tensor, ids: Sequence[str], seed: int, place: int, threat: ThreatModel) -> Tensor:
    content = uniform(image_1CHW, ids, seed, "patch content", place)
    return torch.where(square(image_1CHW, ids, seed, place, threat), content, image_1CHW)
