"""Models: the cut at the patch embedding changes nothing, and checkpoints fit or say why not."""

from __future__ import annotations

import pickle
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_data_config
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from nsbench.errors import DataError, ModelError, UnknownName, UsageError
from nsbench.models import (
    Model,
    Preprocessing,
    build_vit_shapes10,
    frozen,
    known_models,
    load_model,
    save_weights,
    weights_digest,
    with_weights,
    wrap,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
tiny = partial(VisionTransformer, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=7)
ARCHITECTURES = {
    "vit": tiny,
    "deit": partial(timm.create_model, "deit_tiny_patch16_224", img_size=32, depth=2, num_classes=7),
    "deit distilled": partial(
        VisionTransformerDistilled, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=7
    ),
    "registers": partial(tiny, reg_tokens=4),
    "dinov2 registers": partial(
        timm.create_model, "vit_small_patch14_reg4_dinov2", img_size=28, depth=2, num_classes=7
    ),
    "average pooled": partial(tiny, global_pool="avg"),
    "average pooled, norm before": partial(tiny, global_pool="avg", fc_norm=False),
    "attention pooled": partial(tiny, global_pool="map", class_token=False),
    "no class token": partial(tiny, class_token=False, global_pool="avg"),
    "pre-norm (CLIP)": partial(tiny, pre_norm=True),
    "position without prefix (DeiT III)": partial(tiny, no_embed_class=True, init_values=1e-2),
    "beit": partial(timm.create_model, "beit_base_patch16_224", img_size=32, depth=2, num_classes=7),
    "eva": partial(timm.create_model, "eva02_tiny_patch14_224", img_size=28, depth=2, num_classes=7),
}


def model_of(vit: nn.Module, size: int = 32, name: str = "tiny") -> Model:
    return Model(vit, name=name, preprocessing=Preprocessing(size), mean=MEAN, std=STD)


def normalised(images_BCHW: torch.Tensor) -> torch.Tensor:
    return (images_BCHW - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def randomised(vit: nn.Module) -> nn.Module:
    """Untrained weights leave class tokens and biases at zero; a test must notice when one of them is lost."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return vit.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_timms_bit_for_bit(architecture: str) -> None:
    vit = randomised(ARCHITECTURES[architecture]())
    size = vit.patch_embed.img_size[0]
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    names = list(vit.state_dict())
    with torch.no_grad():
        expected = vit(normalised(images))
        model = model_of(vit, size)
        tokens = model.embed(images)
        assert tokens.shape[1:] == (vit.patch_embed.num_patches, vit.embed_dim)
        assert torch.equal(model(images), expected)
        assert torch.equal(model.head(model.encode(tokens)), expected)
        assert not torch.equal(model.head(model.encode(tokens + 1)), expected)
        assert torch.equal(deepcopy(model)(images), expected)
        assert torch.equal(pickle.loads(pickle.dumps(model))(images), expected)
    assert sorted(model.timm_state_dict()) == sorted(names)
    assert expected.std() > 0
    assert model.num_classes == 7


def test_copies_share_nothing() -> None:
    model = model_of(randomised(tiny()))
    images = torch.rand(2, 3, 32, 32)
    before = model(images).detach()
    copy = deepcopy(model)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(1.5)
    assert torch.equal(model(images), before)
    assert not torch.equal(copy(images), before)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in tiny().parameters())


def test_distilled_features_keep_both_tokens() -> None:
    model = model_of(randomised(ARCHITECTURES["deit distilled"]()))
    features = model.encode(model.embed(torch.rand(2, 3, 32, 32)))
    assert features.shape == (2, 2, 24)


def test_gradients_reach_images_and_patch_embedding() -> None:
    model = model_of(randomised(tiny()))
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    model(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert model.vit.patch_embed.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224", "pit_ti_224"])
def test_other_families_give_logits_but_no_tokens(name: str) -> None:
    plain = timm.create_model(name, pretrained=False, num_classes=5).eval()
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = plain(normalised(images))
        model = model_of(plain, 224, name)
        assert torch.equal(model(images), expected)
    with pytest.raises(ModelError, match="no patch embedding"):
        model.embed(images)
    assert sorted(model.timm_state_dict()) == sorted(plain.state_dict())


def test_frozen_gives_everything_back() -> None:
    model = model_of(tiny())
    model.train()
    model.vit.blocks[0].eval()
    model.vit.cls_token.requires_grad_(False)
    with frozen(model):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ZeroDivisionError), frozen(model):
        _ = 1 / 0
    assert model.training
    assert not model.vit.blocks[0].training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["vit.cls_token"]


# Weights on disk


def save_timm(folder: Path, name: str = "deit_tiny_distilled_patch16_224", classes: int = 6) -> tuple[Path, nn.Module]:
    vit = randomised(timm.create_model(name, pretrained=False, num_classes=classes))
    path = folder / "weights.safetensors"
    save_file(vit.state_dict(), path)
    return path, vit


def test_checkpoint_decides_classes_and_logits(tmp_path: Path) -> None:
    path, vit = save_timm(tmp_path)
    model = load_model("deit_tiny_distilled_patch16_224", checkpoint=path)
    assert model.num_classes == 6
    assert model.mean == MEAN  # timm's configuration of DeiT
    with torch.no_grad():
        images = torch.rand(1, 3, 224, 224)
        assert torch.equal(model(images), vit(normalised(images)))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_ema", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_wrapped_checkpoints(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    model = model_of(randomised(build_vit_shapes10()), 48)
    state = {prefix + name: value for name, value in model.timm_state_dict().items()}
    path = tmp_path / "checkpoint.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    assert weights_digest(load_model("vit_shapes10", checkpoint=path)) == weights_digest(model)


def test_averaged_weights_are_taken_unless_raw_ones_are_asked_for(tmp_path: Path) -> None:
    model, other = (model_of(randomised(build_vit_shapes10()), 48) for _ in range(2))
    with torch.no_grad():
        other.vit.cls_token.add_(1)
    torch.save({"state_dict_ema": other.timm_state_dict(), "state_dict": model.timm_state_dict()}, tmp_path / "c.pt")
    taken = load_model("vit_shapes10", checkpoint=tmp_path / "c.pt")
    assert weights_digest(taken) == weights_digest(other)
    assert taken.said == ("weights: state_dict_ema of a file that has averaged and raw ones",)
    raw = load_model("vit_shapes10", checkpoint=tmp_path / "c.pt", which="raw")
    assert weights_digest(raw) == weights_digest(model)
    assert raw.said == ("weights: state_dict of a file that has averaged and raw ones",)


def test_saved_weights_come_back(tmp_path: Path) -> None:
    model = wrap(randomised(build_vit_shapes10()), name="vit_shapes10", normalisation="imagenet")
    path = tmp_path / "new" / "weights.safetensors"
    save_weights(model, path, {"method": "test"})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert load_file(path).keys() == build_vit_shapes10().state_dict().keys()
    again = with_weights(model, path)
    assert weights_digest(again) == weights_digest(model)
    assert again.normalisation == "imagenet"
    images = torch.rand(2, 3, 48, 48)
    assert torch.equal(again(images), model(images))


def test_digest_sees_every_bit_and_no_order() -> None:
    model = model_of(randomised(build_vit_shapes10()), 48)
    digest = weights_digest(model)
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    model.timm_state_dict = lambda original=model.timm_state_dict: dict(reversed(original().items()))  # type: ignore
    assert weights_digest(model) == digest
    with torch.no_grad():
        model.patch_embed.proj.bias[0] += 1e-6
    assert weights_digest(model) != digest


def test_another_architecture_is_named_in_one_line(tmp_path: Path) -> None:
    path, _ = save_timm(tmp_path, "deit_tiny_distilled_patch16_224")
    message = r"3 unexpected.*pos_embed \[1, 198, 192\] instead of \[1, 197, 192\]"
    with pytest.raises(ModelError, match=message) as error:
        load_model("deit_tiny_patch16_224", checkpoint=path)
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"151 missing \(cls_token"):
        load_model("deit_small_patch16_224", checkpoint=_only(tmp_path, "norm.weight"))


def _only(folder: Path, name: str) -> Path:
    save_file({name: torch.ones(384)}, folder / "one.safetensors")
    return folder / "one.safetensors"


def test_bad_files_say_what_is_wrong(tmp_path: Path) -> None:
    state = build_vit_shapes10().state_dict()
    state["norm.bias"][3] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "nan.safetensors").read_bytes()[:5000])
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "weights.onnx").write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "object.pth")
    cases = {
        "nan.safetensors": "'norm.bias' holds NaN",
        "cut.safetensors": "cannot be read",
        "text.pth": "damaged",
        "weights.onnx": "is none of",
        "none.pth": "holds no weights",
        "object.pth": "could run code",
        "absent.pth": "does not exist",
        "": "is not a file",
    }
    for name, message in cases.items():
        with pytest.raises(UsageError if name == "absent.pth" else ModelError, match=message) as error:
            load_model("vit_shapes10", checkpoint=tmp_path / name)
        assert "\n" not in str(error.value)


def test_names_that_nobody_knows() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'vit_tiny_patch16_224'") as error:
        load_model("vit_tiny_patch16_24")
    assert len(str(error.value)) < 800
    with pytest.raises(ModelError, match="--checkpoint FILE"):
        load_model("vit_tiny_patch16_224")
    with pytest.raises(ModelError, match="cannot be built"):
        load_model("vit_tiny_patch16_224.no_such_tag", checkpoint=_shipped())
    with pytest.raises(UsageError, match="own, imagenet, half"):
        load_model("vit_shapes10", normalisation="cifar")
    assert "vit_shapes10" in known_models()


def _shipped() -> Path:
    path = Path(__file__).parents[2] / "nsbench" / "shapes10" / "weights" / "vit_shapes10.safetensors"
    assert path.is_file(), "the embedded weights are part of the package"
    return path


def test_embedded_model_is_shipped() -> None:
    model = load_model("vit_shapes10")
    assert (model.num_classes, model.input_size, model.mean, model.std) == (10, 48, (0.5,) * 3, (0.5,) * 3)
    assert model.patch_embed is not None
    assert model.patch_embed.proj.weight.flatten(1).shape == (128, 192)  # more pixels than width: a nullspace
    assert _shipped().stat().st_size < 4e6


# Preprocessing


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(301, 227), (180, 333), (224, 224)])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "vit_base_patch16_clip_224"])
def test_preprocessing_is_timms(name: str, size: tuple[int, int]) -> None:
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    preprocessing = Preprocessing(
        config["input_size"][-1], config["crop_pct"], config["interpolation"], config["crop_mode"]
    )
    transform = pickle.loads(pickle.dumps(preprocessing.transform("checkpoint")))
    ours = transform(picture(*size))
    assert (ours.dtype, ours.shape) == (torch.uint8, (3, 224, 224))
    theirs = create_transform(**config, is_training=False)(picture(*size))
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert torch.equal((ours.float() / 255 - mean) / std, theirs)


def test_ready_images_are_never_resized() -> None:
    ready = Preprocessing(224, 0.9).transform("none")
    assert torch.equal(ready(picture(224, 224)), pil_to_tensor(picture(224, 224)))
    with pytest.raises(DataError, match=r"227x224 pixels.*224x224"):
        ready(picture(227, 224))
    with pytest.raises(UsageError, match="neither 'checkpoint' nor 'none'"):
        Preprocessing(224).transform("squash")


def test_preprocessing_describes_itself() -> None:
    assert Preprocessing(224, 0.9).describe() == "resize 248 bicubic, crop 224"
    assert Preprocessing(224, 1.0, "bilinear", "squash").describe() == "resize squash 224 bilinear, crop 224"


# Real weights


def test_real_vit_tiny(shared_data: Path) -> None:
    path = shared_data / "weights" / "vit_tiny_patch16_224.safetensors"
    model = load_model("vit_tiny_patch16_224", checkpoint=path)
    assert (model.mean, model.std, model.num_classes) == ((0.5,) * 3, (0.5,) * 3, 1000)
    assert model.preprocessing == Preprocessing(224, 0.9, "bicubic", "center")
    assert load_model("vit_tiny_patch16_224", checkpoint=path, normalisation="imagenet").mean == MEAN
    plain = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    plain.load_state_dict(load_file(path))
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(model(images), plain((images - 0.5) / 0.5))
