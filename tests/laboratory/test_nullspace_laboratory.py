"""The laboratory: approximate noise on encoders whose nullspace is known, cuts at any depth, commands, their page."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, Preprocessing, build_vit_shapes10, load_model, wrap
from nsbench.models.untrained import untrained_model
from nsbench.nullspace import learn_noise
from nsbench.nullspace.exploratory import explore_noise
from nsbench.nullspace.geometry import combination_grid, convex_line, pairs_of, scaling
from nsbench.nullspace.layers import at_layer, describe, layers
from nsbench.nullspace.probe import Probe, permuted, random_direction, scaled_to_influence

SIDE, PATCHES, WIDTH, CLASSES = 8, 4, 6, 3


class LinearEncoder(Model):
    """Logits are linear in the tokens, so the generalised nullspace is exactly the nullspace of one matrix:
    the first PATCHES * WIDTH - CLASSES of the orthonormal directions below."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.name, self.preprocessing, self.vit = "linear", Preprocessing(SIDE), None
        self.register_buffer("mean_3HW", torch.zeros(3, 1, 1))
        draws = torch.Generator().manual_seed(0)
        self.directions = torch.linalg.qr(torch.randn(PATCHES * WIDTH, PATCHES * WIDTH, generator=draws)).Q
        self.null, self.seen = self.directions[:, CLASSES:], self.directions[:, :CLASSES]
        self.embedding = torch.randn(3 * 16, WIDTH, generator=draws) / 4

    def embed(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return nn.functional.unfold(images_BCHW, 4, stride=4).mT @ self.embedding

    def encode(self, tokens_BND: torch.Tensor) -> torch.Tensor:
        return tokens_BND.flatten(1) @ self.seen

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def null_noise(self, norm: float = 50.0) -> torch.Tensor:
        draw = self.null @ torch.randn(self.null.shape[1], generator=torch.Generator().manual_seed(3))
        return (norm * draw / draw.norm()).view(1, PATCHES, WIDTH)


def pictures(n: int = 12, side: int = SIDE) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(4))


def test_exact_generalised_nullspace_of_a_linear_encoder() -> None:
    model = LinearEncoder()
    probe = Probe(model, pictures(), batch_size=5)
    null, seen = model.null_noise(), (50 * model.seen[:, 0]).view(1, PATCHES, WIDTH)
    assert probe.influence(null).match == 1
    assert probe.influence(null).mse_probability < 1e-9
    assert probe.influence(seen).mse_probability > 0.1
    assert len(probe) == 12


@settings(max_examples=20, deadline=None)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_exact_nullspace_is_closed_under_combinations(a: float, b: float) -> None:
    model = LinearEncoder()
    first, second = model.null_noise(), (20 * model.null[:, 1]).view(1, PATCHES, WIDTH)
    assert Probe(model, pictures()).influence(a * first + b * second).mse_probability < 1e-8


def test_learnt_noise_leaves_what_the_encoder_does_not_see() -> None:
    """Gradients only move the part that is seen: the null part of the start is still there, up to weight decay."""
    model = LinearEncoder()
    start = learn_noise(model, pictures(), epsilon=10.0, limit=3.0).noise_1ND.flatten()
    learnt = learn_noise(model, pictures(), epsilon=1e-6, limit=3.0, weight_decay=0.0, lr=0.02)
    assert learnt.converged
    assert (model.seen.T @ learnt.noise_1ND.flatten()).norm() < 0.1 * (model.seen.T @ start).norm()
    assert learnt.norm > 0.5 * (model.null.T @ start).norm()
    control = scaled_to_influence(Probe(model, pictures()), random_direction(learnt.noise_1ND), 1e-6)
    assert learnt.norm > 10 * control.norm()


def test_influence_in_closed_form() -> None:
    """Logits 0 and a noise of log 3 on the first class: probabilities (1/3, ...) become (3/5, 1/5, 1/5)."""
    model = LinearEncoder()
    model.embedding.zero_()
    found = Probe(model, pictures()).influence((math.log(3) * model.seen[:, 0]).view(1, PATCHES, WIDTH))
    change = 3 / 5 - 1 / 3
    assert found.mse_confidence == pytest.approx(change**2, rel=1e-5)
    assert found.mse_probability == pytest.approx(change**2 + 2 * (1 / 3 - 1 / 5) ** 2, rel=1e-5)
    assert found.match == 1
    assert Probe(model, pictures()).influence((2.0 * model.seen[:, 1]).view(1, PATCHES, WIDTH)).match == 0


def test_exploratory_noise_against_gradient_descent_in_closed_form() -> None:
    """With lambda alone (images see nothing of a null noise), v grows along itself: v + lr lambda v / |v|^2."""
    model = LinearEncoder()
    model.seen.zero_()
    start = explore_noise(model, pictures(), regularisation=0.0, limit=1.0, lr=0.5, passes=1)
    norm, expected = start.norm, start.norm
    for _ in range(4):
        expected += 0.5 * 2.0 / expected
    found = explore_noise(model, pictures(), regularisation=2.0, limit=1.0, lr=0.5, passes=4)
    assert found.steps == 4
    assert found.norm == pytest.approx(expected, rel=1e-5)
    assert norm < found.norm
    with pytest.raises(UsageError, match="regularisation -1"):
        explore_noise(model, pictures(), regularisation=-1)


