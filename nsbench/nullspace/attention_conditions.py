"""When does an attention layer have a nullspace? The three conditions of proposition 1 (arXiv 2403.10476), measured.

A layer of h heads maps tokens X (N x d) to head_i(X) = softmax(X M_i X' / sqrt(d_h)) X Wv_i, M_i = Wq_i Wk_i'. A noise
V is in its nullspace where head_i(X + V) = head_i(X) for every head and every X. Sufficient for a V that is not zero:

1. M_i is symmetric for every head;
2. the row space of Wv_i' lies inside the row space of M_i for every head;
3. for some heads m and n, a row of M_m that is not zero lies in the row space of M_n.

By 3 the row spaces of all heads together leave a direction of the d free; by 1 and 2 neither scores nor values change
with it, and every row of V may be a multiple of it (appendix A). timm's layers have biases: they add to scores and
values, and change nothing of this where Wq_i and Wk_i have full column rank. `X` is what enters the layer, after the
layer norm; the residual path beside it still carries V.

Shapes: N tokens, D = d token width, E = d_h width of a head, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model
from nsbench.randomness import derive_seed

TOLERANCE = 1e-5  # of defects, of sines and of singular values relative to the largest: float32 weights give 1e-7


@dataclass(frozen=True)
class AttentionWeights:
    """Weights of one attention layer, float64 on the CPU; queries are X @ query_HDE[i] + query_bias_HE[i]."""

    query_HDE: Tensor
    key_HDE: Tensor
    value_HDE: Tensor
    query_bias_HE: Tensor
    key_bias_HE: Tensor
    value_bias_HE: Tensor

    def scores(self, head: int) -> Tensor:
        """M_i = Wq_i Wk_i', (D, D)."""
        return self.query_HDE[head] @ self.key_HDE[head].T


@dataclass(frozen=True)
class HeadConditions:
    """How far one head is from the conditions; everything is 0 where they hold."""

    layer: int
    head: int
    symmetry_defect: float  # |M - M'| / 2|M|, Frobenius: 0 symmetric, 1 antisymmetric, about 0.71 for random weights
    containment_angle: float  # degrees: largest principal angle from the row space of Wv' to that of M
    containment_share: float  # share of |Wv|^2 outside the row space of M
    colinearity_angle: float  # degrees: least angle of a row of M to the row space of another head's M; NaN: one head
    colinear_row: int  # that row, and the other head
    colinear_with: int


@dataclass(frozen=True)
class LayerConditions:
    """One layer: its heads, and the noise that is nearest to being null."""

    layer: int
    heads: Sequence[HeadConditions]
    width: int  # D
    span: int  # dimension of the sum of the heads' row spaces; a direction is free where it is less than D
    holds: bool  # the three conditions, all heads, within the tolerance
    direction_D: Tensor  # the unit direction that changes queries, keys and values of all heads least
    change: float  # relative l2 change of the heads' outputs by a noise along it, as large as the tokens
    random_change: float  # the same by a noise of the same norm along a random direction


def attention_conditions(
    model: Model,
    *,
    tolerance: float = TOLERANCE,
    tokens: int = 32,
    seed: int = 0,
) -> list[LayerConditions]:
    """The conditions of every attention layer of a timm vision transformer, in depth order.

    `tokens` random tokens of a layer norm's scale (N(0, 1)) probe each layer. Raises ModelError for a model without
    attention layers of queries, keys and values, UsageError for a tolerance outside (0, 1).
    """
    if not 0 < tolerance < 1 or tokens < 2:
        raise UsageError(
            f"tolerance {tolerance:g}, {tokens} tokens: give a tolerance between 0 and 1 and at least 2 tokens"
        )
    return [
        layer_conditions(attention_weights(module), layer=index, tolerance=tolerance, tokens=tokens, seed=seed)
        for index, module in enumerate(attention_layers(model))
    ]


