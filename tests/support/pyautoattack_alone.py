"""pyautoattack by itself, as the reference of AutoAttack and its four parts: one image at a time, or a whole batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from nsbench.models import frozen
from nsbench.randomness import derive_seed, global_generators_kept

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def standard_version(
    model: nn.Module, norm: str, eps: float, seed: int, classes: int, device: torch.device
) -> AutoAttack:
    """The standard version, silent, with at most nine targets and never more than there are."""
    standard = AutoAttack(model, norm=NORMS[norm], eps=eps, seed=seed, version="standard", device=device)
    logger = logging.Logger("autoattack")
    logger.addHandler(logging.NullHandler())
    standard.logger = standard.apgd.logger = standard.apgd_targeted.logger = logger
    for part in (standard.apgd_targeted, standard.fab):  # nine, or five of the former in l1
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    standard.apgd.loss, standard.fab.targeted = "ce", True
    return standard


def image_by_image(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    norm: str,
    eps: float,
    classes: int,
    name: str = "autoattack",
    *,
    part: str = "",
    **settings: int,
) -> Tensor:
    """Each image a batch of its own with the seed of (0, `name`, its id): all four attacks, or a `part` of them.

    A part is "apgd", "apgd_targeted", "fab" or "square", with these attributes of pyautoattack's.
    """
    found = []
    with global_generators_kept(), frozen(model):
        for i, one in enumerate(ids):
            standard = standard_version(model, norm, eps, derive_seed(0, name, one) % 2**32, classes, images.device)
            image, label = images[i : i + 1].clone(), labels[i : i + 1].clone()
            if not part:
                found.append(standard.run_standard_evaluation(image, label, batch_size=1)[0])
                continue
            alone = getattr(standard, part)
            for attribute, value in settings.items():
                setattr(alone, attribute, value)
            found.append(alone.perturb(image, label).detach())
    return torch.cat(found)
