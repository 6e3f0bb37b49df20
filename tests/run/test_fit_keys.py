"""What decides weights is in their key: how images are prepared, too, and what a checkpoint declares stays as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from nsbench import registry, training
from nsbench.models import load_model, weights_digest
from nsbench.models.model import Model
from nsbench.models.preparation import Preparation
from nsbench.progress import SILENT
from nsbench.run.fit import Fitter
from nsbench.run.kept_fits import FitCard, Fitted, kept_at, store, stored
from nsbench.run.opening import open_source

CNN = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes any size, without a file beside it."""
    path = tmp_path_factory.mktemp("cnn") / "cnn.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model(CNN, num_classes=10).state_dict(), path)
    return path


def key(model: Model, method: str = "finetune") -> str:
    registry.load_content()
    fitter = Fitter(training.load_recipe("quick"), open_source("shapes10"), SILENT)
    return fitter.key(registry.methods[method], model, weights_digest(model))


def asked(cnn: Path, **said: object) -> Model:
    return load_model(CNN, checkpoint=cnn, asked=Preparation(**said))  # type: ignore[arg-type]


def test_the_key_of_a_checkpoint_as_it_declares_itself_is_what_it_always_was() -> None:
    """Frozen: keys of kept weights and of published results are found by it."""
    assert key(load_model("vit_shapes10")) == "2aad8c5359e0b0f4"
    assert key(load_model("vit_shapes10", asked=Preparation(size=48, interpolation="bicubic"))) == key(
        load_model("vit_shapes10")
    )


def test_another_preparation_is_another_training(cnn: Path) -> None:
    own = asked(cnn)
    models = [own, asked(cnn, interpolation="bilinear"), asked(cnn, size=64), asked(cnn, size=96)]
    assert [one.own_preparation for one in models] == [True, False, False, False]
    assert len({key(one) for one in models}) == 4
    assert len({key(one, "pretrained") for one in models}) == 1, "nothing is trained"
    assert key(asked(cnn, size=own.input_size, interpolation=own.preprocessing.interpolation)) == key(own)


def test_a_config_file_is_the_checkpoint_s_own_and_an_override_is_not(cnn: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / cnn.name
    checkpoint.write_bytes(cnn.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"architecture": CNN, "interpolation": "bilinear"}))
    declared = asked(checkpoint)
    assert (declared.preprocessing.interpolation, declared.own_preparation) == ("bilinear", True)
    assert key(declared) == key(asked(cnn)), "as it always was: the card tells the two apart"
    assert key(asked(checkpoint, interpolation="bicubic")) not in (key(declared), key(asked(cnn)))


def test_weights_of_another_declaration_are_not_taken(tmp_path: Path) -> None:
    model = load_model("vit_shapes10")
    said = model.preprocessing.describe()
    card = FitCard("m", 1, model.name, "p", weights_digest(model), None, preprocessing=said)
    path = kept_at(tmp_path, "key")
    for preprocessing, taken in ((said, True), ("", True), ("resize 48 bilinear, crop 48", False)):
        store(path, Fitted(model, "key", replace(card, preprocessing=preprocessing)))
        assert (stored(path, model, "key") is not None) is taken


def test_cards_without_the_field_are_read(tmp_path: Path) -> None:
    model = load_model("vit_shapes10")
    path = kept_at(tmp_path, "key")
    store(path, Fitted(model, "key", FitCard("m", 1, model.name, "p", weights_digest(model), None)))
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["card"].pop("preprocessing") == ""
    path.with_suffix(".json").write_text(json.dumps(record))
    assert stored(path, model, "key") is not None
