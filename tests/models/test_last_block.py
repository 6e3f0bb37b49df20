"""The last block for the class token alone: the same logits and gradients, where nothing else is read of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_models import ARCHITECTURES, model_of
from timm.models.vision_transformer import Block
from torch import nn

from nsbench.models import Model, class_token_only, faster, load_model
from nsbench.models.attention import attention_modules, recorded_attention
from nsbench.models.last_block import ClassTokenBlock
from nsbench.models.model import every_token
from nsbench.nullspace.layers import at_layer
from nsbench.training.optimisation import drop_path

SHORT = {"vit", "deit", "registers", "dinov2 registers", "pre-norm (CLIP)", "position without prefix (DeiT III)"}


def built(name: str) -> Model:
    torch.manual_seed(0)
    vit = ARCHITECTURES[name]()
    for parameter in vit.parameters():  # timm starts biases, classifiers and layer scales at zero or nearly
        nn.init.normal_(parameter, std=0.2)
    return model_of(vit, size=28 if name in ("dinov2 registers", "eva") else 32, name=name)


def images_of(model: Model, count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, model.input_size, model.input_size, generator=torch.Generator().manual_seed(1))


def widths_inside(model: Model) -> set[int]:
    """How many tokens the final norm is given: all of them, or one."""
    seen: set[int] = set()
    hook = model.vit.norm.register_forward_pre_hook(lambda _module, inputs: seen.add(inputs[0].shape[1]))
    with torch.no_grad():
        model(images_of(model))
    hook.remove()
    return seen


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_all_gradients_are_those_of_the_whole_block(name: str) -> None:
    model = built(name)
    images = images_of(model)

    def outcome() -> list[torch.Tensor]:
        model.zero_grad()
        tokens = model.embed(images).detach().requires_grad_()
        logits = model.head(model.encode(tokens))
        logits.square().sum().backward()
        return [logits, tokens.grad, *(p.grad for p in model.vit.parameters() if p.grad is not None)]

    whole = outcome()
    with class_token_only(model):
        assert model.class_token_only == (name in SHORT)
        short = outcome()
    assert len(whole) == len(short)
    for expected, found in zip(whole, short, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    again = outcome()
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))  # timm's own once more, bit for bit


@pytest.mark.parametrize("name", sorted(SHORT))
def test_only_the_class_token_leaves_the_last_block(name: str) -> None:
    model = built(name)
    assert max(widths_inside(model)) > 1
    with class_token_only(model):
        assert widths_inside(model) == {1}
    assert type(model.vit.blocks[-1]) is Block


def test_stochastic_depth_draws_the_same_in_both_forms() -> None:
    model = built("vit").train()
    images = images_of(model, 16)
    with drop_path(model, 0.5):
        torch.manual_seed(3)
        whole = model(images)
        with class_token_only(model):
            torch.manual_seed(3)
            short = model(images)
        assert not torch.equal(whole, model(images))
    torch.testing.assert_close(short, whole, rtol=1e-4, atol=1e-4)


def test_whoever_looks_into_the_last_block_sees_all_of_it() -> None:
    model = built("vit")
    tokens = 17  # a class token and 4 x 4 patches
    with class_token_only(model):
        with recorded_attention(attention_modules(model.vit)) as maps:
            model(images_of(model))
        assert [m.shape[-2:] for m in maps] == [(tokens, tokens)] * 2
        seen: list[torch.Size] = []
        hook = model.vit.blocks[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
        model(images_of(model))
        hook.remove()
        assert seen == [(3, tokens, 24)]
        assert widths_inside(model) == {1}


@pytest.mark.parametrize("option", [{"qkv_bias": False}, {"qk_norm": True}, {"init_values": 0.3}])
def test_kinds_of_attention(option: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = model_of(ARCHITECTURES["vit"](**option))
    expected = model(images_of(model))
    with class_token_only(model):
        assert model.class_token_only == ("qk_norm" not in option)  # keys that are normalised have to be made
        torch.testing.assert_close(model(images_of(model)), expected, rtol=1e-4, atol=1e-5)


def test_a_block_that_is_not_ours_to_know_stays_whole() -> None:
    class Gated(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).tanh()

    model = built("vit")
    attn = model.vit.blocks[-1].attn
    attn.qkv = Gated(24, 72)
    with class_token_only(model):
        assert not model.class_token_only


def test_a_trial_that_does_not_agree_leaves_the_block_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("vit")
    monkeypatch.setattr(ClassTokenBlock, "forward", lambda self, x: x[:, :1])
    before = model(images_of(model))
    with class_token_only(model):
        assert not model.class_token_only
        assert torch.equal(model(images_of(model)), before)


def test_layers_that_convolve_are_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster, "convolutions_are_faster", lambda: True)
    model = built("vit")
    expected = model(images_of(model))
    with faster.faster_linear(model), class_token_only(model):
        assert model.class_token_only
        torch.testing.assert_close(model(images_of(model)), expected, rtol=1e-4, atol=1e-4)


def test_the_whole_block_can_be_asked_for_inside() -> None:
    model = built("vit")
    expected = model(images_of(model))
    with class_token_only(model):
        with every_token(model):
            assert torch.equal(model(images_of(model)), expected)
        assert model.class_token_only
    assert not model.class_token_only


def test_an_error_inside_a_pass_leaves_timms_block() -> None:
    model = built("vit")
    with class_token_only(model), pytest.raises(RuntimeError):
        model.encode(torch.zeros(1, 5, 24))
    assert type(model.vit.blocks[-1]) is Block
    assert not model.class_token_only


def test_a_cut_at_a_layer_goes_by_the_model_that_is_cut() -> None:
    model = load_model("vit_shapes10")
    view = at_layer(model, 3)
    images = images_of(model)
    expected = view(images)
    with class_token_only(view):
        assert model.class_token_only
        torch.testing.assert_close(view(images), expected, rtol=1e-4, atol=1e-4)
    assert not model.class_token_only
