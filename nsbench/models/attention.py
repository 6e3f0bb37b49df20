"""Attention maps of a timm vision transformer.

timm's fused attention never forms the maps, so it is switched off for the layers that are looked at, on this
model only, and restored afterwards whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
        raise ModelError(
            f"{type(vit).__name__} has no attention maps (no blocks with attention): "
            "a timm vision transformer is needed"
        )
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
