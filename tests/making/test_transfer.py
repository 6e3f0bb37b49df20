"""Transfer sets: made once on a surrogate, the same for all that is judged, never mixed with another surrogate's."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_attacks import Small, pictures, run
from test_evaluate import CLASSES, SIZE, Noise, pixels
from timm.models.vision_transformer import VisionTransformer

from nsbench import health
from nsbench.attacks import mifgsm
from nsbench.cli import main
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.source import DataSource, Split, SurrogateName
from nsbench.errors import CorruptImage, DataError, MissingSplit, ModelError, UsageError
from nsbench.making.transfer import Surrogate, transfer_split
from nsbench.models import Model, Preprocessing, weights_digest
from nsbench.models.subset import over_classes
from nsbench.results import read_results
from nsbench.run.evaluate import evaluate
from nsbench.run.opening import open_source
from nsbench.types import Condition, ThreatModel


def network(seed: int, classes: int = CLASSES) -> Model:
    torch.manual_seed(seed)
    vit = VisionTransformer(img_size=SIZE, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=classes)
    torch.nn.init.normal_(vit.head.weight)
    return Model(vit, name=f"net{seed}", preprocessing=Preprocessing(SIZE, 1.0), mean=(0.5,) * 3, std=(0.5,) * 3)


class Given(Surrogate):
    """A surrogate that is at hand."""

    def __init__(self, model: Model) -> None:
        super().__init__(SurrogateName(model.name))
        self.__dict__["model"] = model


class Source(DataSource):
    """Random pictures with the labels that `network(0)` gives them."""

    name, title, class_names = "noise", "noise", "abcde"

    def __init__(self, surrogate: Model | None, n: int = 40) -> None:
        self.made_on = Given(surrogate) if surrogate else None
        self.clean = Noise(n)
        with torch.no_grad():
            self.clean.labels = network(0)(pixels(self.clean)).argmax(1).numpy()

    def splits(self) -> list[str]:
        return ["clean"]

    def split(self, name: str, progress: object = None) -> Split:
        return self.clean if name == "clean" else transfer_split(self, name, self.made_on)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path))
    return tmp_path / "transfer"


def test_a_cache_that_cannot_be_written_and_a_damaged_picture_are_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Source(network(1)).split("transfer/8")
    split.prepare(np.arange(3))
    path = split.path(1)
    content = path.read_bytes()
    for damaged in (content[:-40], content[:-1], content[:60] + b"\0" + content[61:], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="vanished or was damaged; remove it and run the command again"):
            split.load(1)
    path.write_bytes(content[: content.index(b"IEND") + 8])  # as older versions kept it
    assert split.load(1).size == (SIZE, SIZE)
    (tmp_path / "file").touch()
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DataError, match=r"cannot be written \(Not a directory\); free some space or point NSBENCH_CACHE"
    ):
        split.prepare(np.arange(3))


def at(k: int) -> Condition:
    return Condition("x", split=f"transfer/{k}", preprocess="none", threat=ThreatModel("linf", k / 255))


def test_mifgsm_equals_torchattacks_and_survives_a_zero_gradient() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks
    model, images = Small(), pictures(32, 0.0, 1.0)
    found, labels = run(mifgsm, model, images, ThreatModel("linf", 8 / 255))
    theirs = torchattacks.MIFGSM(model, eps=8 / 255, alpha=0.8 / 255, steps=10, decay=1.0)(images, labels)
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=0)
    flat = Small()
    flat.layers[-1].weight.data.zero_()
    found, labels = run(mifgsm, flat, images, ThreatModel("linf", 8 / 255))
    assert torch.equal(found, images)


def test_the_set_is_within_its_budget_and_breaks_the_surrogate(cache: Path) -> None:
    source = Source(network(0))
    accuracy = []
    for k in (2, 8, 32):
        split = source.split(f"transfer/{k}")
        found = evaluate(network(0), split, at(k)).outcomes
        accuracy.append(found.correct.mean())
        change = [np.array(split.load(i), dtype=int) - np.array(source.clean.load(i), dtype=int) for i in range(40)]
        assert np.abs(change).max() == k
    assert accuracy[0] > accuracy[1] > accuracy[2]
    assert accuracy[2] < 0.3


def test_a_set_of_some_classes_is_attacked_among_these(cache: Path) -> None:
    source, classes = Source(network(0)), (4, 1, 3)
    source.clean.classes, source.clean.labels = classes, np.full(40, 3)
    split = source.split("transfer/8")
    split.prepare(np.arange(5))
    labels, ids = torch.full((5,), 2), source.clean.ids[:5].tolist()
    threat = ThreatModel("linf", 8 / 255)
    expected = mifgsm(
        over_classes(network(0), classes), pixels(source.clean)[:5], labels, ids=ids, seed=0, threat=threat, steps=10
    )
    for index in range(5):
        found = torch.from_numpy(np.array(split.load(index))).permute(2, 0, 1)
        torch.testing.assert_close(found, (expected[index] * 255).round().byte(), atol=0, rtol=0)


def test_images_are_made_once_and_only_those_asked_for(cache: Path) -> None:
    source = Source(network(0))
    split = source.split("transfer/8")
    evaluate(network(1), split.limited(7), at(8), batch_size=3)
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    assert len(kept) == 7
    evaluate(network(2), split, at(8))
    assert len(list(cache.rglob("*.png"))) == 40
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_the_images_depend_on_the_surrogate_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for folder, judged, batch_size in (("a", 1, 40), ("b", 2, 1)):
        monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / folder))
        split = Source(network(0)).split("transfer/8")
        evaluate(network(judged), split, at(8), batch_size=batch_size)
        made.append(np.stack([np.array(split.load(i)) for i in range(40)]))
    assert (made[0] != made[1]).mean() < 1e-3  # a sign of a gradient near zero may turn by rounding


def test_another_surrogate_is_another_set(cache: Path) -> None:
    splits = [Source(network(seed)).split("transfer/8") for seed in (0, 1, 1)]
    assert splits[0].digest != splits[1].digest == splits[2].digest
    assert splits[0].digest != Source(network(0)).split("transfer/4").digest
    assert splits[0].origin == f"attacked on net0 (weights {weights_digest(network(0))})"


def test_loader_processes_get_no_weights(cache: Path) -> None:
    source = Source(network(0))
    split = source.split("transfer/8")
    assert len(pickle.dumps(split)) < 20_000
    found = [evaluate(network(1), split, at(8), workers=workers).outcomes.predictions for workers in (0, 1)]
    assert np.array_equal(*found)


def test_an_unreadable_image_is_named_and_left_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(network(0))

    def load(index: int) -> Image.Image:
        if index == 3:
            raise CorruptImage("noise/003 is damaged")
        return Noise.load(source.clean, index)

    monkeypatch.setattr(source.clean, "load", load)
    one = evaluate(network(1), source.split("transfer/8"), at(8), leave_out=True)
    assert len(one.outcomes) == 39
    assert one.unreadable == {"noise/003": "noise/003 is damaged"}


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingSplit, match="noise names no surrogate to attack: give --surrogate NAME:CHECKPOINT"):
        Source(None).split("transfer/8")
    with pytest.raises(MissingSplit, match="no split 'transfer/0': give transfer/K for eps K/255"):
        Source(network(0)).split("transfer/0")
    with pytest.raises(ModelError, match="surrogate 'net0' has 3 classes, noise has 5"):
        Source(network(0, classes=3)).split("transfer/8")
    with pytest.raises(UsageError, match="give NAME or NAME:CHECKPOINT"):
        SurrogateName.parse(":file.pth")


def test_a_config_file_or_the_caller_names_the_surrogate(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "n01440764").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "n01440764" / "a.png")
    config = tmp_path / "sets.toml"
    config.write_text('surrogate = "vit_tiny_patch16_224:weights/tiny.safetensors"\nclean = "val"\n')
    for surrogate in (
        ImageNetTree(config).surrogate,
        open_source(str(tmp_path), surrogate=f"vit_tiny_patch16_224:{tmp_path}/weights/tiny.safetensors").surrogate,
    ):
        assert surrogate is not None
        assert surrogate.name == "vit_tiny_patch16_224"
        assert surrogate.checkpoint == tmp_path / "weights" / "tiny.safetensors"
    assert open_source(str(tmp_path)).surrogate is None
    for alone in ("robustbench:Salman2020Do_R50:Linf", "torchvision:squeezenet1_1", "hf-hub:owner/model.pt"):
        assert SurrogateName.parse(alone) == SurrogateName(alone)
    own = SurrogateName.parse("torchvision:squeezenet1_1:w/own.safetensors", tmp_path)
    assert own == SurrogateName("torchvision:squeezenet1_1", tmp_path / "w" / "own.safetensors")
    with pytest.raises(UsageError, match=r"tiny\.safetensors' does not exist"):
        open_source(str(config)).split("transfer/8")


def test_the_suite_on_shapes10_flags_the_surrogate_itself(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        [
            "run",
            "--method",
            "pretrained,finetune",
            "--suite",
            "clean,transfer",
            "--limit",
            "60",
            "--recipe",
            "quick",
            "--results",
            str(tmp_path / "results"),
        ],
    )
    assert result.exit_code == 0, result.output
    found = {(one.method, one.suite): one for one in read_results(tmp_path / "results")[0]}
    transferred = [found[method, "transfer"] for method in ("pretrained", "finetune")]
    assert transferred[0].conditions[0].data_digest == transferred[1].conditions[0].data_digest
    assert transferred[0].score.value < 50 < found["pretrained", "clean"].score.value
    curve = {one.name: one.accuracy for one in transferred[0].conditions}
    assert curve["eps 4/255"] > curve["eps 8/255"] >= curve["eps 16/255"]
    flags = {key[2]: [flag.name for flag in mine] for key, mine in health.flags_by_row(found.values()).items()}
    assert flags == {"pretrained": ["judged on its own transfer set"]}
