"""AutoAttack (Croce and Hein 2020, arXiv:2003.01690), standard version, through pyautoattack.

APGD on the cross-entropy, targeted APGD on the DLR ratio, targeted FAB, and Square with 5,000 queries; each attacks
what the ones before left robust. pyautoattack seeds the global generator once per batch and draws for the whole
batch, and Square's draws even follow which neighbours are still robust, so that an outcome depends on the batch. Here
every image is a batch of its own with a seed of its own: the same algorithm and settings, slower on a GPU, and the
same outcome in whatever batch, order or shard the image comes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nsbench.attacks.common import check_threat, misclassified, project_l2, project_linf
from nsbench.errors import UsageError
from nsbench.models.model import frozen
from nsbench.randomness import derive_seed, global_generators_kept
from nsbench.registry import attack
from nsbench.types import ThreatModel

NORMS = {"linf": "Linf", "l2": "L2"}
FEWEST_CLASSES = 4  # the targeted DLR loss looks at the four largest logits


@attack(loss="cross-entropy, targeted DLR, FAB-T, Square", start="random in the budget", library="pyautoattack")
def autoattack(
    model: nn.Module,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
) -> Tensor:
    """The standard version at `threat.eps`, l-inf or l2; one image at a time, seeded by (seed, image id).

    Returns an adversarial image for each image that one of the four attacks broke, and the image itself, unchanged,
    where all four failed (or it already was misclassified). With fewer than ten classes all others are targets; with
    fewer than four the targeted DLR loss is not defined, which raises UsageError, as another norm does. The
    global generators of torch, NumPy and Python are restored.
    """
    eps = check_threat("autoattack", threat, list(NORMS))
    result = images_BCHW.clone()
    with frozen(model), global_generators_kept(images_BCHW.device), _trace_kept():
        with torch.no_grad():
            logits_BK = model(images_BCHW)
        classes = logits_BK.shape[1]
        if classes < FEWEST_CLASSES:
            raise UsageError(
                f"autoattack: the model has {classes} classes, and the targeted DLR loss needs "
                f"{FEWEST_CLASSES}; use pgd"
            )
        for i in (~misclassified(logits_BK, labels_B)).nonzero().squeeze(1).tolist():
            standard = standard_version(
                model, threat.norm, eps, derive_seed(seed, "autoattack", ids[i]), classes, images_BCHW.device
            )
            result[i] = standard.run_standard_evaluation(images_BCHW[i : i + 1], labels_B[i : i + 1], batch_size=1)[0]
    project = project_linf if threat.norm == "linf" else project_l2
    return project(result, images_BCHW, eps)  # takes back at most a rounding error


def standard_version(model: nn.Module, norm: str, eps: float, seed: int, classes: int, device: torch.device) -> Any:
    """pyautoattack's standard version, silent, with at most nine targets and never more than there are."""
    from pyautoattack import AutoAttack

    standard = AutoAttack(model, norm=NORMS[norm], eps=eps, seed=seed % 2**32, version="standard", device=device)
    standard.logger = standard.apgd.logger = standard.apgd_targeted.logger = _silent()
    standard.apgd_targeted.n_target_classes = standard.fab.n_target_classes = min(9, classes - 1)
    return standard


def _silent() -> logging.Logger:
    """A logger that belongs to no hierarchy: the checks behind pyautoattack's warnings are the harness' own."""
    logger = logging.Logger("autoattack")
    logger.addHandler(logging.NullHandler())
    return logger


@contextmanager
def _trace_kept() -> Iterator[None]:
    """The trace function, which pyautoattack's check for dynamic models removes, is put back."""
    trace = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(trace)
