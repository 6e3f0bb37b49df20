"""AutoAttack (Croce and Hein 2020, arXiv:2003.01690), standard version, in batches that move no outcome.

APGD on the cross-entropy, targeted APGD on the DLR ratio, targeted FAB, and Square with 5,000 queries; each attacks
what the ones before left robust. In l1 (arXiv:2103.01208) APGD has five restarts, and five targets. pyautoattack draws
for a whole batch, and Square's draws even follow which neighbours are still robust, so that an outcome depends on the
batch. Here every image has a stream of draws of its own, in each of the four the one that pyautoattack has for a batch
of this one image: what stays robust is what stays robust there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nsbench.attacks.apgd import climb, climb_passes
from nsbench.attacks.apgd_l1 import climb_l1_passes
from nsbench.attacks.common import (
    PROJECT,
    check_threat,
    likely_targets,
    logits_of,
    misclassified,
    most_targets,
    require_classes,
    stream,
)
from nsbench.attacks.fab import approach, approach_passes
from nsbench.attacks.square import search, search_passes
from nsbench.models.model import frozen
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

STEPS, TARGETS, QUERIES = 100, 9, 5000  # of the standard version
RESTARTS_L1, TARGETS_L1 = 5, 5  # of APGD and of targeted APGD in l1
Part = Callable[[Tensor, Tensor, Tensor, Sequence[torch.Generator]], tuple[Tensor, Tensor]]


def _passes(model: object, *, threat: ThreatModel, **_: object) -> Passes:
    if threat.norm == "l1":
        climbs = climb_l1_passes(RESTARTS_L1 + most_targets(model, TARGETS_L1), STEPS)
    else:
        climbs = climb_passes(1 + most_targets(model, TARGETS), STEPS)
    return Passes(1) + climbs + approach_passes(most_targets(model, TARGETS), STEPS) + search_passes(QUERIES)


@attack(loss="cross-entropy, targeted DLR, FAB-T, Square", start="random in the budget", passes=_passes)
def autoattack(
    model: nn.Module,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    early_stop: bool = True,
    batch_size: int | None = None,
) -> Tensor:
    """The standard version at `threat.eps`, l-inf, l2 or l1.

    Returns an adversarial image for each image that one of the four attacks broke, and the image itself, unchanged,
    where all four failed (or it already was misclassified). An image leaves with its first misclassified iterate within
    the budget; pyautoattack goes on and keeps the last one (FAB: the nearest one), as `early_stop=False` does: the
    same images are broken, at many times the cost. With fewer than ten classes all others are targets; with fewer than
    four the targeted DLR loss is not defined, which raises UsageError, as another norm does.
    """
    eps = check_threat("autoattack", threat, ["linf", "l2", "l1"])
    result = images_BCHW.clone()
    with frozen(model):
        logits_BK = logits_of(model, images_BCHW, batch_size)
        require_classes("autoattack", logits_BK.shape[1])
        targets_BT = likely_targets(logits_BK, TARGETS)
        left = (~misclassified(logits_BK, labels_B)).nonzero().squeeze(1)
        for part in _parts(model, threat.norm, eps, early_stop, batch_size):
            streams = [stream(seed, "autoattack", ids[i]) for i in left.tolist()]
            found, broken_B = part(images_BCHW[left], labels_B[left], targets_BT[left], streams)
            result[left] = found
            left = left[~broken_B]
    return PROJECT[threat.norm](result, images_BCHW, eps)  # takes back at most a rounding error


def _parts(model: nn.Module, norm: str, eps: float, early_stop: bool, batch_size: int | None) -> list[Part]:
    """The four attacks, in their order: `part(images, labels, targets, streams)` gives images, and which are broken."""

    restarts, climbed = (RESTARTS_L1, TARGETS_L1) if norm == "l1" else (1, TARGETS)

    def apgd_ce(images: Tensor, labels: Tensor, _: Tensor, streams: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        return climb(model, images, labels, streams, norm, eps, None, restarts, STEPS, early_stop, batch_size)

    def apgd_t(
        images: Tensor, labels: Tensor, targets: Tensor, streams: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        some = targets[:, :climbed]
        return climb(model, images, labels, streams, norm, eps, some, some.shape[1], STEPS, early_stop, batch_size)

    def fab_t(images: Tensor, labels: Tensor, targets: Tensor, _: object) -> tuple[Tensor, Tensor]:
        return approach(model, images, labels, targets, norm, eps, STEPS, early_stop, batch_size)

    def square(images: Tensor, labels: Tensor, _: Tensor, streams: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        return search(model, images, labels, streams, norm, eps, QUERIES, batch_size)

    return [apgd_ce, apgd_t, fab_t, square]