def attention_layers(model: Model) -> list[nn.Module]:
    """Every attention layer with one linear map `qkv`, in depth order (ViT, DeiT, BEiT, Swin)."""
    found = [
        module
        for module in model.vit.modules()
        if isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "num_heads")
    ]
    if not found:
        raise ModelError(
            f"model '{model.name}' has no attention layer with queries, keys and values in one 'qkv' map; "
            "the conditions need a vision transformer such as vit_tiny_patch16_224"
        )
    return found


def attention_weights(module: Any) -> AttentionWeights:
    """Weights of a timm attention layer. Raises ModelError where queries and keys are normalised: not bilinear."""
    if any(not isinstance(getattr(module, name, nn.Identity()), nn.Identity) for name in ("q_norm", "k_norm")):
        raise ModelError(
            "an attention layer normalises its queries and keys: proposition 1 does not cover that; "
            "choose a model without qk_norm"
        )
    heads, weight = module.num_heads, module.qkv.weight.detach().double().cpu()
    query, key, value = (part.unflatten(0, (heads, -1)).transpose(1, 2) for part in weight.chunk(3))
    biases = [bias.unflatten(0, (heads, -1)) for bias in _biases(module, len(weight)).chunk(3)]
    return AttentionWeights(query, key, value, *biases)


def _biases(module: Any, length: int) -> Tensor:
    """(3 H E,): of the one map, or BEiT's separate ones, of which the keys have none."""
    if module.qkv.bias is not None:
        bias: Tensor = module.qkv.bias.detach().double().cpu()
        return bias
    zeros = torch.zeros(length // 3, dtype=torch.float64)
    parts = [getattr(module, name, None) for name in ("q_bias", "k_bias", "v_bias")]
    return torch.cat([zeros if part is None else part.detach().double().cpu() for part in parts])


def head_outputs(weights: AttentionWeights, tokens_ND: Tensor) -> Tensor:
    """softmax(q k' / sqrt(E)) v of every head, (H, N, E); before the heads are mixed by the output projection."""
    query = tokens_ND @ weights.query_HDE + weights.query_bias_HE[:, None]
    key = tokens_ND @ weights.key_HDE + weights.key_bias_HE[:, None]
    value = tokens_ND @ weights.value_HDE + weights.value_bias_HE[:, None]
    scores_HNN = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    return scores_HNN.softmax(dim=2) @ value


def layer_conditions(
    weights: AttentionWeights, *, layer: int = 0, tolerance: float = TOLERANCE, tokens: int = 32, seed: int = 0
) -> LayerConditions:
    """Measure one layer; see `attention_conditions`."""
    scores = [weights.scores(head) for head in range(len(weights.query_HDE))]
    spaces = [row_space(matrix, tolerance) for matrix in scores]
    heads = [_head(weights, layer, head, scores, spaces, tolerance) for head in range(len(scores))]
    union = torch.cat(spaces, dim=1)
    span = int(torch.linalg.matrix_rank(union, rtol=tolerance)) if union.numel() else 0
    limit = math.degrees(math.asin(tolerance))
    holds = all(head.symmetry_defect <= tolerance and head.containment_angle <= limit for head in heads) and any(
        head.colinearity_angle <= limit for head in heads
    )
    direction_D = least_seen_direction(weights)
    change, random_change = _changes(weights, direction_D, tokens, seed, layer)
    return LayerConditions(layer, heads, len(direction_D), span, holds, direction_D, change, random_change)


def least_seen_direction(weights: AttentionWeights) -> Tensor:
    """The unit vector (D,) that minimises |v' [Wq_i / |Wq_i|, Wk_i / |Wk_i|, Wv_i / |Wv_i|]| over all heads together.

    Where the conditions hold this is 0: v is orthogonal to the row spaces of all M_i, hence to all columns of the
    three weights.
    """
    parts = [
        part / part.norm(dim=(1, 2), keepdim=True).clamp_min(1e-300)
        for part in (weights.query_HDE, weights.key_HDE, weights.value_HDE)
    ]
    stacked = torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1)  # (D, 3 H E)
    left_DD: Tensor = torch.linalg.svd(stacked, full_matrices=True).U
    return left_DD[:, -1]


