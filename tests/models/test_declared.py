"""What a checkpoint declares about its images is used, its place is told, and contradictions are refused."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from nsbench.cli import main
from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, load_model
from nsbench.models.loading import build_vit_shapes10
from nsbench.models.preparation import Preparation
from nsbench.results import read_results

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(timm.create_model(TINY, num_classes=10).state_dict())


@pytest.fixture
def checkpoint(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def config(checkpoint: Path, record: Any, name: str = "config.json") -> Path:
    checkpoint.with_name(name).write_text(record if isinstance(record, str) else json.dumps(record))
    return checkpoint


def prepared(model: Model) -> tuple[Any, ...]:
    how = model.preprocessing
    return model.mean, model.std, how.size, round(how.crop_pct, 4), how.interpolation, how.crop_mode


OWN = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 224, 0.9, "bicubic", "center")  # timm's, of this name


def test_without_a_declaration_timms_configuration_holds(checkpoint: Path) -> None:
    model = load_model(TINY, checkpoint=checkpoint)
    assert (prepared(model), model.said, model.normalisation) == (OWN, (), "own")


FORMS = {
    "timm": {
        "architecture": TINY,
        "num_classes": 10,
        "pretrained_cfg": {
            "mean": list(IMAGENET[0]),
            "std": list(IMAGENET[1]),
            "input_size": [3, 224, 224],
            "crop_pct": 0.95,
            "interpolation": "bilinear",
            "crop_mode": "center",
        },
    },
    "timm, flat": {
        "architecture": TINY,
        "mean": list(IMAGENET[0]),
        "std": list(IMAGENET[1]),
        "crop_pct": 0.95,
        "interpolation": "bilinear",
    },
    "a tag": {"architecture": f"{TINY}.augreg_in21k", "mean": list(IMAGENET[0]), "std": list(IMAGENET[1]),
              "crop_pct": 0.95, "interpolation": "bilinear"},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_config_beside_the_file_is_used(checkpoint: Path, form: str) -> None:
    model = load_model(TINY, checkpoint=config(checkpoint, FORMS[form]))
    assert prepared(model) == (*IMAGENET, 224, 0.95, "bilinear", "center")
    (said,) = model.said
    assert said.startswith("mean, std, ")
    assert said.endswith(" from config.json")


def test_a_config_of_another_architecture_is_not_this_files(checkpoint: Path) -> None:
    model = load_model(TINY, checkpoint=config(checkpoint, {"architecture": "resnet50", "mean": list(IMAGENET[0])}))
    assert (prepared(model), model.said) == (OWN, ())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"image_mean": 0.5, "image_std": [0.5] * 3, "size": {"height": 224, "width": 224}, "resample": 2,
             "do_center_crop": False},
            (OWN[0], OWN[1], 224, 1.0, "bilinear", "squash"),
        ),
        (
            {"image_mean": list(IMAGENET[0]), "image_std": list(IMAGENET[1]), "size": {"shortest_edge": 256},
             "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "resample": 3},
            (*IMAGENET, 224, 0.875, "bicubic", "center"),
        ),
        ({"do_normalize": False, "size": 224, "crop_size": 224}, ((0, 0, 0), (1, 1, 1), 224, 1.0, "bicubic", "center")),
    ],
)  # fmt: skip
def test_hugging_faces_preprocessor(checkpoint: Path, record: dict[str, Any], expected: tuple[Any, ...]) -> None:
    model = load_model(TINY, checkpoint=config(checkpoint, record, "preprocessor_config.json"))
    assert prepared(model) == expected


@pytest.mark.parametrize("args", [Namespace, dict])
def test_the_arguments_of_a_training_are_used(tmp_path: Path, weights: dict[str, torch.Tensor], args: Any) -> None:
    given = args(mean=list(IMAGENET[0]), std=list(IMAGENET[1]), crop_pct=0.95, img_size=None, lr=np.float64(1e-3))
    torch.save({"state_dict": weights, "args": given, "epoch": np.int64(3)}, tmp_path / "last.pth")
    model = load_model(TINY, checkpoint=tmp_path / "last.pth")
    assert prepared(model) == (*IMAGENET, 224, 0.95, "bicubic", "center")
    assert model.said == ("mean, std, crop_pct from the file's args",)


@pytest.mark.parametrize(
    ("mean", "std", "network"), [("normalize.mean", "normalize.std", ""), ("0.mean", "0.std", "1."),
                                 ("module.0.mean", "module.0.std", "module.1.")],
)  # fmt: skip
def test_a_first_layer_that_normalises_is_used(
    tmp_path: Path, weights: dict[str, torch.Tensor], mean: str, std: str, network: str
) -> None:
    state = {f"{network}{name}": value for name, value in weights.items()}
    state |= {mean: torch.tensor(IMAGENET[0]).view(1, 3, 1, 1), std: torch.tensor(IMAGENET[1]).view(1, 3, 1, 1)}
    torch.save(state, tmp_path / "w.pth")
    model = load_model(TINY, checkpoint=tmp_path / "w.pth")
    assert model.mean == pytest.approx(IMAGENET[0])
    assert model.said == ("mean, std from its first layer",)


def test_what_contradicts_is_refused_and_the_caller_decides(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "last.pth"
    torch.save({"state_dict": weights, "args": Namespace(mean=[0.5] * 3, std=[0.5] * 3)}, path)
    config(path, {"mean": list(IMAGENET[0]), "std": [0.5] * 3})
    both = "mean is 0.485 0.456 0.406 in config.json and 0.5 0.5 0.5 in the file's args; say which holds, with --mean"
    with pytest.raises(ModelError, match=re.escape(both)):
        load_model(TINY, checkpoint=path)
    model = load_model(TINY, checkpoint=path, asked=Preparation(mean=(0.1, 0.2, 0.3)))
    assert (model.mean, model.normalisation) == ((0.1, 0.2, 0.3), "given")
    assert model.said == ("std from config.json", "mean as asked for")
    assert load_model(TINY, checkpoint=path, normalisation="imagenet").mean == IMAGENET[0]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{", "cannot be read"),
        ("[1]", "it is no JSON object"),
        ("[" * 100_000, "cannot be read"),
        ({"mean": [1, 2]}, "give three numbers"),
        ({"std": [1, 1, 0], "mean": 0}, "above 0"),
        ({"input_size": [3, 224, 196]}, "only square images"),
        ({"interpolation": "nice"}, "interpolation 'nice' is none of"),
        ({"mean": "dark"}, "cannot be read"),
        ({"num_classes": 7}, "has 10 classes, and its config.json says 7"),
    ],
)
def test_a_config_that_cannot_be_right_is_named(checkpoint: Path, record: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as raised:
        load_model(TINY, checkpoint=config(checkpoint, record))
    assert "\n" not in str(raised.value)


def test_another_image_size_is_timms_model_of_that_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    larger = timm.create_model(TINY, num_classes=10, img_size=256)
    save_file(larger.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        ModelError, match=r"its position embedding is of 257 tokens, and the model has 197; .* --img-size"
    ):
        load_model(TINY, checkpoint=tmp_path / "w.safetensors")
    images = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        expected = larger.eval()((images - 0.5) / 0.5)
    for model in (
        load_model(TINY, checkpoint=tmp_path / "w.safetensors", asked=Preparation(size=256)),
        load_model(TINY, checkpoint=config(tmp_path / "w.safetensors", {"input_size": [3, 256, 256]})),
    ):
        assert model.input_size == 256
        with torch.no_grad():
            assert torch.equal(model(images), expected)
    smaller = load_model(TINY, checkpoint=tmp_path / "w.safetensors", asked=Preparation(size=64))
    reference = timm.create_model(TINY, num_classes=10, img_size=64)
    timm.models.load_checkpoint(reference, str(tmp_path / "w.safetensors"), filter_fn=checkpoint_filter_fn)
    with torch.no_grad():
        assert torch.equal(smaller(images[..., :64, :64]), reference.eval()((images[..., :64, :64] - 0.5) / 0.5))
    assert "position embedding resampled from 257 to 17 tokens" in smaller.said
    with pytest.raises(UsageError, match="vit_shapes10 takes 48 pixels"):
        load_model("vit_shapes10", asked=Preparation(size=64))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--mean", "0.5,0.5", "--mean 0.5,0.5: give three numbers"),
        ("--std", "0", "std (0.0, 0.0, 0.0): give three numbers above 0"),
        ("--crop-pct", "0", "crop_pct 0.0: give the crop's share"),
        ("--interpolation", "nice", "interpolation 'nice' is none of"),
        ("--img-size", "2", "image size 2: give 8 to 4096 pixels"),
    ],
)
def test_options_that_cannot_be_right_are_refused_before_the_work(option: str, value: str, words: str) -> None:
    found = CliRunner().invoke(main, ["run", "--method", "pretrained", "--suite", "clean", option, value])
    assert (found.exit_code, words in found.output) == (2, True), found.output


def test_the_result_says_what_was_declared_and_asked_for(tmp_path: Path) -> None:
    path, results = tmp_path / "mine.pth", tmp_path / "results"
    torch.save({"model": build_vit_shapes10().state_dict(), "args": Namespace(mean=[0.4] * 3, std=[0.3] * 3)}, path)
    command = ["run", "--method", "pretrained", "--suite", "clean", "--limit", "10", "--results", str(results)]
    found = CliRunner().invoke(main, [*command, "--checkpoint", str(path), "--std", "0.2", "--name", "my own"])
    assert found.exit_code == 0, found.output
    assert "mean from the file's args; std as asked for" in " ".join(found.output.split())
    (stored,), _ = read_results(results)
    own = stored.provenance
    assert (own.mean, own.std, own.normalisation) == ((0.4,) * 3, (0.2,) * 3, "given")
    assert own.prepared == ("mean from the file's args", "std as asked for")
    assert (own.checkpoint, own.name) == ("mine.pth", "my own")
    shown = CliRunner().invoke(main, ["show", "--results", str(results), "--beside", "none"])
    assert "my own" in shown.output


# --- names of others --------------------------------------------------------------------------------------------------


def same(path: Path, weights: dict[str, torch.Tensor], name: str = TINY) -> None:
    found = load_model(name, checkpoint=path).timm_state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], value) for key, value in weights.items())


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.module.", "model.", "timm_model.", "module.model.", "encoder.", "backbone.model._orig_mod."],
)
def test_prefixes_in_any_order(tmp_path: Path, weights: dict[str, torch.Tensor], prefix: str) -> None:
    torch.save({f"{prefix}{name}": value for name, value in weights.items()}, tmp_path / "w.pth")
    same(tmp_path / "w.pth", weights)


def test_counters_of_averaging_are_no_weights(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(timm.create_model(TINY, num_classes=10))
    averaged.module.load_state_dict(weights)
    assert "n_averaged" in averaged.state_dict()
    torch.save(averaged.state_dict(), tmp_path / "swa.pth")
    same(tmp_path / "swa.pth", weights)


def test_a_checkpoint_of_lightning(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    content = {
        "state_dict": OrderedDict({f"model.{name}": value for name, value in weights.items()}),
        "hyper_parameters": Namespace(lr=1e-3, out=tmp_path),
        "epoch": np.int64(2),
        "callbacks": {"best": np.float32(0.5)},
    }
    torch.save(content, tmp_path / "epoch=2.ckpt")
    same(tmp_path / "epoch=2.ckpt", weights)


class Trainer:
    """A type of somebody's own."""


