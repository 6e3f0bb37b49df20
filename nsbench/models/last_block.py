"""The last block for the class token alone.

A transformer that pools by its class token drops every other token after its last block. So in that block the queries,
the projection and the MLP of those tokens change nothing, and one query needs neither keys nor values: leaving them out
saves nearly a block. The logits are the same up to rounding. Noise learning, training and the search of attacks use the
short form; what is said of an image, attacked or not, is said by the whole model.

Shapes: B images, T tokens with the class token first, D embedding width, H heads of width d.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn
from torch.nn.functional import linear

from nsbench.models.faster import TokenLinear

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ClassTokenBlock(Block):  # type: ignore[misc]  # timm has no types
    """timm's block, of which only the class token comes out: (B, T, D) -> (B, 1, D)."""

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x_B1D: torch.Tensor = x_BTD[:, :1] + self.drop_path1(self.ls1(self._attended(self.norm1(x_BTD))))
        x_B1D = x_B1D + self.drop_path2(self.ls2(self.mlp(self.norm2(x_B1D))))
        return x_B1D

    def _attended(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Attention of one query, without keys and values: q . (W x) = (q W) . x, and sum(a W x) = W sum(a x).

        The bias of the keys adds the same to all scores, so it cancels in the softmax.
        """
        attn, x_BD = self.attn, x_BTD[:, 0]
        weight_q, weight_k, weight_v = attn.qkv.weight.chunk(3)
        bias_q, _, bias_v = (None,) * 3 if attn.qkv.bias is None else attn.qkv.bias.chunk(3)
        q_BHd = attn.q_norm(linear(x_BD, weight_q, bias_q).unflatten(1, (attn.num_heads, -1)))
        asked_BHD = torch.einsum("bhd,hdD->bhD", q_BHd * attn.scale, weight_k.unflatten(0, (attn.num_heads, -1)))
        shares_BHT = attn.attn_drop((asked_BHD @ x_BTD.mT).softmax(dim=-1))
        mixed_BHd = torch.einsum("bhD,hdD->bhd", shares_BHT @ x_BTD, weight_v.unflatten(0, (attn.num_heads, -1)))
        mixed_B1D = mixed_BHd.flatten(1).unsqueeze(1)
        attended_B1D: torch.Tensor = attn.proj_drop(attn.proj(mixed_B1D if bias_v is None else mixed_B1D + bias_v))
        return attended_B1D


@contextmanager
def shortened(vit: Any) -> Iterator[None]:
    """The last block in its short form during one pass; unchanged where it has hooks or its maps are recorded."""
    block = vit.blocks[-1]
    if not block.attn.fused_attn or any(getattr(part, name) for part in block.modules() for name in HOOKS):
        yield
        return
    block.__class__ = ClassTokenBlock
    try:
        yield
    finally:
        block.__class__ = Block


def can_be_shortened(vit: Any) -> bool:
    """Whether the last block is timm's plain one, and only its class token is read afterwards."""
    if type(vit) is not VisionTransformer or vit.global_pool != "token":
        return False
    block = vit.blocks[-1]
    return (
        type(block) is Block
        and type(block.attn) is Attention
        and type(block.attn.qkv) in (nn.Linear, TokenLinear)
        and isinstance(block.attn.k_norm, nn.Identity)
    )