def perturbation(direction_D: Tensor, tokens: int, *, norm: float, seed: int = 0) -> Tensor:
    """V (N, D) of l2 norm `norm`: every row is a random multiple of the direction (appendix A)."""
    draws = torch.Generator().manual_seed(derive_seed(seed, "multiples of a direction"))
    noise_ND = torch.randn(tokens, 1, dtype=torch.float64, generator=draws) * direction_D
    scale: Tensor = norm / noise_ND.norm()
    return noise_ND * scale


def row_space(matrix: Tensor, tolerance: float) -> Tensor:
    """Orthonormal basis, as columns, of the space that a matrix's rows span."""
    values: Tensor
    right: Tensor
    _, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return right[values > tolerance * values[0]].T if values[0] > 0 else right[:0].T


def largest_angle(inner: Tensor, outer: Tensor) -> float:
    """Degrees: largest principal angle from one space to another, orthonormal columns each; 0 where it is inside."""
    if not inner.shape[1]:
        return 0.0
    outside = inner - outer @ (outer.T @ inner)  # its largest singular value is the sine: exact for small angles
    return math.degrees(math.asin(min(1.0, float(torch.linalg.matrix_norm(outside, 2)))))


def _head(
    weights: AttentionWeights, layer: int, head: int, scores: list[Tensor], spaces: list[Tensor], tolerance: float
) -> HeadConditions:
    matrix, space, value = scores[head], spaces[head], weights.value_HDE[head]
    defect = float((matrix - matrix.T).norm() / (2 * matrix.norm()).clamp_min(1e-300))
    outside = value - space @ (space.T @ value)
    share = float(outside.square().sum() / value.square().sum().clamp_min(1e-300))
    angle = largest_angle(row_space(value.T, tolerance), space)
    return HeadConditions(layer, head, defect, angle, share, *_colinearity(matrix, head, spaces))


def _colinearity(matrix: Tensor, head: int, spaces: list[Tensor]) -> tuple[float, int, int]:
    """(least angle in degrees, row, other head): condition 3, over the rows of M that are not zero."""
    norms = matrix.norm(dim=1, keepdim=True)
    rows = torch.where((norms > 1e-12 * norms.max()).squeeze(1))[0]
    best = (math.nan, -1, -1)
    for other, space in enumerate(spaces):
        if other == head or not len(rows):
            continue
        units = matrix[rows] / norms[rows]
        sines = (units - units @ space @ space.T).norm(dim=1)
        angle = math.degrees(math.asin(min(1.0, float(sines.min()))))
        if not best[0] <= angle:  # also where it is NaN still
            best = (angle, int(rows[sines.argmin()]), other)
    return best


def _changes(
    weights: AttentionWeights,
    direction_D: Tensor,
    tokens: int,
    seed: int,
    layer: int,
) -> tuple[float, float]:
    """Relative change of the heads' outputs by noises as large as the tokens: along the direction, and at random."""
    draws = torch.Generator().manual_seed(derive_seed(seed, "tokens of a layer", layer))
    tokens_ND = torch.randn(tokens, len(direction_D), dtype=torch.float64, generator=draws)
    random_D = torch.randn(len(direction_D), dtype=torch.float64, generator=draws)
    clean_HNE = head_outputs(weights, tokens_ND)
    found = []
    for chosen_D in (direction_D, random_D / random_D.norm()):
        noise_ND = perturbation(chosen_D, tokens, norm=float(tokens_ND.norm()), seed=seed)
        found.append(float((head_outputs(weights, tokens_ND + noise_ND) - clean_HNE).norm() / clean_HNE.norm()))
    return found[0], found[1]
