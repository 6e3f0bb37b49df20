"""Patch-Fool (Fu et al. 2022, ICLR, arXiv:2203.08392): replace the most attended patches by learned ones.

Differs from the authors' code where that is wrong: the PCGrad projection divides by ||g||^2 (arXiv:2001.06782,
algorithm 1), every chosen patch enters the attention term, patch size and number of tokens come from the model,
the best iterate is kept, and an image leaves as soon as it is misclassified.

Shape legend: B images, C channels, H x W pixels, K chosen patches, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nsbench.attacks.attention import attention_modules, patch_columns, patch_mask, patch_size, recorded_attention
from nsbench.attacks.common import Adam, check_threat, cross_entropy, gradient, misclassified, per_image, uniform
from nsbench.errors import UsageError
from nsbench.registry import attack
from nsbench.types import ThreatModel


@attack
@torch.enable_grad()
def patchfool(
    model: Any,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: int = 250,
    lr: float = 0.22,
    decay: float = 0.95,
    decay_every: int = 10,
    select_layer: int = 4,
    attention_weight: float = 0.002,
) -> Tensor:
    """Replace `threat.patches` patches of each image by content that Adam learns from a uniform start.

    The patches are those that layer `select_layer` (from 0; the last, where there are fewer) of the clean image
    attends to most, mean over heads and query rows. Ascends the cross-entropy plus `attention_weight` times the
    mean log attention to the patches in each layer of the network's first half but the first (1 to 5 of 12).
    Returns the first misclassified iterate, else the one of the highest cross-entropy; an image that the model
    already gets wrong comes back unchanged. `lr` is in [0, 1] pixels, whatever the model's normalisation; the
    authors' code takes the same number on pixels divided by ImageNet's deviation (here `lr=0.05`), which took an
    ImageNet ViT-Tiny three times the steps. `model` is a timm vision transformer or has one as `model.vit`.
    Raises ModelError where there are no attention maps, UsageError for another threat model.
    """
    check_threat("patchfool", threat, ["patch"], bounded=False)
    vit = getattr(model, "vit", model)
    modules = attention_modules(vit)
    wrong_B, columns_BK, mask = _choose(model, vit, modules, select_layer, threat.patches, images_BCHW, labels_B)
    result, best_B = images_BCHW.clone(), torch.full_like(images_BCHW[:, 0, 0, 0], -torch.inf)
    active = (~wrong_B).nonzero().squeeze(1)
    content = uniform(images_BCHW, ids, seed, "patchfool")[active]
    adam = Adam(content)
    watched = modules[1 : max(2, len(modules) // 2)] if attention_weight else []
    with recorded_attention(watched) as maps:
        for step in range(steps + 1):
            if not len(active):
                break
            content = content.detach().requires_grad_(step < steps)
            adversarial = torch.where(mask[active], content, images_BCHW[active])
            logits_BK = model(adversarial)
            loss_B, broken_B = cross_entropy(logits_BK, labels_B[active]), misclassified(logits_BK, labels_B[active])
            better_B = broken_B | (loss_B > best_B[active])
            result[active[better_B]] = adversarial.detach()[better_B]
            best_B[active[better_B]] = loss_B.detach()[better_B]
            if step == steps or broken_B.all():
                break
            slope = _ascent(loss_B, maps, columns_BK[active], content, attention_weight)[~broken_B]
            active, content = active[~broken_B], content.detach()[~broken_B]
            adam.keep(~broken_B)
            content = (content - adam.step(slope, lr * decay ** (step // decay_every))).clamp(0, 1)  # ascends
    return result


def _choose(
    model: Any, vit: Any, modules: Sequence[Any], layer: int, patches: int, images_BCHW: Tensor, labels_B: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the clean images: misclassified (B,), attention columns of the chosen patches (B, K), their pixels."""
    with recorded_attention([modules[min(layer, len(modules) - 1)]]) as maps, torch.no_grad():
        wrong_B = misclassified(model(images_BCHW), labels_B)
    prefix, rows, columns = patch_columns(vit, maps[0], images_BCHW)
    if not 1 <= patches <= rows * columns:
        raise UsageError(f"patchfool: {patches} patches asked for, the model has {rows * columns}; give 1 or more")
    attention_BN = maps[0].mean(dim=(1, 2))[:, prefix:]
    chosen_BK = attention_BN.topk(patches, dim=1).indices
    return wrong_B, chosen_BK + prefix, patch_mask(chosen_BK, (rows, columns), patch_size(vit), images_BCHW)


def _ascent(loss_B: Tensor, maps: Sequence[Tensor], columns_BK: Tensor, content: Tensor, weight: float) -> Tensor:
    """Direction of ascent: the cross-entropy's gradient plus each layer's projected attention gradient."""
    slope = gradient(loss_B, content, retain_graph=bool(maps))
    total = slope
    for position, attention_BHNN in enumerate(maps):
        paid_BNK = attention_BHNN.mean(dim=1).gather(2, columns_BK[:, None].expand(-1, attention_BHNN.shape[2], -1))
        term_B = paid_BNK.clamp_min(1e-30).log().mean(dim=(1, 2))
        pull = gradient(term_B, content, retain_graph=position < len(maps) - 1)
        total = total + weight * project_conflict(pull, slope)
    return total


def project_conflict(pull: Tensor, slope: Tensor) -> Tensor:
    """PCGrad: where <pull, slope> < 0, remove from `pull` its component along `slope`, per image."""
    largest_B = slope.flatten(1).abs().amax(dim=1)
    unit = slope / per_image(largest_B.clamp_min(1e-37), slope)  # a saturated model's slope squared underflows
    inner_B = (pull * unit).flatten(1).sum(dim=1).clamp(max=0)
    square_B = unit.square().flatten(1).sum(dim=1).clamp_min(1e-12)
    return pull - per_image(inner_B / square_B, unit) * unit
