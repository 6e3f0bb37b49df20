"""Proposition 1: a layer built to satisfy its conditions, layers that break one each, and timm's own arithmetic."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import scipy.linalg
import timm
import torch
from timm.models.vision_transformer import Attention

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, Preprocessing, load_model, wrap
from nsbench.nullspace.attention_conditions import (
    AttentionWeights,
    attention_conditions,
    attention_layers,
    attention_weights,
    head_outputs,
    largest_angle,
    layer_conditions,
    least_seen_direction,
    perturbation,
)

WIDTH, HEADS = 12, 3
SHARED = ((0, 1, 2, 3), (0, 4, 5, 6), (7, 8, 9, 10))  # axes of each head's row space: two share axis 0, 11 is free
DISJOINT = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))


def rotation(seed: int = 0) -> torch.Tensor:
    """Orthogonal, and leaves axis 0 where it is, so that row 0 of M_1 stays colinear with the space of M_2."""
    torch.manual_seed(seed)
    inner = torch.linalg.qr(torch.randn(WIDTH - 1, WIDTH - 1, dtype=torch.float64)).Q
    return torch.block_diag(torch.ones(1, 1, dtype=torch.float64), inner)


def layer(
    axes: tuple[tuple[int, ...], ...] = SHARED,
    *,
    symmetric: bool = True,
    contained: bool = True,
) -> tuple[Attention, torch.Tensor]:
    """timm's attention layer with M_i = U_i diag U_i' and Wv_i inside the span of U_i; and the free direction."""
    turn = rotation()
    bases = [turn[:, list(chosen)] for chosen in axes]
    query = [basis @ torch.diag(1 + torch.rand(4, dtype=torch.float64)) for basis in bases]
    twist = torch.eye(4, dtype=torch.float64)
    if not symmetric:  # the first axis stays, for condition 3
        twist[1:, 1:] = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    key = [basis @ twist for basis in bases]
    value = [
        (basis if contained else torch.randn(WIDTH, 4, dtype=torch.float64)) @ torch.randn(4, 4, dtype=torch.float64)
        for basis in bases
    ]
    module = Attention(WIDTH, HEADS, qkv_bias=True).double()
    with torch.no_grad():
        module.qkv.weight.copy_(torch.cat([*query, *key, *value], dim=1).T)
        module.qkv.bias.normal_()
    return module, turn[:, 11]


def test_conditions_hold_and_the_layer_has_a_nullspace() -> None:
    module, free = layer()
    found = layer_conditions(attention_weights(module))
    assert found.holds
    assert found.span == 11
    assert max(head.symmetry_defect for head in found.heads) < 1e-12
    assert max(head.containment_angle for head in found.heads) < 1e-6
    first = found.heads[0]
    assert (first.colinear_row, first.colinear_with) == (0, 1)
    assert first.colinearity_angle < 1e-6
    assert abs(float(found.direction_D @ free)) == pytest.approx(1)
    assert found.change < 1e-10
    assert found.random_change > 0.1


def test_timm_layer_does_not_see_the_perturbation() -> None:
    module, _ = layer()
    tokens = torch.randn(2, 9, WIDTH, dtype=torch.float64)
    noise = perturbation(least_seen_direction(attention_weights(module)), 9, norm=100.0)
    assert noise.norm().item() == pytest.approx(100)
    torch.testing.assert_close(module(tokens + noise), module(tokens), rtol=1e-9, atol=1e-9)
    other = torch.randn_like(noise) * noise.std()
    assert (module(tokens + other) - module(tokens)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"symmetric": False}, "symmetry_defect"),
        ({"contained": False}, "containment_angle"),
        ({"axes": DISJOINT}, "colinearity_angle"),
    ],
)
def test_a_broken_condition_is_the_one_that_is_named(changes: dict, broken: str) -> None:
    found = layer_conditions(attention_weights(layer(**changes)[0]))
    assert not found.holds
    worst = {
        name: min(getattr(head, name) for head in found.heads)
        if name == "colinearity_angle"
        else max(getattr(head, name) for head in found.heads)
        for name in ("symmetry_defect", "containment_angle", "colinearity_angle")
    }
    assert {name for name, value in worst.items() if value > 1e-6} == {broken}


def test_defects_in_closed_form() -> None:
    """M of one head is [[1, 1], [0, 0]] (x) I: defect sqrt(2)/(2 sqrt(2)) = 1/2; the value sees 45 degrees outside."""
    query = torch.tensor([[1.0], [0.0]], dtype=torch.float64)[None]
    key = torch.tensor([[1.0], [1.0]], dtype=torch.float64)[None]
    value = torch.tensor([[1.0], [0.0]], dtype=torch.float64)[None]
    zero = torch.zeros(1, 1, dtype=torch.float64)
    found = layer_conditions(AttentionWeights(query, key, value, zero, zero, zero)).heads[0]
    assert found.symmetry_defect == pytest.approx(0.5)
    assert found.containment_angle == pytest.approx(45)
    assert found.containment_share == pytest.approx(0.5)
    assert math.isnan(found.colinearity_angle)  # one head has no other


def test_angles_equal_scipy() -> None:
    torch.manual_seed(1)
    inner, outer = (torch.linalg.qr(torch.randn(9, n, dtype=torch.float64)).Q for n in (2, 4))
    reference = math.degrees(scipy.linalg.subspace_angles(inner.numpy(), outer.numpy()).max())
    assert largest_angle(inner, outer) == pytest.approx(reference, abs=1e-9)
    assert largest_angle(outer[:, :2], outer) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_head_outputs_equal_timm(bias: bool) -> None:
    torch.manual_seed(2)
    module = Attention(WIDTH, HEADS, qkv_bias=bias).double()
    tokens = torch.randn(7, WIDTH, dtype=torch.float64)
    heads = head_outputs(attention_weights(module), tokens)
    torch.testing.assert_close(module.proj(heads.transpose(0, 1).flatten(1)), module(tokens[None])[0])


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "beit_base_patch16_224", "deit_tiny_patch16_224"])
def test_layers_of_other_transformers(name: str) -> None:
    options = {"depths": (1, 1)} if name.startswith("swin") else {"depth": 2, "embed_dim": 96, "num_heads": 3}
    vit = timm.create_model(name, num_classes=3, **options)
    model = Model(vit, name=name, preprocessing=Preprocessing(224), mean=(0.5,) * 3, std=(0.5,) * 3)
    layers = attention_layers(model)
    assert len(layers) == 2
    found = layer_conditions(attention_weights(layers[0]), tokens=4)
    assert not found.holds
    assert 0.5 < found.heads[0].symmetry_defect < 0.9  # random weights: about 0.71


def test_real_weights(shared_data: Path) -> None:
    """No trained layer satisfies them, and its least seen direction still moves it far less than a random one."""
    model = load_model("vit_tiny_patch16_224", checkpoint=shared_data / "weights/vit_tiny_patch16_224.safetensors")
    layers = attention_conditions(model)
    assert [len(one.heads) for one in layers] == [3] * 12
    assert not any(one.holds for one in layers)
    assert all(one.change < one.random_change / 3 for one in layers)


def test_errors() -> None:
    cnn = wrap(timm.create_model("resnet18", num_classes=5), name="resnet18")
    with pytest.raises(ModelError, match="'resnet18' has no attention layer"):
        attention_conditions(cnn)
    with pytest.raises(ModelError, match="normalises its queries"):
        attention_weights(Attention(WIDTH, HEADS, qk_norm=True))
    with pytest.raises(UsageError, match="between 0 and 1"):
        attention_conditions(load_model("vit_shapes10"), tolerance=0)
