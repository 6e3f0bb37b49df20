"""Linear layers of tokens as convolutions: the same logits and gradients up to rounding, and plain layers afterwards."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from test_last_block import built, images_of
from test_models import ARCHITECTURES, model_of
from torch import nn

from nsbench.models import Model, faster, faster_linear

SWIN = partial(
    timm.create_model, "swin_tiny_patch4_window7_224", img_size=56, depths=(2, 2), embed_dim=24, num_heads=(2, 4)
)


@pytest.fixture(autouse=True)
def on_such_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster, "convolutions_are_faster", lambda: True)


def gradients_of(model: Model, images: torch.Tensor) -> list[torch.Tensor]:
    """Logits and what they give to the images and to every weight."""
    model.zero_grad()
    images = images.clone().requires_grad_()
    logits = model(images)
    logits.square().mean().backward()
    assert images.grad is not None
    weights = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    return [logits.detach(), images.grad, *weights]


@pytest.mark.parametrize("name", [*ARCHITECTURES, "swin"])
def test_logits_and_all_gradients_are_those_of_plain_layers(name: str) -> None:
    model = model_of(SWIN(num_classes=7), size=56) if name == "swin" else built(name)
    plain = [layer for layer in model.modules() if type(layer) is nn.Linear]
    for count in (1, 3):  # a single image too
        images = images_of(model, count)
        expected = gradients_of(model, images)
        with faster_linear(model):
            assert plain
            assert all(type(layer) is faster.TokenLinear for layer in plain)
            found = gradients_of(model, images)
        assert all(type(layer) is nn.Linear for layer in plain)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 8), (1, 4, 8), (2, 3, 4, 8), (2, 2, 3, 4, 8)])
def test_tokens_of_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    layer, tokens = nn.Linear(8, 6), torch.randn(shape)
    expected = layer(tokens)
    with faster_linear(layer):
        torch.testing.assert_close(layer(tokens), expected)
        torch.testing.assert_close(layer(tokens.transpose(0, -2)), expected.transpose(0, -2))


def test_other_precisions_and_layers_of_others_stay_as_they_are() -> None:
    class Gated(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).tanh()

    model = nn.ModuleList([Gated(4, 4), nn.Linear(4, 4).double(), nn.Linear(4, 4).bfloat16(), nn.Linear(4, 4)])
    with faster_linear(model):
        assert [type(layer) for layer in model] == [Gated, nn.Linear, nn.Linear, faster.TokenLinear]


def test_plain_again_after_an_error() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(RuntimeError), faster_linear(layer):
        layer(torch.zeros(2, 3, 5))
    assert type(layer) is nn.Linear


@pytest.mark.parametrize(
    ("capability", "processor", "faster_there"),
    [("AVX512", "AuthenticAMD", True), ("AVX512", "GenuineIntel", False), ("AVX2", "AuthenticAMD", False)],
)
def test_only_where_it_was_measured(
    monkeypatch: pytest.MonkeyPatch, capability: str, processor: str, faster_there: bool
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(faster.Path, "is_file", lambda _path: True)
    monkeypatch.setattr(faster.Path, "read_text", lambda _path, **_: f"vendor_id\t: {processor}\n")
    faster.convolutions_are_faster.cache_clear()
    try:
        assert faster.convolutions_are_faster() is faster_there
    finally:
        faster.convolutions_are_faster.cache_clear()
