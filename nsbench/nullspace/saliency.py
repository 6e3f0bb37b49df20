"""Saliency maps of a vision transformer: which patches its prediction rests on.

Four methods, all own code, all on the tokens that the patch embedding gives (B, N, D), so that two images with equal
tokens have equal maps, whatever their pixels look like (arXiv 2403.10476, appendix F):

- `rollout`: attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928); the same for every class.
- `grad_cam`: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) at the last block's first layer norm.
- `attention_relevance`: relevance that flows through gradient-weighted attention maps (Chefer et al. 2021, arXiv
  2103.15679, equations 5 and 6 for self-attention).
- `relevance_propagation`: layer-wise relevance propagation with attention maps, layer norms' deviations and GELU's
  gates held fixed (Ali et al. 2022, arXiv 2202.07304), which makes the network linear and relevance input x gradient:
  where there are no biases, the relevances of all tokens add up to the logit.

Shapes: B images, N patches, h x w their grid, D width, T tokens (prefix tokens and patches), K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from nsbench.errors import ModelError, UnknownName, UsageError
from nsbench.models import Model, frozen
from nsbench.models.attention import attention_modules, attention_output, patch_size, recorded_attention
from nsbench.models.model import hooked

Maps = Callable[[Model, Tensor, Tensor | None], Tensor]


def saliency(model: Model, images_BCHW: Tensor, method: str, classes_B: Tensor | None = None) -> Tensor:
    """Maps (B, h, w), one value a patch, of images (B, 3, H, W) in [0, 1].

    `classes_B` are the classes to explain; None explains each image's own prediction. Raises UnknownName for a method
    that is none of SALIENCY, ModelError for a model without attention maps over patches of a regular grid.
    """
    if method not in SALIENCY:
        raise UnknownName("saliency method", method, SALIENCY)
    with frozen(model):
        maps_BN = SALIENCY[method](model, images_BCHW, classes_B).detach()
    rows, columns = _grid(model, images_BCHW)
    if maps_BN.shape[1] != rows * columns:
        raise ModelError(
            f"model '{model.name}': {maps_BN.shape[1]} patch tokens are no grid of {rows} x {columns}; "
            "saliency maps need a plain vision transformer such as vit_tiny_patch16_224"
        )
    return torch.unflatten(maps_BN, 1, (rows, columns))


def attention_rollout(model: Model, images_BCHW: Tensor, classes_B: Tensor | None = None) -> Tensor:
    """(B, N): product over layers of (mean over heads + identity) / 2, from the first token to the patches.

    Where there is no class token, mean over all tokens.
    """
    with recorded_attention(attention_modules(model.vit)) as maps, torch.no_grad():
        model(images_BCHW)
    rolled_BTT = _identity(maps)
    for attention_BHTT in maps:
        mixed_BTT = (attention_BHTT.mean(dim=1) + _identity(maps)) / 2
        rolled_BTT = mixed_BTT / mixed_BTT.sum(dim=2, keepdim=True) @ rolled_BTT
    return _to_patches(model, rolled_BTT)


def grad_cam(model: Model, images_BCHW: Tensor, classes_B: Tensor | None = None) -> Tensor:
    """(B, N): positive part of the channels at the last block's `norm1`, each weighted by its gradient's mean over the
    patches. Later activations of the patches reach no class token."""
    kept: list[Tensor] = []
    norm = getattr(model.vit.blocks[-1], "norm1", None) if getattr(model.vit, "blocks", None) else None
    if norm is None:
        raise ModelError(
            f"model '{model.name}' has no last block with a layer 'norm1'; Grad-CAM needs a plain vision "
            "transformer such as vit_tiny_patch16_224"
        )
    with hooked(norm, lambda module, inputs, output: kept.append(output)):
        _, score = _score(model, images_BCHW, classes_B)
    prefix = model.vit.num_prefix_tokens
    activation_BND = kept[0][:, prefix:].detach()
    weight_BD = torch.autograd.grad(score, kept[0])[0][:, prefix:].mean(dim=1)
    return (activation_BND @ weight_BD[:, :, None]).squeeze(2).clamp_min(0)


def attention_relevance(model: Model, images_BCHW: Tensor, classes_B: Tensor | None = None) -> Tensor:
    """(B, N): R = identity; layer by layer R <- R + mean over heads of (gradient x attention)+ @ R; then the first
    token's row of it."""
    with recorded_attention(attention_modules(model.vit)) as maps:
        _, score = _score(model, images_BCHW, classes_B)
        gradients = torch.autograd.grad(score, maps)
    relevance_BTT = _identity(maps)
    for attention_BHTT, gradient_BHTT in zip(maps, gradients, strict=True):
        flow_BTT = (attention_BHTT.detach() * gradient_BHTT).clamp_min(0).mean(dim=1)
        relevance_BTT = relevance_BTT + flow_BTT @ relevance_BTT
    return _to_patches(model, relevance_BTT)


