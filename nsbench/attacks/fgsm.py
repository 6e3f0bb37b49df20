"""Fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572, section 4), through torchattacks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nsbench.attacks.common import Classifier, averaged, check_passes, check_threat, project_linf
from nsbench.files import importing
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel


@attack(
    steps=1,
    loss="cross-entropy",
    start="the image",
    library="torchattacks",
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
    eot: int = 1,
) -> Tensor:
    """One step of size eps along the sign of the cross-entropy's gradient at the true label; l-inf.

    torchattacks.FGSM is right and batch-independent (its loss is a batch mean, which does not change the sign), so it
    does the work; nothing is drawn, so `ids` and `seed` have no effect. With `eot` above 1 the gradient is the mean of so
    many passes of a model that draws. Raises UsageError for another norm.
    """
    check_passes("fgsm", eot)
    with importing():  # here because it takes most of a second
        import torchattacks

    eps = check_threat("fgsm", threat, ["linf"])
    if eot > 1:
        variable = images_BCHW.detach().requires_grad_()
        _, _, slope = averaged(model, variable, labels_B, eot)
        return project_linf(images_BCHW + eps * slope().sign(), images_BCHW, eps)
    step = torchattacks.FGSM(model, eps=eps)
    step.set_device(images_BCHW.device)  # it would look at the first parameter, which a model need not have
    return project_linf(step(images_BCHW, labels_B), images_BCHW, eps)
