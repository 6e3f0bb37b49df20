"""What is shipped with shapes10: weights, the script that trained them, the sheet of samples."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from nsbench.models import load_model
from nsbench.models.vq import load_vq
from nsbench.shapes10 import DISCRETISER, Shapes10, make, splits, surrogate
from nsbench.shapes10.discretiser import main as train_discretiser
from nsbench.shapes10.discretiser import quality
from nsbench.training import Discretiser


def test_the_shipped_transformer_reaches_97_percent_on_clean() -> None:
    model = load_model("vit_shapes10").eval()
    indices = np.arange(1000)
    images = torch.from_numpy(splits.render("clean", indices)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        predictions = torch.cat([model(part).argmax(dim=1) for part in images.split(250)]).numpy()
    assert (predictions == splits.labels_of(splits.DRAWN["clean"], indices)).mean() >= 0.97


def test_weights_are_small() -> None:
    weights = Path(surrogate.__file__).parent / "weights"
    assert (weights / "vit_shapes10.safetensors").stat().st_size < 4_000_000
    for name in ("reference", "surrogate"):
        assert (weights / f"shapes10_{name}.safetensors").stat().st_size < 150_000
    assert (weights / "shapes10_discretiser.safetensors").stat().st_size < 1_000_000


def test_the_shipped_discretiser_is_loaded_and_keeps_what_its_file_states(source: Shapes10) -> None:
    """Of the first 100 images of clean, within what so few may differ from all of them."""
    with safe_open(DISCRETISER, "pt") as file:
        stated = json.loads(file.metadata()["clean"])
    assert hashlib.sha256(DISCRETISER.read_bytes()).hexdigest()[:16] == "2aef4b6be3187cfb"
    images = torch.from_numpy(splits.render("clean", np.arange(100))).permute(0, 3, 1, 2)
    labels = torch.from_numpy(splits.labels_of(splits.DRAWN["clean"], np.arange(100)))
    found = quality(load_vq(DISCRETISER), images, labels, load_model("vit_shapes10"))
    assert found.psnr == pytest.approx(stated["psnr"], abs=0.7)
    assert found.accuracy_quantised == pytest.approx(stated["accuracy_quantised"], abs=8)
    assert found.codes > 0.5 * stated["codes"]
    assert (
        Discretiser.needs(source.split("clean"))
        == Discretiser.needs(source.split("clean"), "shapes10")
        == "2ea2407308f1ee86"
    )


def test_the_discretisers_script_writes_one_that_loads(source: Shapes10, tmp_path: Path) -> None:
    splits.DRAWN["train"] = replace(splits.DRAWN["train"], count=128)
    make._recipe_digest.cache_clear()
    result = CliRunner().invoke(train_discretiser, ["--out", str(tmp_path), "--steps", "3"], catch_exceptions=False)
    assert result.exit_code == 0
    model = load_model("vit_shapes10")
    opened = Discretiser.open(str(tmp_path / DISCRETISER.name), model, source.split("clean").limited(32))
    assert opened(torch.rand(2, 3, 48, 48)).shape == (2, 3, 48, 48)


def test_pretraining_writes_a_network_that_loads(source: Shapes10, tmp_path: Path) -> None:
    from safetensors import safe_open

    from nsbench.shapes10.pretrain import main

    splits.DRAWN["train"] = replace(splits.DRAWN["train"], count=256)
    make._recipe_digest.cache_clear()
    arguments = ["--out", str(tmp_path), "--epochs", "1", "--only", "vit"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    load_model("vit_shapes10", checkpoint=tmp_path / "vit_shapes10.safetensors")
    with safe_open(tmp_path / "vit_shapes10.safetensors", "pt") as file:
        assert float(file.metadata()["clean_top1"]) <= 100
        assert file.metadata()["train"] == source.split("train").digest


def test_sheet_shows_every_split(source: Shapes10, tmp_path: Path) -> None:
    from nsbench.shapes10.sheet import write_sheet

    write_sheet(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1700
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 10_000
