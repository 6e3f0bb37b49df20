"""Attention maps of a timm vision transformer, and the pixels behind its patch tokens.

timm's fused attention never forms the maps, so it is switched off for the layers that are looked at, on this
model only, and restored afterwards whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nsbench.errors import ModelError


def attention_modules(vit: Any) -> list[nn.Module]:
    """The attention module of each block, in depth order. Raises ModelError where there are none.

    An attention module has `fused_attn` to switch off and an `attn_drop` that its softmax output passes through
    (timm's Attention, EvaAttention, BEiT's Attention, ParallelScalingBlock, ...).
    """
    found = []
    for block in getattr(vit, "blocks", None) or ():
        inside = [m for m in block.modules() if hasattr(m, "fused_attn") and isinstance(m.attn_drop, nn.Module)]
        found += inside[:1]
    if not found:
        raise ModelError(f"{type(vit).__name__} has no attention maps (no blocks with attention): "
                         "attacks on attention need a timm vision transformer")
    return found


@contextmanager
def recorded_attention(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that each forward pass fills with the maps (B, heads, N, N) of these modules, in their order."""
    before = [module.fused_attn for module in modules]
    maps: list[Any] = [None] * len(modules)
    hooks = []
    try:
        for position, module in enumerate(modules):
            module.fused_attn = False  # type: ignore[assignment]
            hooks.append(module.attn_drop.register_forward_hook(_recorder(maps, position)))  # type: ignore
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
        for module, fused in zip(modules, before, strict=True):
            module.fused_attn = fused


def _recorder(maps: list[Any], position: int) -> Any:
    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        maps[position] = output

    return record


def patch_columns(vit: Any, attention_BHNN: Tensor | None, images_BCHW: Tensor) -> tuple[int, int, int]:
    """(number of prefix tokens, rows, columns of the patch grid), checked against the recorded map.

    The columns of class, distillation and register tokens come first and are no patches. Raises ModelError where
    the map is not one row and column per token of that grid.
    """
    patch_height, patch_width = patch_size(vit)
    rows, columns = -(-images_BCHW.shape[2] // patch_height), -(-images_BCHW.shape[3] // patch_width)
    prefix = int(getattr(vit, "num_prefix_tokens", 1))
    shape = None if attention_BHNN is None else tuple(attention_BHNN.shape)
    if shape is None or len(shape) != 4 or shape[2:] != (prefix + rows * columns,) * 2:
        raise ModelError(f"{type(vit).__name__}: attention maps of shape {shape} do not fit {prefix} prefix tokens "
                         f"and {rows} x {columns} patches; attacks on attention cannot run on it")
    return prefix, rows, columns


def patch_size(vit: Any) -> tuple[int, int]:
    """Height and width in pixels of one patch. Raises ModelError where the model does not say."""
    size = getattr(getattr(vit, "patch_embed", None), "patch_size", None)
    if size is None:
        raise ModelError(f"{type(vit).__name__} has no patch_embed.patch_size: attacks on patches need it")
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def patch_mask(patches_BK: Tensor, grid: tuple[int, int], size: tuple[int, int], images_BCHW: Tensor) -> Tensor:
    """True at the pixels of the patches with these indices (row by row), (B, 1, H, W)."""
    (rows, columns), (height, width) = grid, size
    cells = torch.zeros(len(patches_BK), rows * columns, dtype=torch.bool, device=patches_BK.device)
    cells = cells.scatter(1, patches_BK, True).view(-1, 1, rows, columns)
    pixels = cells.repeat_interleave(height, dim=2).repeat_interleave(width, dim=3)
    return pixels[:, :, : images_BCHW.shape[2], : images_BCHW.shape[3]]
