"""The pixels behind the patch tokens of a timm vision transformer, and the columns of its attention maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nsbench.errors import ModelError
from nsbench.models.attention import attention_modules, patch_size, recorded_attention

__all__ = ["attention_modules", "patch_columns", "patch_mask", "patch_size", "recorded_attention"]


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
