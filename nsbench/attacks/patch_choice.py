"""Which patches of an image to attack: the most attended, the most salient, or random ones; and where they lie.

Shape legend: B images, C channels, H x W pixels, K chosen patches, N patches or, of attention maps, tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.attacks.common import cross_entropy, gradient, misclassified, uniform
from nsbench.errors import ModelError, UsageError
from nsbench.models.attention import patch_size, recorded_attention

CHOICES = ("attention", "saliency", "random")


def choose_patches(
    model: Any,
    modules: Sequence[Any],
    select: str,
    layer: int,
    patches: int,
    images_BCHW: Tensor,
    labels_B: Tensor,
    ids: Sequence[str],
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the clean images: misclassified (B,), attention columns of the chosen patches (B, K), their pixels' mask.

    "attention": the patches that the module `layer` (from 0; the last, where there are fewer) attends to most, mean
    over heads and query rows; "saliency": those with the largest sum of the cross-entropy's absolute gradient over
    their pixels; "random": drawn from (seed, image id). Raises UsageError for another choice or number of patches.
    """
    if select not in CHOICES:
        raise UsageError(f"patchfool: patches cannot be chosen by '{select}'; give {', '.join(CHOICES)}")
    vit = getattr(model, "vit", model)
    variable = images_BCHW.detach().requires_grad_(select == "saliency")
    looked_at = [modules[min(layer, len(modules) - 1)]]
    with recorded_attention(looked_at) as maps, torch.set_grad_enabled(select == "saliency"):
        logits_BK = model(variable)
    prefix, rows, columns = patch_columns(vit, maps[0], images_BCHW)
    if not 1 <= patches <= rows * columns:
        raise UsageError(f"patchfool: {patches} patches asked for, the model has {rows * columns}; give 1 or more")
    if select == "attention":
        scores_BN = maps[0].mean(dim=(1, 2))[:, prefix:]
    elif select == "saliency":
        scores_BN = _per_patch(gradient(cross_entropy(logits_BK, labels_B), variable).abs(), patch_size(vit))
    else:
        scores_BN = uniform(images_BCHW.new_empty(len(ids), rows * columns), ids, seed, "patchfool patches")
    chosen_BK = scores_BN.topk(patches, dim=1).indices
    mask = patch_mask(chosen_BK, (rows, columns), patch_size(vit), images_BCHW)
    return misclassified(logits_BK, labels_B), chosen_BK + prefix, mask


def _per_patch(values_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Sums over the pixels and channels of each patch, row by row, (B, N); patches at the edges may be cut."""
    return F.avg_pool2d(values_BCHW.sum(dim=1, keepdim=True), size, ceil_mode=True, divisor_override=1).flatten(1)


def patch_columns(vit: Any, attention_BHNN: Tensor, images_BCHW: Tensor) -> tuple[int, int, int]:
    """(number of prefix tokens, rows, columns of the patch grid), checked against the recorded map.

    The columns of class, distillation and register tokens come first and are no patches. Raises ModelError where
    the map is not one row and column per token of that grid.
    """
    patch_height, patch_width = patch_size(vit)
    rows, columns = -(-images_BCHW.shape[2] // patch_height), -(-images_BCHW.shape[3] // patch_width)
    prefix = int(getattr(vit, "num_prefix_tokens", 1))
    shape = tuple(attention_BHNN.shape)
    if len(shape) != 4 or shape[2:] != (prefix + rows * columns,) * 2:
        raise ModelError(
            f"{type(vit).__name__}: attention maps of shape {shape} do not fit {prefix} prefix tokens "
            f"and {rows} x {columns} patches; attacks on attention cannot run on it"
        )
    return prefix, rows, columns


def patch_mask(patches_BK: Tensor, grid: tuple[int, int], size: tuple[int, int], images_BCHW: Tensor) -> Tensor:
    """True at the pixels of the patches with these indices (row by row), (B, 1, H, W)."""
    (rows, columns), (height, width) = grid, size
    cells = torch.zeros(len(patches_BK), rows * columns, dtype=torch.bool, device=patches_BK.device)
    cells = cells.scatter(1, patches_BK, True).view(-1, 1, rows, columns)
    pixels = cells.repeat_interleave(height, dim=2).repeat_interleave(width, dim=3)
    return pixels[:, :, : images_BCHW.shape[2], : images_BCHW.shape[3]]
