"""An exported model is the same one, to the bit: for nsbench, and for timm, which reads the folder by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from torch import nn

from nsbench.cli import main
from nsbench.models import Model, load_model, weights_digest
from nsbench.results import read_results

RECIPE = ["--recipe", "quick", "--set", "rounds=1", "--set", "steps_per_round=2"]


def nsbench(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def exported(out: Path, *options: object) -> Path:
    done = nsbench("export", "weights", "--out", out, *options)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    return out


def by_timm(folder: Path) -> nn.Module:
    """timm's model of the folder; where timm is too old to know local-dir, by what it does then."""
    from timm.models import _factory

    if hasattr(_factory, "load_model_config_from_path"):
        network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
        return network.eval()
    record: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config = record["pretrained_cfg"] | {
        "file": str(folder / "model.safetensors"),
        "num_classes": record["num_classes"],
    }
    built: nn.Module = timm.create_model(
        record["architecture"], pretrained=True, pretrained_cfg=config, **record["model_args"]
    )
    return built.eval()


def same(model: Model, network: nn.Module) -> bool:
    """timm's network gives the same logits for images that are normalised as its own configuration says."""
    config = timm.data.resolve_data_config(pretrained_cfg=network.pretrained_cfg)
    images = torch.rand(3, *config["input_size"], generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert config["crop_pct"] == model.preprocessing.crop_pct
    assert config["interpolation"] == model.preprocessing.interpolation
    with torch.no_grad():
        return torch.equal(network((images - mean) / std), model(images))


def test_a_fitted_model_is_the_same_for_timm_and_for_nsbench(tmp_path: Path) -> None:
    results = ["--suite", "clean", "--limit", 20]
    done = nsbench("run", "--method", "ns", *results, *RECIPE, "--seed", 3, "--results", tmp_path / "a")
    assert done.exit_code == 0, done.output
    out = exported(tmp_path / "mine", "--method", "ns", *RECIPE, "--seed", 3)
    fitted = read_results(tmp_path / "a")[0][0]
    model = load_model(f"local-dir:{out}")
    assert weights_digest(model) == fitted.provenance.weights_digest
    assert same(model, by_timm(out))
    again = nsbench(
        "run", "--method", "pretrained", *results, "--model", f"local-dir:{out}", "--results", tmp_path / "b"
    )
    assert again.exit_code == 0, again.output
    assert read_results(tmp_path / "b")[0][0].score == fitted.score
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    assert "| recipe | 'quick', seed 3 |" in card
    assert fitted.provenance.weights_digest in card
    assert json.loads((out / "config.json").read_text())["label_names"][0] == "disk"


def checkpoint(folder: Path, name: str) -> Path:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    save_file(network.state_dict(), folder / "w.safetensors")
    return folder / "w.safetensors"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", ["--mean", "0.1,0.2,0.3", "--crop-pct", "0.8"]),
        ("deit_tiny_distilled_patch16_224", ["--interpolation", "bilinear"]),
        ("resnet18", ["--img-size", "64"]),
        ("vit_tiny_patch16_224", ["--img-size", "96"]),
        ("eva02_tiny_patch14_224", []),
    ],
)
def test_other_architectures_and_preparations(tmp_path: Path, name: str, options: list[str]) -> None:
    path = checkpoint(tmp_path, name)
    given = ["--model", name, "--checkpoint", path, *options]
    out = exported(tmp_path / "out", "--method", "pretrained", *given)
    model = load_model(f"local-dir:{out}")
    assert same(model, by_timm(out))
    again = exported(tmp_path / "again", "--method", "pretrained", "--model", f"local-dir:{out}")
    first, second = load_file(out / "model.safetensors"), load_file(again / "model.safetensors")
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert (out / "config.json").read_text() == (again / "config.json").read_text()


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "from torch import nn\ndef build():\n"
        "    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))\n"
        "    net.input_size = 48\n    return net\n"
    )
    done = nsbench("export", "weights", "--method", "ns", "--model", f"{tmp_path}/m.py:build", "--out", tmp_path / "x")
    assert done.exit_code == 1
    assert "'m:build': is not one that timm builds" in done.output
    done = nsbench("export", "weights", "--method", "pretrained", "--out", tmp_path)
    assert done.exit_code == 2
    assert "not an empty folder; name another one" in done.output
    done = nsbench("export", "weights", "--method", "all", "--out", tmp_path / "x")
    assert done.exit_code == 2
    assert "name one method" in done.output
    assert not (tmp_path / "x").exists()
