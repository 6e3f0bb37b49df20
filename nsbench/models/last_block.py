"""The last block for the class token alone, where many passes are made and nothing else is read from them.

A transformer that pools by its class token lets go of every other token after its last block. There the queries, the
projection and the MLP of those tokens are work for nothing: about a seventh of a pass through six blocks, a fourteenth
through twelve. Without it the logits are the same up to rounding. Noise learning and training go without; evaluation
runs timm's own arithmetic, bit for bit.

Shapes: B images, T tokens with the class token first, D embedding width, H heads of width d.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ClassTokenBlock(Block):
    """timm's block, of which only the class token comes out: (B, T, D) -> (B, 1, D)."""

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x_B1D = x_BTD[:, :1] + self.drop_path1(self.ls1(self._attended(self.norm1(x_BTD))))
        return x_B1D + self.drop_path2(self.ls2(self.mlp(self.norm2(x_B1D))))

    def _attended(self, x_BTD: torch.Tensor) -> torch.Tensor:
        attn, parts = self.attn, [len(self.attn.qkv.weight) // 3 * count for count in (1, 2)]
        weight_q, weight_kv = attn.qkv.weight.split(parts)
        bias_q, bias_kv = (None, None) if attn.qkv.bias is None else attn.qkv.bias.split(parts)
        q_BH1d = linear(x_BTD[:, :1], weight_q, bias_q).unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
        kv_BT2Hd = linear(x_BTD, weight_kv, bias_kv).unflatten(2, (2, attn.num_heads, -1))
        k_BHTd, v_BHTd = kv_BT2Hd.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BH1d = scaled_dot_product_attention(attn.q_norm(q_BH1d), attn.k_norm(k_BHTd), v_BHTd,
                                                  dropout_p=attn.attn_drop.p if self.training else 0.0)
        return attn.proj_drop(attn.proj(mixed_BH1d.transpose(1, 2).flatten(2)))


@contextmanager
def shortened(vit: Any) -> Iterator[None]:
    """The last block in its short form during one pass; as it is where somebody looks into it."""
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
    """Whether the last block is one that we know, and the class token all that is read of it."""
    if type(vit) is not VisionTransformer or vit.global_pool != "token":
        return False
    block = vit.blocks[-1]
    return type(block) is Block and type(block.attn) is Attention and type(block.attn.qkv) is nn.Linear
