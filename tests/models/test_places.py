"""Models from where people have them: caches laid out as the libraries do, folders, and a server on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from nsbench.cli import main
from nsbench.errors import ModelError, UnknownName, UsageError
from nsbench.models import Model, load_model, weights_digest
from nsbench.models.hub import parse_repository
from nsbench.models.preparation import Preparation, share
from nsbench.results import read_results

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "vit_tiny_patch16_224"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ARGS = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 3}


def images(size: int = 32) -> torch.Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def normalised(given: torch.Tensor, mean: Any = IMAGENET[0], std: Any = IMAGENET[1]) -> torch.Tensor:
    return (given - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def torch_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"), raising=False)
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    return tmp_path / "torch" / "checkpoints"


def in_cache(hub: Path, repository: str, files: dict[str, Path], ref: str = "main") -> Path:
    """A repository as huggingface_hub keeps it: blobs by digest, snapshots of links to them, refs."""
    root = hub / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / ref).write_text(COMMIT)
    for name, path in files.items():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def timm_folder(folder: Path, **config: Any) -> tuple[Path, nn.Module]:
    """A folder in timm's form, as timm itself writes it, and the network."""
    from timm.models._hub import save_config_for_hf

    torch.manual_seed(0)
    vit = timm.create_model(NAME, num_classes=7, **ARGS).eval()
    vit.pretrained_cfg |= {"mean": IMAGENET[0], "std": IMAGENET[1], "input_size": (3, 32, 32), "crop_pct": 1.0} | config
    folder.mkdir(exist_ok=True)
    save_config_for_hf(vit, folder / "config.json", model_args=ARGS)
    save_file(vit.state_dict(), folder / "model.safetensors")
    return folder, vit


