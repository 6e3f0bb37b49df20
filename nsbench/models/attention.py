"""Attention maps of a timm vision transformer, and the size of its patches.

timm's fused attention never forms the maps, so it is switched off for the layers whose maps are wanted, on this model
only, and switched on again afterwards, also when something is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nsbench.errors import ModelError
from nsbench.models.model import hooked


def patch_size(vit: Any) -> tuple[int, int]:
    """Height and width in pixels of what one token stands for. Raises ModelError where the model does not state it.

    Behind a convolutional network timm's patch_size counts cells of the feature map, of many pixels each.
    """
    embed = getattr(vit, "patch_embed", None)
    size = getattr(embed, "patch_size", None)
    if size is None:
        raise ModelError(f"{type(vit).__name__} has no patch_embed.patch_size: a plain vision transformer is needed")
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if hasattr(embed, "backbone"):
        cell = getattr(embed, "feature_ratio", None)
        if cell is None:
            raise ModelError(
                f"{type(vit).__name__} does not state how many pixels a cell of its feature map stands for"
            )
        return height * int(cell[0]), width * int(cell[1])
    return height, width


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
        raise ModelError(
            f"{type(vit).__name__} has no attention maps (no blocks with attention): "
            "a timm vision transformer is needed"
        )
    return found


@contextmanager
def recorded_attention(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that each forward pass fills with the maps (B, heads, N, N) of these modules, in their order.

    The map of a module that no pass has reached is an empty tensor.
    """
    maps = [torch.empty(0)] * len(modules)
    with ExitStack() as stack:
        for position, module in enumerate(modules):
            stack.callback(setattr, module, "fused_attn", module.fused_attn)
            setattr(module, "fused_attn", False)  # noqa: B010  # an assignment would have to be a tensor or a module
            stack.enter_context(hooked(attention_output(module), _recorder(maps, position)))
        yield maps


def attention_output(module: nn.Module) -> nn.Module:
    """The part of an attention module whose output is the attention map."""
    assert isinstance(module.attn_drop, nn.Module)
    return module.attn_drop


def _recorder(maps: list[Tensor], position: int) -> Callable[[nn.Module, Any, Tensor], None]:
    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        maps[position] = output

    return record