def test_a_python_object_is_named_and_not_called_damage(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save({"model": weights, "trainer": Trainer()}, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"of type \S*Trainer, which is not loaded because it could run code; save"
    ) as raised:
        load_model(TINY, checkpoint=tmp_path / "w.pth")
    assert "damaged" not in str(raised.value)


@pytest.mark.parametrize(("family", "name"), [("ViT", TINY), ("DeiT", "deit_tiny_patch16_224")])
def test_transformers_own_model_has_the_same_logits(tmp_path: Path, family: str, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    how = getattr(transformers, f"{family}Config")(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=10, image_size=224
    )
    if family == "DeiT":
        name = "deit_tiny_distilled_patch16_224"
        theirs = transformers.DeiTForImageClassificationWithTeacher(how).eval()
    else:
        theirs = transformers.ViTForImageClassification(how).eval()
    theirs.save_pretrained(tmp_path)
    model = load_model(name, checkpoint=tmp_path / "model.safetensors", asked=Preparation(mean=(0,) * 3, std=(1,) * 3))
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images).logits, rtol=1e-3, atol=5e-5)  # other norms


def test_a_jax_file_of_vision_transformer(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Written as big_vision's predecessor wrote them: kernels transposed, heads apart."""
    arrays: dict[str, np.ndarray] = {}

    def put(name: str, value: torch.Tensor) -> None:
        arrays[name] = value.numpy()

    put("cls", weights["cls_token"])
    put("Transformer/posembed_input/pos_embedding", weights["pos_embed"])
    put("embedding/kernel", weights["patch_embed.proj.weight"].permute(2, 3, 1, 0))
    put("embedding/bias", weights["patch_embed.proj.bias"])
    for timms, theirs in (("norm", "Transformer/encoder_norm"), ("head", "head")):
        kind = "kernel" if timms == "head" else "scale"
        put(f"{theirs}/{kind}", weights[f"{timms}.weight"].t() if kind == "kernel" else weights[f"{timms}.weight"])
        put(f"{theirs}/bias", weights[f"{timms}.bias"])
    for block in range(12):
        mine, theirs = f"blocks.{block}", f"Transformer/encoderblock_{block}"
        for norm, where in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            put(f"{theirs}/{where}/scale", weights[f"{mine}.{norm}.weight"])
            put(f"{theirs}/{where}/bias", weights[f"{mine}.{norm}.bias"])
        kernels = weights[f"{mine}.attn.qkv.weight"].chunk(3)
        biases = weights[f"{mine}.attn.qkv.bias"].chunk(3)
        for which, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            put(f"{theirs}/MultiHeadDotProductAttention_1/{which}/kernel", kernel.t().reshape(192, 3, 64))
            put(f"{theirs}/MultiHeadDotProductAttention_1/{which}/bias", bias.reshape(3, 64))
        put(
            f"{theirs}/MultiHeadDotProductAttention_1/out/kernel",
            weights[f"{mine}.attn.proj.weight"].t().reshape(3, 64, 192),
        )
        put(f"{theirs}/MultiHeadDotProductAttention_1/out/bias", weights[f"{mine}.attn.proj.bias"])
        for layer in (0, 1):
            put(f"{theirs}/MlpBlock_3/Dense_{layer}/kernel", weights[f"{mine}.mlp.fc{layer + 1}.weight"].t())
            put(f"{theirs}/MlpBlock_3/Dense_{layer}/bias", weights[f"{mine}.mlp.fc{layer + 1}.bias"])
    np.savez(tmp_path / "w.npz", **arrays)
    same(tmp_path / "w.npz", weights)
    np.savez(tmp_path / "cut.npz", **{name: value for name, value in arrays.items() if "encoderblock_7" not in name})
    with pytest.raises(ModelError, match=r"is no \.npz of this architecture"):
        load_model(TINY, checkpoint=tmp_path / "cut.npz")


def _one_before(match: re.Match[str]) -> str:
    return f"layers.{int(match.group(1)) - 1}.downsample"


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "deit3_small_patch16_224", "beit_base_patch16_224"])
def test_official_files_of_a_family(tmp_path: Path, name: str) -> None:
    """As their authors wrote them: buffers that timm has no more, layer scales called gamma, under "model"."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10)
    own = {key: value.clone() for key, value in network.state_dict().items()}
    old = dict(own)
    if name.startswith("deit3"):
        old = {key.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): v for key, v in own.items()}
    if name.startswith("swin"):
        old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
        old = {key.replace("head.fc.", "head."): value for key, value in old.items()}
        old = {re.sub(r"layers\.(\d)\.downsample", _one_before, key): value for key, value in old.items()}
    torch.save({"model": old}, tmp_path / "official.pth")
    same(tmp_path / "official.pth", own, name)


def test_a_model_without_a_classifier_is_refused_with_the_reason(tmp_path: Path) -> None:
    features = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=28, depth=1)
    save_file(features.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="has no classifier, and neither has timm's"):
        load_model("vit_small_patch14_reg4_dinov2", checkpoint=tmp_path / "w.safetensors", asked=Preparation(size=28))