def said(name: str, **options: Any) -> str:
    """The one line in which a model is refused."""
    with pytest.raises((ModelError, UsageError)) as raised:
        load_model(name, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# timm's names


def test_a_timm_name_takes_timms_weights_from_the_cache(hub: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = timm.create_model(NAME).eval()
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    repository = f"timm/{NAME}.augreg_in21k_ft_in1k"
    in_cache(hub, repository, {"model.safetensors": tmp_path / "model.safetensors"})
    for name in (NAME, f"{NAME}.augreg_in21k_ft_in1k"):
        model = load_model(name)
        assert torch.equal(model(images(224)), vit(normalised(images(224), (0.5,) * 3, (0.5,) * 3)))
        assert model.origin is not None
        assert (model.name, model.origin.name, model.origin.revision) == (name, repository, COMMIT)
        assert model.origin.sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()


def test_what_is_absent_is_said_in_one_line(hub: Path) -> None:
    line = said(NAME)
    assert "HF_HUB_OFFLINE is set" in line
    assert f"hf download timm/{NAME}.augreg_in21k_ft_in1k config.json model.safetensors" in line
    assert f"into {hub}, or give --checkpoint FILE" in line
    assert "--revision v2" in said("hf-hub:me/mine@v2")
    done = CliRunner().invoke(main, ["run", "--method", "pretrained", "--suite", "clean", "--model", "hf-hub:me/mine"])
    assert done.exit_code == 1
    assert "models--me--mine" in done.output


def test_timms_other_files_lie_in_torchs_folder(torch_hub: Path) -> None:
    line = said("legacy_seresnet18.in1k")
    assert str(torch_hub) in line
    assert "and put it there" in line


@pytest.mark.parametrize("name", ["me", "me/", "/mine", "../mine", "a/b/c", "me/mi ne", "me/.."])
def test_repositories_have_two_names(name: str) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        parse_repository(name, f"hf-hub:{name}")


# Folders and repositories in timm's form


def test_a_folder_in_timms_form(tmp_path: Path) -> None:
    folder, vit = timm_folder(tmp_path / "mine")
    model = load_model(f"local-dir:{folder}")
    assert torch.equal(model(images()), vit(normalised(images())))
    assert torch.equal(model.head(model.encode(model.embed(images()))), model(images()))
    assert (model.name, model.num_classes, model.input_size) == ("local-dir:mine", 7, 32)
    assert model.origin is not None
    assert (model.origin.place, model.origin.file) == ("local-dir", "model.safetensors")


def test_what_a_configuration_decides_beside_shapes_is_of_the_digest(tmp_path: Path) -> None:
    """Heads and activation change the logits, not one weight; a result of before is none of this model."""
    folder, _ = timm_folder(tmp_path / "mine")
    record = json.loads((folder / "config.json").read_text())
    found = {}
    for change in ({}, {"num_heads": 1}, {"act_layer": "relu"}, {"img_size": 32}):
        (folder / "config.json").write_text(json.dumps(record | {"model_args": record["model_args"] | change}))
        model = load_model(f"local-dir:{folder}")
        found[str(change)] = (weights_digest(model), model(images())[0, 0].item())
    assert len({digest for digest, _ in found.values()}) == len({logit for _, logit in found.values()}) == 3
    assert found["{'img_size': 32}"] == found["{}"]


def test_a_configuration_that_was_edited_is_another_measurement(tmp_path: Path) -> None:
    folder, vit = timm_folder(tmp_path / "mine")
    vit.reset_classifier(10)
    save_file(vit.state_dict(), folder / "model.safetensors")
    record = json.loads((folder / "config.json").read_text()) | {"num_classes": 10}
    options = ["--suite", "clean", "--limit", "4", "--results", str(tmp_path / "results")]
    args = record["model_args"]
    for change in ({}, {"model_args": args | {"num_heads": 1}}, {"architecture": "vit_small_patch16_224"}, {}):
        (folder / "config.json").write_text(json.dumps(record | change))
        done = CliRunner().invoke(main, ["run", "--method", "pretrained", "--model", f"local-dir:{folder}", *options])
        assert done.exit_code == 0, done.output
    assert len({one.identity for one in read_results(tmp_path / "results")[0]}) == 3


def test_a_repository_in_timms_form_and_its_revision(hub: Path, tmp_path: Path) -> None:
    folder, vit = timm_folder(tmp_path / "mine")
    in_cache(hub, "me/mine", {path.name: path for path in folder.iterdir()}, ref="v2")
    model = load_model("hf-hub:me/mine@v2")
    assert torch.equal(model(images()), vit(normalised(images())))
    assert torch.equal(model(images()), load_model(f"hf-hub:me/mine@{COMMIT}")(images()))
    assert model.origin is not None
    assert (model.origin.name, model.origin.revision) == ("me/mine", COMMIT)
    assert "is not in" in said("hf-hub:me/mine")  # the cache knows no "main"


def test_old_configurations_without_a_nested_one(tmp_path: Path) -> None:
    folder, vit = timm_folder(tmp_path)
    record = json.loads((folder / "config.json").read_text())
    nested = record.pop("pretrained_cfg")
    (folder / "config.json").write_text(json.dumps(nested | record))
    assert torch.equal(load_model(f"local-dir:{folder}")(images()), vit(normalised(images())))


def test_what_is_asked_for_goes_before_the_folder(tmp_path: Path) -> None:
    folder, vit = timm_folder(tmp_path)
    model = load_model(f"local-dir:{folder}", asked=Preparation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    assert torch.equal(model(images()), vit(images()))
    assert model.normalisation == "given"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "no_such"}, "names 'no_such', which timm"),
        ({"architecture": 3}, "names no architecture"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "sets checkpoint_path, which no file decides"),
        ({"model_args": [1]}, "must be JSON objects"),
        ({"model_args": {"no_such": 1}}, "cannot be built by timm"),
        ({"model_args": {"depth": "many"}}, "cannot be built by timm"),
        ({"model_args": ARGS | {"depth": 3}}, "does not fit"),
    ],
)
def test_configurations_that_cannot_be_followed(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder, _ = timm_folder(tmp_path)
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | change))
    assert words in said(f"local-dir:{folder}")


