"""Fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572, section 4).

Own code, because torchattacks.FGSM takes the gradient of a batch mean, which in half precision is zero where it is small,
and for more pixels the more images there are; in float32 the images are its, which a test holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor

from nsbench.attacks.common import Classifier, averaged, check_passes, check_threat, project_linf
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel


@attack(
    steps=1,
    loss="cross-entropy",
    start="the image",
    passes=lambda model, *, eot, **_: Passes(eot, eot),
)
@torch.enable_grad()
def fgsm(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    eot: PositiveInt = 1,
) -> Tensor:
    """One step of size eps along the sign of the cross-entropy's gradient at the true label; l-inf.

    Nothing is drawn: `ids` and `seed` have no effect. With `eot` above 1 the gradient is the mean of so many passes of a
    model that draws. Raises UsageError for another norm.
    """
    check_passes("fgsm", eot)
    eps = check_threat("fgsm", threat, ["linf"])
    variable = images_BCHW.detach().requires_grad_()
    _, _, slope = averaged(model, variable, labels_B, eot)
    return project_linf(images_BCHW + eps * slope().sign(), images_BCHW, eps)
