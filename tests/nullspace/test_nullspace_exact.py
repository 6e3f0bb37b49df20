"""The exact nullspace of the patch embedding, against matrices whose nullspace is known and against scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, Preprocessing, load_model, wrap
from nsbench.nullspace import from_patches, patch_nullspace, patch_spectrum, to_patches

STDS = ((0.5, 0.5, 0.5), (0.229, 0.1, 0.9))  # the same for all channels, and very different


def model_of(
    width: int = 8, size: int = 4, weight: torch.Tensor | None = None, std: tuple[float, float, float] = STDS[0]
) -> Model:
    """A ViT of 2 x 2 patches, all weights drawn anew, or with this patch embedding (D, P)."""
    vit = VisionTransformer(img_size=2 * size, patch_size=size, embed_dim=width, depth=1, num_heads=2, num_classes=5)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
        if weight is not None:
            vit.patch_embed.proj.weight.copy_(weight.view(width, 3, size, size))
    return Model(vit, name="small", preprocessing=Preprocessing(2 * size), mean=(0.4, 0.5, 0.6), std=std)


def noise(n: int = 3, side: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    size=st.integers(1, 5),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
)
def test_patches_are_those_of_unfold_and_come_back(
    batch: int, channels: int, size: int, rows: int, columns: int
) -> None:
    images = torch.arange(float(batch * channels * size * rows * size * columns)).view(
        batch, channels, size * rows, size * columns
    )
    patches = to_patches(images, size)
    assert torch.equal(patches, torch.nn.functional.unfold(images, size, stride=size).mT)
    assert torch.equal(from_patches(patches, size, (size * rows, size * columns)), images)


def test_patches_meet_the_weight_as_the_convolution_does() -> None:
    model = model_of()
    images = noise().float()
    conv = model.patch_embed.proj  # type: ignore[union-attr]
    expected = model.embed(images)
    by_hand = to_patches(model.normalise(images), 4) @ conv.weight.flatten(1).T + conv.bias
    torch.testing.assert_close(by_hand, expected, rtol=1e-5, atol=1e-5)


def test_known_nullspace() -> None:
    """W keeps the first eight entries of a patch: the projection sets these to zero and keeps all others."""
    weight = torch.eye(8, 48)
    space = patch_nullspace(model_of(weight=weight))
    assert (space.rank, space.dimension, space.patch_length, space.width) == (8, 40, 48, 8)
    kept = to_patches(space.project(noise()), 4)
    expected = to_patches(noise(), 4).clone()
    expected[..., :8] = 0
    torch.testing.assert_close(kept, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("std", STDS)
def test_projection_is_that_of_scipy_in_pixel_space(std: tuple[float, float, float]) -> None:
    model = model_of(std=std)
    space = patch_nullspace(model)
    weight = model.patch_embed.proj.weight.detach().double().flatten(1).numpy()  # type: ignore[union-attr]
    basis = scipy.linalg.null_space(weight / np.repeat(std, 16))  # of pixels, since the model divides by std
    expected = to_patches(noise(), 4).numpy() @ basis @ basis.T
    np.testing.assert_allclose(to_patches(space.project(noise()), 4).numpy(), expected, atol=1e-10)
    # orthonormal, and null, in normalised space
    np.testing.assert_allclose((space.basis_PK.T @ space.basis_PK).numpy(), np.eye(40), atol=1e-12)
    np.testing.assert_allclose(weight @ space.basis_PK.numpy(), 0, atol=1e-10)


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_projection_is_orthogonal_and_exact(std: tuple[float, float, float], per_channel: bool) -> None:
    space = patch_nullspace(model_of(std=std), per_channel=per_channel)
    assert space.dimension == (3 * (16 - 8) if per_channel else 48 - 8)
    projected = space.project(noise())
    torch.testing.assert_close(space.project(projected), projected, rtol=0, atol=1e-12)
    assert abs(float(((noise() - projected) * projected).sum())) < 1e-10
    assert space.leak(projected).max() < 1e-12 * space.leak(noise()).min() + 1e-11
    assert (projected.flatten(1).norm(dim=1) < noise().flatten(1).norm(dim=1)).all()


def test_leak_is_the_change_of_the_tokens() -> None:
    model = model_of(std=STDS[1])
    images = torch.rand(3, 3, 8, 8)
    change = model.embed(images + noise().float()) - model.embed(images)
    torch.testing.assert_close(
        patch_nullspace(model).leak(noise()), change.flatten(1).norm(dim=1).double(), rtol=1e-4, atol=1e-5
    )


def test_single_channel_noise_stays_in_its_channel() -> None:
    space = patch_nullspace(model_of(), per_channel=True)
    blue = noise()
    blue[:, :2] = 0
    assert space.project(blue)[:, :2].abs().max() < 1e-15
    assert space.project(blue)[:, 2].abs().max() > 0.1


def test_samples_have_their_norm_and_do_not_depend_on_their_number() -> None:
    space = patch_nullspace(model_of(std=STDS[1]))
    many = space.sample((8, 8), norm=100, count=3, seed=5)
    torch.testing.assert_close(many.flatten(1).norm(dim=1), torch.full((3,), 100.0))
    torch.testing.assert_close(space.sample((8, 8), norm=100, count=1, seed=5), many[:1])
    assert not torch.allclose(many[0], many[1])
    assert not torch.allclose(space.sample((8, 8), norm=100, seed=6), many[:1])


@pytest.mark.parametrize("normalisation", ["own", "imagenet"])
def test_shapes10_logits_do_not_move_at_norm_100(normalisation: str) -> None:
    model = load_model("vit_shapes10", normalisation=normalisation)
    images = torch.rand(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    null = patch_nullspace(model).sample((48, 48), norm=100, count=4)
    with torch.no_grad():
        clean, moved = model(images), model(images + null)
        other = model(images + 100 * torch.randn(null.shape) / null.numel() ** 0.5)
    assert (moved - clean).abs().max() < 1e-4
    assert (other - clean).abs().max() > 0.1


def test_tolerance_decides_the_rank() -> None:
    """Singular values 1, 0.1, ..., 1e-7 by construction."""
    values = 10.0 ** -torch.arange(8.0)
    weight = torch.diag(values) @ torch.eye(8, 48)
    model = model_of(weight=weight)
    assert [patch_spectrum(model, tolerance=tolerance).rank for tolerance in (0, 5e-7, 5e-4, 0.5)] == [8, 7, 4, 1]
    spectrum = patch_spectrum(model)
    assert spectrum.tolerance == pytest.approx(48 * np.finfo(np.float32).eps)
    low, high = spectrum.tolerances(44)  # type: ignore[misc]
    assert (low, high) == pytest.approx((1e-4, 1e-3))
    assert patch_spectrum(model, tolerance=low * 1.01).dimension == 44
    assert patch_spectrum(model, tolerance=low * 0.99).dimension == 43
    assert spectrum.tolerances(39) is None
    assert spectrum.tolerances(49) is None


def test_effective_rank_in_closed_form() -> None:
    assert patch_spectrum(model_of(weight=torch.eye(8, 48))).effective_rank == pytest.approx(8)
    one = torch.zeros(8, 48)
    one[0, 0] = 3
    assert patch_spectrum(model_of(weight=one)).effective_rank == pytest.approx(1)


def test_model_without_patch_embedding() -> None:
    cnn = wrap(timm.create_model("resnet10t", pretrained=False, num_classes=5), name="resnet10t")
    with pytest.raises(ModelError, match=r"'resnet10t' has no patch embedding.*vision transformer"):
        patch_nullspace(cnn)


def test_overlapping_patches_are_refused() -> None:
    model = model_of()
    model.patch_embed.proj.padding = (1, 1)  # type: ignore[union-attr,assignment]
    with pytest.raises(ModelError, match="no linear map of separate square RGB patches"):
        patch_nullspace(model)


def test_empty_nullspace() -> None:
    model = model_of(width=64)  # 48 pixel values meet 64
    with pytest.raises(ModelError, match=r"empty nullspace.*length 48 meets a width of 64"):
        patch_nullspace(model)
    assert patch_spectrum(model).dimension == 0
    with pytest.raises(ModelError, match=r"each channel's patch vector of length 16.*leave per-channel off"):
        patch_nullspace(model_of(width=16), per_channel=True)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 9, 8), "8x9 pixels cannot be cut into patches of 4x4"),
        (torch.zeros(3, 8, 8), r"expected \(B, C, H, W\)"),
    ],
)
def test_wrong_image_size(images: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        patch_nullspace(model_of()).project(images)


def test_wrong_patches_and_tolerance() -> None:
    with pytest.raises(UsageError, match="5 patches of length 48 do not make an image of 8x8"):
        from_patches(torch.zeros(1, 5, 48), 4, (8, 8))
    with pytest.raises(UsageError, match="tolerance 1 is relative"):
        patch_nullspace(model_of(), tolerance=1)


def test_real_vit_tiny_with_real_images(shared_data: Path) -> None:
    """576 dimensions (table 1), and noise of norm 100 that moves no logit by 1e-4."""
    from nsbench.data.loading import batches
    from nsbench.run.opening import open_source

    model = load_model("vit_tiny_patch16_224", checkpoint=shared_data / "weights" / "vit_tiny_patch16_224.safetensors")
    split = open_source(str(shared_data / "imagenet")).split("clean").limited(3)
    (batch,) = batches(split, model.preprocessing.transform("checkpoint"), batch_size=3)
    images = batch.images.float() / 255
    space = patch_nullspace(model)
    assert (space.dimension, patch_nullspace(model, per_channel=True).dimension) == (576, 3 * 64)
    with torch.no_grad():
        change = (model(images + space.sample((224, 224), norm=100, count=3)) - model(images)).abs().max()
    assert change < 1e-4