def test_folders_that_are_none(tmp_path: Path) -> None:
    assert "is not a folder" in said(f"local-dir:{tmp_path}/none")
    assert "has none of model.safetensors" in said(f"local-dir:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "cannot be read" in said(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert "cannot be read" in said(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert f"write transformers:{tmp_path}" in said(f"local-dir:{tmp_path}")
    assert "leave it out" in said(f"local-dir:{tmp_path}", checkpoint=tmp_path / "model.safetensors")


# A download, from a server on loopback


class Repository(BaseHTTPRequestHandler):
    """Answers as huggingface.co does for files of one repository."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, whole: bool) -> None:
        path = self.folder / Path(self.path).name
        if "/resolve/" not in self.path or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if whole:
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    folder, _ = timm_folder(tmp_path / "served")
    handler = type("Handler", (Repository,), {"folder": folder})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_download_lands_in_the_cache_and_is_not_repeated(endpoint: str, tmp_path: Path) -> None:
    code = (
        "from nsbench.models import load_model\n"
        "model = load_model('hf-hub:me/mine')\n"
        "print(model.num_classes, model.origin.revision, model.origin.sha256)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "http", "HTTP"))}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}

    def loaded(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-c", code]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True)

    first = loaded()
    assert first.returncode == 0, first.stderr
    digest = hashlib.sha256((tmp_path / "served" / "model.safetensors").read_bytes()).hexdigest()
    assert first.stdout.split() == ["7", COMMIT, digest]
    again = loaded(HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout, again.stderr


def test_without_a_network_one_line_says_so(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refuse(*arguments: Any, **options: Any) -> None:
        raise LocalEntryNotFoundError("An error happened\nand more") from ConnectionError("Name not known\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "cannot be downloaded (ConnectionError: Name not known); where there is a network" in said("hf-hub:me/mine")


# torchvision


def torchvision_file(torch_hub: Path, name: str, tag: str = "DEFAULT") -> nn.Module:
    """Random weights under the name of torchvision's file, and the network."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    weights = torchvision.models.get_model_weights(name)[tag]
    torch.save(network.state_dict(), torch_hub / Path(weights.url).name)
    return network


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "mobilenet_v3_small"])
def test_torchvision(torch_hub: Path, name: str) -> None:
    network = torchvision_file(torch_hub, name)
    model = load_model(f"torchvision:{name}")
    assert torch.equal(model(images(64)), network(normalised(images(64))))
    weights = torchvision.models.get_model_weights(name).DEFAULT
    picture = Image.fromarray((torch.rand(301, 227, 3) * 255).byte().numpy())
    ours = model.normalise(model.preprocessing.transform("checkpoint")(picture).float() / 255)
    assert torch.allclose(ours, weights.transforms()(picture), atol=1e-6)
    assert model.origin is not None
    assert model.origin.name == f"{name}:IMAGENET1K_V1"
    with pytest.raises(ModelError, match="no patch embedding"):
        model.embed(images(64))


