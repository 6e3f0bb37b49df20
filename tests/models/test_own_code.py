"""The user's own code: any module from images to logits runs, what is missing is one line, nothing else is executed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import nsbench as nb
from nsbench.cli import main
from nsbench.errors import NsbenchError, UnknownName, UsageError
from nsbench.models import load_model, save_weights, weights_digest, with_weights
from nsbench.models.preparation import Preparation
from nsbench.results import read_results

CODE = """
import timm
import torch
from torch import nn

import nsbench as nb


class Net(nn.Module):
    input_size = 48

    def __init__(self, classes=10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, classes))

    def forward(self, images):
        return self.body((images - 0.5) / 0.5)


class Tied(Net):
    def __init__(self):
        super().__init__()
        self.again = self.body[3]


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def build():
    return seeded(Net)


def with_preprocessing():
    return seeded(Net), nb.Preprocessing(48, crop_pct=1.0, interpolation="bilinear")


def tied():
    return seeded(Tied)


def vit():
    return seeded(lambda: timm.create_model("vit_tiny_patch16_224", img_size=48, depth=1, num_classes=10))


def no_size():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))


def nothing():
    return {"state": 1}


def breaks():
    raise KeyError("weights.pth is not there")


class Odd(nn.Module):
    input_size = 48

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, images):
        return self.give(images)


def gives_a_dict():
    return Odd(lambda images: {"logits": images})


def gives_tokens():
    return Odd(lambda images: images)


def wants_other_images():
    return Odd(nn.Conv2d(1, 2, 3))


value = 3
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(CODE)
    return tmp_path / "models.py"


