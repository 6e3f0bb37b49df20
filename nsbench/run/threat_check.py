"""Whether the images that an attack returned are ones that its threat model allows.

Shapes: B images of a batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, isfinite
from typing import TYPE_CHECKING

import torch

from nsbench import registry
from nsbench.errors import AttackError, UsageError
from nsbench.models.attention import patch_size
from nsbench.types import Condition, ThreatModel

if TYPE_CHECKING:
    from nsbench.models import Model

NORM_OF: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {  # of the changes of B images, (B, N)
    "linf": lambda change_BN: change_BN.abs().amax(dim=1),
    "l2": lambda change_BN: change_BN.norm(dim=1),
    "l1": lambda change_BN: change_BN.double().abs().sum(dim=1),
}
KNOWN = (*NORM_OF, "patch", "square", "flow")  # the norms of threat models
TOLERANCE = 1e-5  # relative room for float32 rounding in a norm; 1/255 of a grey level is 4e-3


def bound_of(condition: Condition) -> str:
    """The norm that `threat.eps` is in: the threat's own; of a bounded patch the one that the setting `bound` names."""
    assert condition.attack is not None
    assert condition.threat is not None
    if condition.threat.norm != "patch":
        return condition.threat.norm
    stated = registry.attacks[condition.attack].parameters.get("bound")
    default = None if stated is None or stated.default is stated.empty else stated.default
    return str(condition.params.get("bound", default) or condition.threat.norm)


def check_threat_model(condition: Condition) -> None:
    """Raises UsageError for a threat model that says nothing definite, so that its budget could not be checked."""
    threat, where = condition.threat, f"condition '{condition.name}'"
    assert threat is not None
    if threat.norm not in KNOWN:
        raise UsageError(f"{where}: norm '{threat.norm}' is none of {', '.join(KNOWN)}")
    if threat.eps is not None and not (isfinite(threat.eps) and threat.eps >= 0):
        raise UsageError(f"{where}: eps {threat.eps} is no budget; give a number of at least 0, or None for no bound")
    if threat.norm == "patch" and threat.patches < 1:
        raise UsageError(f"{where}: {threat.patches} patches may be replaced; give patches=1 or more")
    if threat.norm in ("square", "flow") and not 0 < threat.share <= 1:
        raise UsageError(f"{where}: share {threat.share:g} of an image's side; give a share above 0 and up to 1")
    if threat.eps is not None and bound_of(condition) not in NORM_OF:
        how = "say it by the attack's setting bound" if threat.norm == "patch" else "leave eps out"
        raise UsageError(f"{where}: nothing says which norm eps {threat.eps:g} is in ({', '.join(NORM_OF)}); {how}")


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
    if threat.norm == "square":
        side = threat.pixels(images_BCHW.shape[-2:])
        problems[f"changes outside of one square of {side} pixels"] = _extent(adversarial_BCHW - images_BCHW) > side
    if threat.norm == "flow":
        far = ceil(threat.share * max(images_BCHW.shape[-2:]))
        problems[f"values that no pixel within {far} has"] = _out_of_reach(images_BCHW, adversarial_BCHW, far)
    if threat.eps is not None:
        norms = NORM_OF[bound](difference)
        limit = str(ThreatModel(bound, threat.eps))
        problems[f"a change beyond {limit}"] = norms > threat.eps * (1 + TOLERANCE) + 1e-6
    for what, bad in problems.items():
        if bad.any():
            raise AttackError(
                f"attack '{attack}' returned {what} for image '{ids[int(bad.nonzero()[0])]}'; its result is not counted"
            )


def _extent(difference_BCHW: torch.Tensor) -> torch.Tensor:
    """Of each image, the side of the smallest square that holds all changed pixels; 0 where there are none."""
    changed_BHW = (difference_BCHW != 0).any(dim=1)
    sides = []
    for changed_BN in (changed_BHW.any(dim=2), changed_BHW.any(dim=1)):
        first, last = changed_BN.int().argmax(dim=1), changed_BN.int().flip(1).argmax(dim=1)
        sides.append((changed_BN.shape[1] - last - first) * changed_BN.any(dim=1))
    return torch.maximum(*sides)


def _out_of_reach(images_BCHW: torch.Tensor, adversarial_BCHW: torch.Tensor, far: int) -> torch.Tensor:
    """Where a value lies outside of what the clean image has within `far` pixels: no interpolation between them gives it.

    A flow of that length cannot do more; whether some flow gives the whole image is not asked.
    """
    highest, lowest = (
        torch.nn.functional.max_pool2d(values, 2 * far + 1, stride=1, padding=far)
        for values in (images_BCHW, -images_BCHW)
    )
    outside = (adversarial_BCHW > highest + TOLERANCE) | (adversarial_BCHW < -lowest - TOLERANCE)
    return outside.flatten(1).any(dim=1)


def _patches_changed(difference_BCHW: torch.Tensor, model: Model) -> torch.Tensor:
    """Number of patches of the model's own grid that hold any changed pixel, per image."""
    height, width = patch_size(model.vit)
    changed = (difference_BCHW != 0).any(dim=1, keepdim=True).float()
    return torch.nn.functional.max_pool2d(changed, (height, width), ceil_mode=True).flatten(1).sum(dim=1)
