"""Saliency maps against loops written out by hand, and against the network's own arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from nsbench.errors import ModelError, UnknownName, UsageError
from nsbench.models import Model, Preprocessing, load_model
from nsbench.nullspace import patch_nullspace
from nsbench.nullspace.saliency import SALIENCY, linearised, saliency


def tiny_model(seed: int = 0, **options: object) -> Model:
    torch.manual_seed(seed)
    vit = VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=3, num_heads=2, num_classes=5, **options)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return Model(vit, name="tiny", preprocessing=Preprocessing(16), mean=(0.5,) * 3, std=(0.5,) * 3)


def pictures(n: int = 3) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def plain_pass(vit: VisionTransformer, tokens: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """timm's forward pass of one image's tokens written out: logits, attention maps, last block's norm1."""
    x = torch.cat([vit.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + vit.pos_embed
    maps = []
    for block in vit.blocks:
        normed = block.norm1(x)
        q, k, v = block.attn.qkv(normed).unflatten(2, (3, 2, 12)).permute(2, 0, 3, 1, 4)
        maps.append((q @ k.transpose(2, 3) / 12**0.5).softmax(dim=3))
        x = x + block.attn.proj((maps[-1] @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    return vit.head(vit.norm(x)[:, 0]), maps, normed


def by_hand(model: Model, image: torch.Tensor, method: str) -> torch.Tensor:
    logits, maps, normed = plain_pass(model.vit, model.embed(image).detach())
    best = logits.max()
    eye = torch.eye(17)
    if method == "grad_cam":
        gradient = torch.autograd.grad(best, normed)[0][0, 1:]
        return torch.stack([(gradient.mean(0) * row).sum() for row in normed[0, 1:]]).relu()
    gradients = torch.autograd.grad(best, maps)
    total = eye
    for attention, gradient in zip(maps, gradients, strict=True):
        if method == "rollout":
            mixed = attention[0].mean(0) + eye
            total = mixed / mixed.sum(1, keepdim=True) @ total
        else:
            total = total + (attention[0] * gradient[0]).relu().mean(0) @ total
    return total[0, 1:]


@pytest.mark.parametrize("method", ["rollout", "grad_cam", "attention_relevance"])
def test_maps_equal_a_pass_written_out(method: str) -> None:
    model, images = tiny_model(), pictures()
    maps = saliency(model, images, method)
    assert maps.shape == (3, 4, 4)
    for image, found in zip(images, maps, strict=True):
        torch.testing.assert_close(found.flatten(), by_hand(model, image[None], method).detach(), rtol=1e-4, atol=1e-6)
    assert maps.std() > 0


def test_rollout_is_a_distribution_over_all_tokens() -> None:
    model = tiny_model()
    maps = saliency(model, pictures(), "rollout")
    assert (maps >= 0).all()
    assert (maps.flatten(1).sum(dim=1) < 1).all()  # the rest is the class token's


def test_linearised_network_gives_the_same_logits() -> None:
    model, images = tiny_model(), pictures()
    with torch.no_grad(), linearised(model):
        found = model(images)
    torch.testing.assert_close(found, model(images), rtol=1e-5, atol=1e-5)
    assert not any(module._forward_hooks for module in model.modules())


def test_relevances_add_up_to_the_logit_where_there_are_no_biases() -> None:
    """Conservation, the defining property of relevance propagation (Bach et al. 2015)."""
    model, images = tiny_model(), pictures()
    with torch.no_grad():
        for name, parameter in model.vit.named_parameters():
            if name.endswith("bias") or name in ("cls_token", "pos_embed"):
                parameter.zero_()
    maps = saliency(model, images, "relevance_propagation")
    torch.testing.assert_close(maps.sum(dim=(1, 2)), model(images).max(dim=1).values, rtol=1e-3, atol=1e-4)
    assert maps.min() < 0 < maps.max()  # for and against


def test_explained_class_can_be_chosen() -> None:
    model, images = tiny_model(), pictures()
    own = model(images).argmax(dim=1)
    for method in SALIENCY:
        kept, other = saliency(model, images, method, own), saliency(model, images, method, (own + 1) % 5)
        torch.testing.assert_close(kept, saliency(model, images, method))
        assert torch.equal(kept, other) == (method == "rollout")  # it knows no class


@pytest.mark.parametrize("method", SALIENCY)
def test_maps_do_not_see_the_nullspace(method: str) -> None:
    model = tiny_model()
    images = pictures()
    noise = patch_nullspace(model).project(torch.randn(3, 3, 16, 16))
    clean, noisy = saliency(model, images, method), saliency(model, images + noise, method)
    torch.testing.assert_close(noisy, clean, rtol=1e-3, atol=1e-4 * float(clean.abs().max()))
    wrong = saliency(model, images + torch.randn(3, 3, 16, 16) * noise.std(), method)
    assert (wrong - clean).abs().max() > 100 * (noisy - clean).abs().max()


@pytest.mark.parametrize("options", [{"class_token": False, "global_pool": "avg"}, {"reg_tokens": 2}])
@pytest.mark.parametrize("method", SALIENCY)
def test_other_token_layouts(method: str, options: dict[str, object]) -> None:
    maps = saliency(tiny_model(**options), pictures(), method)
    assert maps.shape == (3, 4, 4)
    assert maps.isfinite().all()


def test_gradients_and_modes_are_left_as_they_were() -> None:
    model = tiny_model()
    model.train()
    saliency(model, pictures(), "attention_relevance")
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_errors() -> None:
    model = tiny_model()
    with pytest.raises(UnknownName, match="rollout"):
        saliency(model, pictures(), "rolout")
    with pytest.raises(UsageError, match="2 classes to explain for 3 images"):
        saliency(model, pictures(), "grad_cam", torch.tensor([0, 1]))
    import timm

    from nsbench.models import wrap

    cnn = wrap(timm.create_model("resnet18", num_classes=5), name="resnet18")
    for method in SALIENCY:
        with pytest.raises(ModelError):
            saliency(cnn, torch.rand(1, 3, 64, 64), method)


def test_real_vit_looks_at_the_object(shared_data: Path) -> None:
    """Four photographs, one a quadrant: relevance for a class lies mostly in its own quadrant."""
    from torchvision.transforms.functional import pil_to_tensor

    from nsbench.data.decode import decode

    model = load_model("vit_tiny_patch16_224", checkpoint=shared_data / "weights/vit_tiny_patch16_224.safetensors")
    folders = sorted((shared_data / "imagenet/val").iterdir())
    paths = [sorted(folder.iterdir())[0] for folder in folders[:: len(folders) // 12][:12]]
    images = torch.stack([pil_to_tensor(decode(path).resize((112, 112))) for path in paths]).float() / 255
    with torch.no_grad():
        classes = model(torch.nn.functional.interpolate(images, size=(224, 224), mode="bilinear")).argmax(dim=1)
    sheets = torch.cat([torch.cat([images[0::4], images[1::4]], 3), torch.cat([images[2::4], images[3::4]], 3)], 2)
    for method, least in (("attention_relevance", 9), ("grad_cam", 6)):  # by chance 3 of 12
        hits = 0
        for position in range(4):
            maps = saliency(model, sheets, method, classes[position::4])
            quadrants = maps.unflatten(1, (2, 7)).unflatten(3, (2, 7)).sum(dim=(2, 4)).flatten(1)
            hits += int((quadrants.argmax(dim=1) == position).sum())
        assert hits >= least, (method, hits)
