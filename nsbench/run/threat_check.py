"""Whether the images that an attack returned are ones that its threat model allows.

Shapes: B images of a batch, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsbench.errors import AttackError
from nsbench.models.attention import patch_size
from nsbench.types import ThreatModel

if TYPE_CHECKING:
    from nsbench.models import Model

TOLERANCE = 1e-5  # relative room for float32 rounding in a norm; 1/255 of a grey level is 4e-3


def check_adversarial(
    images_BCHW: torch.Tensor,
    adversarial_BCHW: torch.Tensor,
    threat: ThreatModel,
    ids: list[str],
    attack: str,
    model: Model,
    bound: str,
) -> None:
    """Raise AttackError, naming the first image, unless everything that came back is what the threat model allows.

    `bound` is the norm that `threat.eps` is in: the threat's own, or the one of the change of a bounded patch.
    """
    if adversarial_BCHW.shape != images_BCHW.shape:
        raise AttackError(
            f"attack '{attack}' returned shape {tuple(adversarial_BCHW.shape)} "
            f"for images of shape {tuple(images_BCHW.shape)}"
        )
    difference = (adversarial_BCHW - images_BCHW).flatten(1)
    pixels = adversarial_BCHW.flatten(1)
    problems = {
        "values that are not finite": ~torch.isfinite(pixels).all(dim=1),
        "pixels outside [0, 1]": ((pixels < -TOLERANCE) | (pixels > 1 + TOLERANCE)).any(dim=1),
    }
    if threat.norm == "patch":
        changed = _patches_changed(adversarial_BCHW - images_BCHW, model)
        problems[f"changes in more than {threat.patches} patches"] = changed > threat.patches
    if threat.eps is not None:
        norms = difference.abs().amax(dim=1) if bound == "linf" else difference.norm(dim=1)
        limit = str(ThreatModel(bound, threat.eps))
        problems[f"a change beyond {limit}"] = norms > threat.eps * (1 + TOLERANCE) + 1e-6
    for what, bad in problems.items():
        if bad.any():
            raise AttackError(
                f"attack '{attack}' returned {what} for image '{ids[int(bad.nonzero()[0])]}'; its result is not counted"
            )


def _patches_changed(difference_BCHW: torch.Tensor, model: Model) -> torch.Tensor:
    """Number of patches of the model's own grid that hold any changed pixel, per image."""
    height, width = patch_size(model.vit)
    changed = (difference_BCHW != 0).any(dim=1, keepdim=True).float()
    return torch.nn.functional.max_pool2d(changed, (height, width), ceil_mode=True).flatten(1).sum(dim=1)
