"""A source image that looks like a target to people and stays the source to the model (arXiv 2403.10476, appendix F).

The change from source to target is replaced by the nearest one inside the nullspace of the patch embedding, so tokens,
prediction and every saliency map computed from tokens remain the source's. No gradient is needed, and no step counts.
Shapes: B pairs of images (B, 3, H, W) in [0, 1], h x w the grid of patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nsbench.models import Model, frozen
from nsbench.nullspace.exact import PatchNullspace
from nsbench.nullspace.least_squares import edit
from nsbench.nullspace.saliency import SALIENCY, saliency
from nsbench.nullspace.similarity import correlation, psnr, rank_correlation, ssim

ROLES = ("source", "disguised", "target")


@dataclass(frozen=True)
class Disguised:
    """Disguised images, and for source, disguised image and target the predictions and saliency maps."""

    images_BCHW: Tensor
    figures: list[dict[str, Any]]  # one record a pair, see `disguise`
    maps: dict[str, Tensor]  # method -> (3, B, h, w): of source, disguised, target


def disguise(
    model: Model,
    nullspace: PatchNullspace,
    source_BCHW: Tensor,
    target_BCHW: Tensor,
    *,
    bounded: bool = True,
    methods: Sequence[str] = tuple(SALIENCY),
) -> Disguised:
    """Make each source look like its target within the nullspace.

    Each map explains the class that the model assigns to the source, so that maps differ by the image alone. A record
    holds `prediction` and `confidence` of each role (`confidence`: of the role's own class; `source_class_confidence`
    of the source's class), `logit_change` (largest, disguised against source), `approach` = 1 - |disguised - target| /
    |source - target| (l2: 0 unchanged, 1 the target), PSNR (dB) and SSIM of the disguised image to both, and for each
    saliency method Pearson's and Spearman's correlation of the disguised image's map with the source's and with the
    target's. Raises UsageError where sources and targets differ in shape.
    """
    edited_BCHW = edit(nullspace, source_BCHW, target_BCHW, bounded=bounded)
    images = dict(zip(ROLES, (source_BCHW, edited_BCHW, target_BCHW), strict=True))
    with frozen(model), torch.no_grad():
        logits = {role: model(part) for role, part in images.items()}
    explained_B = logits["source"].argmax(dim=1)
    maps = {
        method: torch.stack([saliency(model, part, method, explained_B) for part in images.values()])
        for method in methods
    }
    figures = [
        _predictions(logits, index) | _looks(images, index) | _focus(maps, index) for index in range(len(source_BCHW))
    ]
    return Disguised(edited_BCHW, figures, maps)


def _predictions(logits: dict[str, Tensor], index: int) -> dict[str, Any]:
    rows = {role: part[index] for role, part in logits.items()}
    own = int(rows["source"].argmax())
    record: dict[str, Any] = {
        "prediction": {role: int(row.argmax()) for role, row in rows.items()},
        "confidence": {role: float(row.softmax(0).max()) for role, row in rows.items()},
        "source_class_confidence": {role: float(row.softmax(0)[own]) for role, row in rows.items()},
    }
    record["label_match"] = record["prediction"]["disguised"] == own
    record["logit_change"] = float((rows["disguised"] - rows["source"]).abs().max())
    return record


def _looks(images: dict[str, Tensor], index: int) -> dict[str, Any]:
    source, edited, target = (images[role][index] for role in ROLES)
    distance = float((source - target).norm())
    return {
        "approach": 1 - float((edited - target).norm()) / distance if distance else 0.0,
        "psnr": {"source": psnr(source, edited), "target": psnr(target, edited)},
        "ssim": {"source": ssim(source, edited), "target": ssim(target, edited)},
    }


def _focus(maps: dict[str, Tensor], index: int) -> dict[str, Any]:
    found = {}
    for method, maps_3Bhw in maps.items():
        source, edited, target = maps_3Bhw[:, index]
        found[method] = {
            "source": correlation(source, edited),
            "target": correlation(target, edited),
            "source_rank": rank_correlation(source, edited),
            "target_rank": rank_correlation(target, edited),
        }
    return {"saliency": found}