def test_permutation_keeps_the_elements_and_scaling_finds_the_influence() -> None:
    noise = torch.arange(24.0).view(1, PATCHES, WIDTH)
    assert torch.equal(permuted(noise).flatten().sort().values, noise.flatten())
    assert not torch.equal(permuted(noise), noise)
    probe = Probe(LinearEncoder(), pictures())
    direction = random_direction(probe.parts[0][0][:1], 1)
    scaled = scaled_to_influence(probe, direction, 0.02, rounds=12)
    assert probe.influence(scaled).mse_probability == pytest.approx(0.02, rel=0.01)
    assert torch.nn.functional.cosine_similarity(scaled.flatten(), direction.flatten(), dim=0) == pytest.approx(1)
    with pytest.raises(UsageError, match="MSE probability of 3"):
        scaled_to_influence(probe, direction, 3.0)


def test_geometry_reads_the_same_influences() -> None:
    probe = Probe(LinearEncoder(), pictures())
    first, second, third = (random_direction(probe.parts[0][0][:1], seed) for seed in range(3))
    scaled = scaling(probe, [first, second], [0, 0.5, 1])
    assert scaled.shape == (2, 3)
    assert scaled[:, 0] == pytest.approx(0)
    grid = combination_grid(probe, [(first, second)], [0, 0.5, 1])
    assert grid[0] == pytest.approx(scaled[0])  # b = 0: a runs along the columns
    assert grid[:, 0] == pytest.approx(scaled[1])
    assert convex_line(grid, [0, 0.5, 1]) == [
        (0, pytest.approx(grid[2, 0])),
        (0.5, pytest.approx(grid[1, 1])),
        (1, pytest.approx(grid[0, 2])),
    ]
    assert len(pairs_of([first, second, third], 2)) == 2
    with pytest.raises(UsageError, match="at least two"):
        combination_grid(probe, [], [0, 1])


def test_wrong_image_size_for_a_model() -> None:
    with pytest.raises(UsageError, match=r"\(2, 3, 9, 9\): model 'linear' takes .*\(B, 3, 8, 8\)"):
        Probe(LinearEncoder(), torch.zeros(2, 3, 9, 9))


SMALL = {
    "deit_tiny_distilled_patch16_224": {"depth": 2},
    "beit_base_patch16_224": {"depth": 2, "embed_dim": 48, "num_heads": 2},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 1, 1)},
}


@pytest.mark.parametrize("name", SMALL)
def test_every_family_is_cut_at_every_layer_without_a_change(name: str) -> None:
    model = untrained_model(name, num_classes=7, **SMALL[name])
    images = pictures(2, 224)
    with torch.no_grad():
        expected = model(images)
        for layer in layers(model):
            view = at_layer(model, layer)
            tokens = view.embed(images)
            torch.testing.assert_close(view.head(view.encode(tokens)), expected, rtol=1e-4, atol=1e-5)
            noise_1ND = torch.randn(tokens[:1].shape, generator=torch.Generator().manual_seed(1))
            moved = view.head(view.encode(tokens + noise_1ND))
            assert not torch.allclose(moved, expected, rtol=1e-4, atol=1e-5), layer
    assert len(layers(model)) == 2 + (4 if "swin" in name else 2)


def test_cut_after_a_block_is_the_block_of_timm() -> None:
    model = load_model("vit_shapes10")
    images = pictures(2, 48)
    with torch.no_grad():
        tokens = model.vit.norm_pre(model.vit._pos_embed(model.embed(images)))
        for block in model.vit.blocks[:3]:
            tokens = block(tokens)
        torch.testing.assert_close(at_layer(model, 3).embed(images), tokens)
    assert at_layer(model, 0) is model


def test_noise_is_learnt_at_the_input_of_a_cnn() -> None:
    cnn = wrap(timm.create_model("resnet10t", pretrained=False, num_classes=4), name="resnet10t")
    view = at_layer(cnn, "input")
    images = pictures(4, cnn.input_size)
    learnt = learn_noise(view, images, epsilon=1e-4, limit=0.3, lr=0.01, max_steps=3)
    assert learnt.noise_1ND.shape == (1, 3, cnn.input_size, cnn.input_size)
    with torch.no_grad():
        noisy_BK = view.head(view.encode(view.embed(images) + learnt.noise_1ND))
        torch.testing.assert_close(noisy_BK, cnn(images + learnt.noise_1ND))
    with pytest.raises(UsageError, match=r"layer '1': model 'resnet10t' has input$"):
        at_layer(cnn, 1)


def test_layers_that_are_not_there() -> None:
    model = wrap(build_vit_shapes10(), name="vit_shapes10")
    assert describe(layers(model)) == "input, 0 (patch embedding), 1 ... 6 (blocks)"
    with pytest.raises(UsageError, match=r"layer '9'.*1 \.\.\. 6"):
        at_layer(model, 9)


def test_a_cut_that_changes_the_logits_is_refused() -> None:
    model = wrap(build_vit_shapes10(), name="bypass")

    class Bypass(nn.Module):  # what lies behind the first block also sees what lies before it
        def __init__(self, blocks: nn.Sequential) -> None:
            super().__init__()
            self.blocks = blocks

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.blocks(tokens) + 3 * tokens.mean(dim=(1, 2), keepdim=True) * torch.arange(128.0)

    blocks = model.vit.blocks
    model.vit.blocks = Bypass(blocks)
    model.vit.layers = nn.Sequential(model.vit.blocks)
    with pytest.raises(ModelError, match="cannot be cut at layer 1"):
        at_layer(model, 1)