def nsbench(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def said(name: str, **options: object) -> str:
    with pytest.raises(NsbenchError) as raised:
        load_model(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_logits_are_the_modules_own(code: Path) -> None:
    model = load_model(f"{code}:build")
    network = sys.modules[type(model.vit).__module__].build()
    images = torch.rand(3, 3, 48, 48)
    assert torch.equal(model(images), network(images))
    assert (model.name, model.num_classes, model.input_size) == ("models:build", 10, 48)
    assert model.origin is not None
    assert (model.origin.place, model.origin.file) == ("code", "models.py")
    given = load_model(f"{code}:with_preprocessing").preprocessing
    assert given == nb.Preprocessing(48, crop_pct=1.0, interpolation="bilinear")


def test_mean_and_std_and_size_may_be_given(code: Path) -> None:
    half = Preparation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    images = torch.rand(3, 3, 48, 48)
    model = load_model(f"{code}:build", asked=half)
    assert torch.equal(model(images), model.vit((images - 0.5) / 0.5))
    assert model.normalisation == "given"
    assert load_model(f"{code}:no_size", asked=Preparation(size=64)).input_size == 64
    assert "give --img-size, return (module, nb.Preprocessing(size))" in said(f"{code}:no_size")


def test_a_network_of_timms_shows_its_tokens(code: Path) -> None:
    model = load_model(f"{code}:vit")
    images = torch.rand(2, 3, 48, 48)
    assert model.embed(images).shape == (2, 9, 192)
    assert torch.equal(model.head(model.encode(model.embed(images))), model(images))
    assert model.input_size == 48


def test_a_module_by_its_name(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code.rename(code.with_name("my_own_models.py"))
    line = said("my_own_models:build")
    assert "there is no module 'my_own_models'" in line
    assert "./my_own_models.py:build" in line
    monkeypatch.syspath_prepend(str(code.parent))
    assert load_model("my_own_models:build").name == "my_own_models:build"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("absent", "there is no function 'absent'"),
        ("value", "there is no function 'value'"),
        ("nothing", "returned a dict; return an nn.Module"),
        ("breaks", "breaks() raised KeyError: 'weights.pth is not there' (models.py:"),
        ("gives_a_dict", "gives a dict, and logits (2, K) are needed"),
        ("gives_tokens", "gives a tensor (2, 3, 48, 48) of float32, and logits"),
        ("wants_other_images", "its forward pass on images (2, 3, 48, 48) raised RuntimeError"),
        ("build now", "is none of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(code: Path, function: str, words: str) -> None:
    assert words in said(f"{code}:{function}")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "is not a file" in said(f"{tmp_path}/none.py:build")
    (tmp_path / "broken.py").write_text("def build(:")
    assert "running broken.py raised SyntaxError" in said(f"{tmp_path}/broken.py:build")
    (tmp_path / "needs.py").write_text("import no_such_library")
    assert "raised ModuleNotFoundError" in said(f"{tmp_path}/needs.py:build")
    with pytest.raises(UsageError, match="neither a Python module nor"):
        load_model("no module:build")
    with pytest.raises(UsageError, match="leave it out"):
        load_model(f"{tmp_path}/needs.py:build", checkpoint=tmp_path / "w.pth")


def test_nothing_is_executed_that_was_not_named(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file of the current folder, nor one beside the named file."""
    monkeypatch.chdir(code.parent)
    for name in ("wandb.py", "other_models.py", "sitecustomize.py"):
        (code.parent / name).write_text("raise SystemExit('executed')")
    path = list(sys.path)
    assert load_model("./models.py:build").num_classes == 10
    assert sys.path == path
    assert "there is no module" in said("other_models:build")


def test_other_code_is_another_model(code: Path) -> None:
    before = weights_digest(load_model(f"{code}:build"))
    assert weights_digest(load_model(f"{code}:build")) == before
    code.write_text(CODE.replace("(images - 0.5) / 0.5", "images"))
    assert weights_digest(load_model(f"{code}:build")) != before


def test_tied_weights_are_kept(code: Path, tmp_path: Path) -> None:
    model = load_model(f"{code}:tied")
    save_weights(model, tmp_path / "w.safetensors")
    images = torch.rand(2, 3, 48, 48)
    assert torch.equal(with_weights(model, tmp_path / "w.safetensors")(images), model(images))


def test_everything_but_noise_on_tokens_works(code: Path, tmp_path: Path) -> None:
    options = ["--model", f"{code}:build", "--recipe", "quick", "--limit", 6, "--results", tmp_path / "results"]
    short = ["--set", "rounds=1", "--set", "steps_per_round=2"]
    for methods in ("pretrained,finetune,madry", "trades"):
        done = nsbench("run", "--method", methods, "--suite", "clean,fgsm,cw,pgd", *options, *short)
        assert done.exit_code == 0, done.output
    for method in ("ns", "random_noise"):
        done = nsbench("run", "--method", method, "--suite", "clean", *options, *short)
        assert done.exit_code == 1
        assert "1 failed" in done.output
        assert "model 'models:build' has no patch embedding that gives tokens" in done.output
    stored = read_results(tmp_path / "results")[0]
    assert len(stored) == 16
    assert {one.provenance.origin.file for one in stored if one.provenance.origin} == {"models.py"}


def test_noise_works_on_a_network_of_timms(code: Path, tmp_path: Path) -> None:
    options = ["--model", f"{code}:vit", "--recipe", "quick", "--limit", 4, "--results", tmp_path / "results"]
    done = nsbench("run", "--method", "ns", "--suite", "clean", *options, "--set", "rounds=1")
    assert done.exit_code == 0, done.output


def test_a_name_that_an_installed_package_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point `nsbench.models`: NAME = "package.module:function"."""
    from importlib.metadata import EntryPoint

    from nsbench.models import places

    (tmp_path / "packaged_models.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))\n    net.input_size = 16\n    return net\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    known = [EntryPoint("mine", "packaged_models:build", "nsbench.models")]
    monkeypatch.setattr(places, "entry_points", lambda group, name: [one for one in known if one.name == name])
    model = load_model("mine")
    assert (model.name, model.num_classes, model.input_size) == ("packaged_models:build", 4, 16)
    known.append(EntryPoint("mine", "other:build", "nsbench.models"))
    with pytest.raises(UsageError, match="two packages have it, other:build and packaged_models:build"):
        load_model("mine")
    with pytest.raises(UnknownName, match="unknown model 'yours'"):
        load_model("yours")