def relevance_propagation(model: Model, images_BCHW: Tensor, classes_B: Tensor | None = None) -> Tensor:
    """(B, N): relevance of each patch token for the logit, signed: token x gradient of the linearised network."""
    with linearised(model):
        tokens_BND, score = _score(model, images_BCHW, classes_B)
        gradient_BND = torch.autograd.grad(score, tokens_BND)[0]
    return (tokens_BND.detach() * gradient_BND).sum(dim=2)


SALIENCY: dict[str, Maps] = {
    "rollout": attention_rollout,
    "grad_cam": grad_cam,
    "attention_relevance": attention_relevance,
    "relevance_propagation": relevance_propagation,
}


@contextmanager
def linearised(model: Model) -> Iterator[None]:
    """The same outputs, with gradients as if attention maps, layer norms' deviations and GELU's gates were fixed."""
    with ExitStack() as stack:
        attention = attention_modules(model.vit)
        stack.enter_context(recorded_attention(attention))  # switches fused attention off
        for module in attention:
            stack.enter_context(hooked(attention_output(module), lambda module, inputs, output: output.detach()))
        for module in model.vit.modules():
            if isinstance(module, nn.LayerNorm):
                stack.enter_context(hooked(module, _fixed_deviation))
            elif isinstance(module, nn.GELU):
                stack.enter_context(hooked(module, _fixed_gate))
        yield


def _fixed_deviation(module: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    centred = inputs[0] - inputs[0].mean(dim=-1, keepdim=True)
    deviation = (centred.square().mean(dim=-1, keepdim=True) + module.eps).sqrt().detach()
    scaled = centred / deviation
    scaled = scaled if module.weight is None else scaled * module.weight
    return scaled if module.bias is None else scaled + module.bias


def _fixed_gate(module: nn.GELU, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    gate = torch.where(inputs[0] == 0, 0.5, output / inputs[0])  # GELU(x) = x gate(x), and gate(0) = 1/2
    return inputs[0] * gate.detach()


def _score(model: Model, images_BCHW: Tensor, classes_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """The patch tokens, a leaf with gradient, and the sum over the batch of the explained logits."""
    with torch.enable_grad():
        tokens_BND = model.embed(images_BCHW).detach().requires_grad_()
        logits_BK = model.head(model.encode(tokens_BND))
        chosen_B = logits_BK.detach().argmax(dim=1) if classes_B is None else classes_B
        if len(chosen_B) != len(logits_BK):
            raise UsageError(f"{len(chosen_B)} classes to explain for {len(logits_BK)} images; give one for each")
        return tokens_BND, logits_BK.gather(1, chosen_B[:, None]).sum()


def _identity(maps: list[Tensor]) -> Tensor:
    return torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)[None].expand(len(maps[0]), -1, -1)


def _to_patches(model: Model, relevance_BTT: Tensor) -> Tensor:
    """The class token's row where the features are its own, else the mean of all rows; the patches' columns."""
    own = model.vit.num_prefix_tokens and getattr(model.vit, "global_pool", "token") in ("token", "")
    row_BT = relevance_BTT[:, 0] if own else relevance_BTT.mean(dim=1)
    return row_BT[:, model.vit.num_prefix_tokens :]


def _grid(model: Model, images_BCHW: Tensor) -> tuple[int, int]:
    height, width = patch_size(model.vit)
    return images_BCHW.shape[2] // height, images_BCHW.shape[3] // width