def test_torchvisions_inception_normalises_anew_and_drops_its_second_classifier(torch_hub: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(weights=None, transform_input=True, init_weights=False).eval()
    url = torchvision.models.Inception_V3_Weights.DEFAULT.url
    torch.save(network.state_dict(), torch_hub / Path(url).name)
    model = load_model("torchvision:inception_v3")
    assert torch.equal(model(images(96)), network(normalised(images(96))))
    assert isinstance(model.train()(images(96)), torch.Tensor)


def test_torchvision_with_a_file_of_ones_own(tmp_path: Path) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=9).eval()
    save_file({f"module.{name}": value for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    model = load_model("torchvision:squeezenet1_1", checkpoint=tmp_path / "w.safetensors")
    assert model.num_classes == 9
    assert torch.equal(model(images(64)), network(normalised(images(64))))
    assert "does not fit" in said("torchvision:resnet18", checkpoint=tmp_path / "w.safetensors")


def test_torchvision_names_and_absent_files(torch_hub: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'resnet18'"):
        load_model("torchvision:resnet1")
    with pytest.raises(UnknownName, match="IMAGENET1K_V2"):
        load_model("torchvision:resnet50:V2")
    line = said("torchvision:resnet18")
    assert str(torch_hub / "resnet18-f37072fd.pth") in line
    assert "HF_HUB_OFFLINE is set" in line


def test_every_resize_of_torchvision_is_met() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            prepared = weights.transforms()
            size, resized = prepared.crop_size[0], prepared.resize_size[0]
            assert int(size / share(size, resized)) == resized


# transformers


def saved(folder: Path, family: str, model: str, **config: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    how = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    how |= {"image_size": 32, "patch_size": 8, "num_labels": 7, "initializer_range": 0.3} | config
    network: nn.Module = getattr(transformers, model)(getattr(transformers, f"{family}Config")(**how)).eval()
    network.save_pretrained(folder)
    prepared = {"image_mean": IMAGENET[0], "image_std": IMAGENET[1], "size": {"height": 32, "width": 32}, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared | {"do_normalize": True}))
    return network


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("ViT", "ViTForImageClassification"),
        ("DeiT", "DeiTForImageClassification"),
        ("DeiT", "DeiTForImageClassificationWithTeacher"),
    ],
)
def test_transformers_vit_and_deit_become_timms(tmp_path: Path, family: str, name: str) -> None:
    theirs = saved(tmp_path / "mine", family, name)
    model = load_model(f"transformers:{tmp_path / 'mine'}")
    expected = theirs(pixel_values=normalised(images())).logits.detach()
    assert torch.allclose(model(images()), expected, atol=1e-4 * float(expected.abs().max()))
    assert model.embed(images()).shape == (3, 16, 24)
    assert torch.equal(model.head(model.encode(model.embed(images()))), model(images()))
    assert (model.name, model.num_classes, model.mean) == ("transformers:mine", 7, IMAGENET[0])
    assert model.preprocessing.crop_mode == "squash"
    assert any(words.endswith("from preprocessor_config.json") for words in model.said)


def test_what_a_configuration_of_transformers_decides_is_of_the_digest(tmp_path: Path) -> None:
    saved(tmp_path, "ViT", "ViTForImageClassification")
    record = json.loads((tmp_path / "config.json").read_text())
    digests = []
    for change in ({}, {"transformers_version": "0"}, {"num_attention_heads": 1}, {"layer_norm_eps": 0.1}):
        (tmp_path / "config.json").write_text(json.dumps(record | change))
        digests.append(weights_digest(load_model(f"transformers:{tmp_path}")))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_other_families_of_transformers_give_logits(tmp_path: Path, hub: Path) -> None:
    theirs = saved(
        tmp_path / "mine",
        "ResNet",
        "ResNetForImageClassification",
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
    )
    in_cache(hub, "me/mine", {path.name: path for path in (tmp_path / "mine").iterdir()})
    model = load_model("transformers:me/mine")
    assert torch.equal(model(images()), theirs(pixel_values=normalised(images())).logits)
    assert model.origin is not None
    assert (model.origin.place, model.origin.name, model.origin.revision) == ("transformers", "me/mine", COMMIT)
    with pytest.raises(ModelError, match="no patch embedding"):
        model.embed(images())


def test_transformers_folders_that_cannot_be_used(tmp_path: Path) -> None:
    assert "has none of model.safetensors" in said(f"transformers:{tmp_path}")
    saved(tmp_path, "ViT", "ViTForImageClassification")
    (tmp_path / "preprocessor_config.json").unlink()
    assert "give --mean and --std" in said(f"transformers:{tmp_path}")
    record = json.loads((tmp_path / "config.json").read_text())
    asked = Preparation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    for change, words in (
        ({"num_attention_heads": 5}, "no network can be built"),
        ({"hidden_size": "wide"}, "no network can be built"),
        ({"num_hidden_layers": 3}, "does not fit"),
        ({"architectures": ["Nonsense"], "model_type": "nonsense"}, "transformers cannot load"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(record | change))
        assert words in said(f"transformers:{tmp_path}", asked=asked)


# Where weights come from is in the result


def test_the_origin_is_provenance(tmp_path: Path) -> None:
    folder, vit = timm_folder(tmp_path / "mine")
    vit.reset_classifier(10)
    save_file(vit.state_dict(), folder / "model.safetensors")
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | {"num_classes": 10}))
    options = ["--suite", "clean", "--limit", "4", "--results", str(tmp_path / "results")]
    for model in (["--model", f"local-dir:{folder}"], []):
        done = CliRunner().invoke(main, ["run", "--method", "pretrained", *model, *options])
        assert done.exit_code == 0, done.output
    found = {one.model: one.provenance.origin for one in read_results(tmp_path / "results")[0]}
    mine, embedded = found["local-dir:mine"], found["vit_shapes10"]
    assert mine is not None
    assert embedded is not None
    assert mine.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (mine.place, embedded.place, embedded.file) == ("local-dir", "embedded", "vit_shapes10.safetensors")


def test_a_file_is_named_by_its_digest(tmp_path: Path) -> None:
    own = load_model("vit_shapes10")
    save_file({name: value.contiguous() for name, value in own.timm_state_dict().items()}, tmp_path / "w.safetensors")
    model: Model = load_model("vit_shapes10", checkpoint=tmp_path / "w.safetensors")
    assert model.origin is not None
    assert (model.origin.place, model.origin.file) == ("file", "w.safetensors")
