"""RobustBench's zoo: names, preparation and logits are RobustBench's own; what is not on disk is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image
from torch import nn

from nsbench.cli import main
from nsbench.errors import ModelError, UnknownName, UsageError
from nsbench.files import cache_folder
from nsbench.models import load_model
from nsbench.models.catalogue import known_models, known_robustbench
from nsbench.models.robustbench import import_robustbench, parse, preprocessing, weight_files

MU, SIGMA = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def _offline_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and no download."""

    def refuse(*arguments, **_) -> None:
        raise ConnectionError("no network\nand a second line")

    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(import_robustbench(), "download_gdrive_new", refuse)


def zoo() -> dict:
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset

    return model_dicts[BenchmarkDataset.imagenet]


def test_the_list_is_the_zoos() -> None:
    import_robustbench()
    assert known_robustbench() == [(name, threat.value) for threat, models in zoo().items() for name in models]
    assert sum(threat == "Linf" for _, threat in known_robustbench()) == 30
    listed = CliRunner().invoke(main, ["list", "models"]).output
    assert "robustbench:Mo2022When_ViT-B" in listed
    assert "robustbench:AlexNet:corruptions" in listed
    assert set(known_models()) >= {"vit_shapes10", "robustbench:Salman2020Do_R50"}


@pytest.mark.parametrize(("name", "threat"), known_robustbench())
def test_pixels_are_prepared_as_robustbench_does(name: str, threat: str) -> None:
    from robustbench.data import get_preprocessing
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    pixels = np.random.default_rng(0).integers(0, 256, (330, 401, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    expected = get_preprocessing(BenchmarkDataset.imagenet, ThreatModel(threat), name, None)(image)
    ours = preprocessing(name, threat)
    assert torch.equal(ours.transform("checkpoint")(image).float() / 255, expected)
    assert expected.shape[-1] == ours.size
    assert str(ours.size) in ours.describe()


def test_names() -> None:
    assert parse("robustbench:Salman2020Do_R50") == ("Salman2020Do_R50", "Linf")
    assert parse("robustbench:Standard_R50:CORRUPTIONS") == ("Standard_R50", "corruptions")
    with pytest.raises(UnknownName, match="Did you mean 'Salman2020Do_R50'"):
        load_model("robustbench:Salman2020Do_R5")
    with pytest.raises(UsageError, match="'L7' is none of Linf, L2, corruptions"):
        load_model("robustbench:Salman2020Do_R50:L7")
    with pytest.raises(UnknownName, match="RobustBench model for L2"):
        load_model("robustbench:Salman2020Do_R50:L2")
    with pytest.raises(UsageError, match="normalises inside"):
        load_model("robustbench:Salman2020Do_R50", normalisation="half")
    with pytest.raises(UsageError, match="its own weights"):
        load_model("robustbench:Salman2020Do_R50", checkpoint=Path("some.pt"))


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("robustbench:Salman2020Do_R18", "cache/robustbench/imagenet/Linf/Salman2020Do_R18.pt"),
        (
            "robustbench:Debenedetti2022Light_XCiT-S12",
            "hub/checkpoints/debenedetti2022light-xcit-s-imagenet-linf.pth.tar",
        ),
        ("robustbench:Standard_R50", "hub/checkpoints/resnet50-0676ba61.pth"),
    ],
)
def test_offline_is_one_line_that_names_the_file(name: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(name)
    message = str(caught.value)
    assert "\n" not in message
    assert f"model '{name}'" in message
    assert str(tmp_path / where) in message
    assert "ConnectionError: no network" in message
    assert weight_files(*parse(name)) == [tmp_path / where]


def test_an_ensemble_names_its_files() -> None:
    files = weight_files("Bai2024MixedNUTS", "Linf")
    assert [path.name for path in files] == ["Bai2024MixedNUTS.pt_m0.pt", "Bai2024MixedNUTS.pt_m1.pt"]


def test_a_checkpoint_on_disk_loads_and_gives_its_logits() -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    path = cache_folder() / "robustbench" / "imagenet" / "Linf" / "Salman2020Do_R18.pt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {f"module.model.{key}": value for key, value in network.state_dict().items()}}, path)
    model = load_model("robustbench:Salman2020Do_R18")
    images_BCHW = torch.rand(2, 3, 224, 224)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MU, SIGMA))
    with torch.no_grad():
        torch.testing.assert_close(model(images_BCHW), network((images_BCHW - mean) / std), rtol=0, atol=1e-6)
    assert (model.num_classes, model.input_size, model.name) == (1000, 224, "robustbench:Salman2020Do_R18")
    with pytest.raises(ModelError, match="no patch embedding"):
        model.embed(images_BCHW)


def test_a_transformer_of_the_zoo_shows_its_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    from robustbench.model_zoo.architectures.utils_architectures import normalize_model
    from robustbench.model_zoo.enums import ThreatModel

    def small() -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=1000).eval()

    entry = zoo()[ThreatModel.Linf]["Mo2022When_ViT-B"]
    monkeypatch.setitem(entry, "model", lambda: normalize_model(small(), MU, SIGMA))
    (path,) = weight_files("Mo2022When_ViT-B", "Linf")
    path.parent.mkdir(parents=True)
    torch.save(small().state_dict(), path)
    model = load_model("robustbench:Mo2022When_ViT-B")
    expected = normalize_model(small(), MU, SIGMA)
    images_BCHW = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model(images_BCHW), expected(images_BCHW), rtol=0, atol=1e-6)
        assert model.embed(images_BCHW).shape == (2, 196, 192)


def test_a_damaged_file_is_named() -> None:
    (path,) = weight_files("Salman2020Do_R18", "Linf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(ModelError, match=r"Salman2020Do_R18\.pt"):
        load_model("robustbench:Salman2020Do_R18")
