"""Heads of other classes: logits against closed forms, gradients, files in every form, and a run that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from nsbench.cli import main
from nsbench.data import wnids
from nsbench.data.source import DataSource
from nsbench.errors import ModelError, NsbenchError, UsageError
from nsbench.models import Model, Preprocessing, load_model, weights_digest
from nsbench.models.class_map import Assignment, ClassMap
from nsbench.results import read_results
from nsbench.run.class_maps import mapped
from nsbench.shapes10 import Shapes10

MANY = (0, None, 2, 2, 1, 0, 2)  # classes of seven outputs
SHAPES = Shapes10().class_names


def logits(outputs: int = 7) -> torch.Tensor:
    return torch.randn(5, outputs, generator=torch.Generator().manual_seed(0)).double() * 3


@pytest.mark.parametrize("by", ["sum", "max"])
def test_logits_are_those_of_the_closed_form(by: str) -> None:
    given = logits()
    shown = ClassMap(Assignment("many", MANY, 3, by))(given)
    groups = [[0, 5], [4], [2, 3, 6]]
    if by == "max":
        expected = torch.stack([given[:, group].max(dim=1).values for group in groups], dim=1)
        assert torch.equal(shown, expected)
        return
    probabilities = given.softmax(dim=1)
    summed = torch.stack([probabilities[:, group].sum(dim=1) for group in groups], dim=1)
    assert torch.allclose(shown.softmax(dim=1), summed / summed.sum(dim=1, keepdim=True), atol=1e-12)
    assert torch.equal(shown[:, 1], given[:, 4])  # one output: its logit, to the bit


@pytest.mark.parametrize("by", ["sum", "max"])
def test_one_output_a_class_is_a_selection_to_the_bit(by: str) -> None:
    given = logits().float()
    order = (None, 2, 0, None, 1, None, 3)
    shown = ClassMap(Assignment("order", order, 4, by))(given)
    assert torch.equal(shown, given[:, [2, 4, 1, 6]])
    assert (
        ClassMap(Assignment("a", order, 4, "sum")).digest == ClassMap(Assignment("b", order, 4, "max")).digest
    )  # the same logits
    assert ClassMap(Assignment("a", MANY, 3, "sum")).digest != ClassMap(Assignment("a", MANY, 3, "max")).digest


@pytest.mark.parametrize("by", ["sum", "max"])
def test_gradients_are_right(by: str) -> None:
    given = logits().requires_grad_()
    assert torch.autograd.gradcheck(ClassMap(Assignment("many", MANY, 3, by)), (given,))
    without = ClassMap(Assignment("some", (0, 2, 2, None), 4, by))
    four = logits(4).requires_grad_()
    without(four)[:, [0, 2]].sum().backward()
    assert four.grad is not None
    assert four.grad.isfinite().all()


@pytest.mark.parametrize("outputs", [(0, 2, 2, None), (0, None, 2, None)])
def test_a_class_without_an_output_is_never_predicted(outputs: tuple[int | None, ...]) -> None:
    assignment = Assignment("some", outputs, 4)
    shown = ClassMap(assignment)(logits(4))
    assert assignment.without == (1, 3)
    assert set(shown.argmax(dim=1).tolist()) <= {0, 2}
    assert shown.isfinite().all()
    assert float(shown.softmax(dim=1)[:, [1, 3]].max()) < 1e-30


class Classes(DataSource):
    """A source that has names of classes and nothing else."""

    name, title = "classes", "some classes"

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = class_names

    def splits(self) -> list[str]:
        return []

    def split(self, name: str, progress: object = None) -> object:  # type: ignore[override]
        raise NotImplementedError


class Head(torch.nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.num_classes = outputs
        self.scale = torch.nn.Parameter(torch.arange(outputs).float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))[:, None] * self.scale


def model_of(outputs: int) -> Model:
    return Model(Head(outputs), name="head", preprocessing=Preprocessing(8), mean=(0.0,) * 3, std=(1.0,) * 3)


IMAGENET = Classes(wnids.wnids())


def assignment(spec: str | Path, outputs: int, source: DataSource, by: str = "sum") -> Assignment:
    found = mapped(model_of(outputs), str(spec), by, source)
    assert found.class_map is not None
    assert found.num_classes == len(source.class_names)
    return found.class_map.assignment


def test_names() -> None:
    assert assignment("imagenet-1001", 1001, IMAGENET).class_of == (None, *range(1000))
    assert assignment("imagenet-1k", 1000, IMAGENET).class_of == tuple(range(1000))
    for kind in ("a", "r"):
        assert assignment(f"imagenet-{kind}", 200, IMAGENET).class_of == wnids.subset(kind)
    with pytest.raises(UsageError, match="is neither a file nor one of imagenet-1k"):
        assignment("imagenet-2k", 1000, IMAGENET)
    with pytest.raises(ModelError, match="is of a head of 1001 outputs, and model 'head' has 1000"):
        assignment("imagenet-1001", 1000, IMAGENET)
    with pytest.raises(UsageError, match="none of its 200 outputs is a class of the source"):
        assignment("imagenet-a", 200, Classes(["cat", "dog"]))


PETS = Classes(["cat", "dog", "2"])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("map.txt", "dog\ncat\n\nbird\n", (1, 0, None, None)),
        ("map.txt", "dog a good one\r\ncat\r\nbird\r\n2\r\n", (1, 0, None, 2)),
        ("map.json", '["dog", null, ["bird", "cat"], 2]', (1, None, 0, 2)),
        ("map.json", '{"3": "dog", "0": 1, "1": ["x", "cat"]}', (1, 0, None, 1)),
        ("map.csv", "index,class\n3,dog\n0,cat\n1,1\n", (0, 1, None, 1)),
        ("map.csv", '0,"cat"\n2,dog\n\n', (0, None, 1, None)),
    ],
)
def test_files(tmp_path: Path, name: str, content: str, expected: tuple[int | None, ...]) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert assignment(tmp_path / name, 4, PETS).class_of == expected


def test_wnids_and_names_in_english(tmp_path: Path) -> None:
    lines = [f"{wnid} {name}" for wnid, name in zip(wnids.wnids(), wnids.names(), strict=True)]
    (tmp_path / "synsets.txt").write_text("\n".join(reversed(lines)) + "\n")
    assert assignment(tmp_path / "synsets.txt", 1000, IMAGENET).class_of == tuple(reversed(range(1000)))
    keras = {str(k): [wnid, "x"] for k, wnid in enumerate(wnids.wnids())}
    (tmp_path / "keras.json").write_text(json.dumps(keras))
    assert assignment(tmp_path / "keras.json", 1000, IMAGENET).class_of == tuple(range(1000))
    (tmp_path / "names.txt").write_text("\n".join(wnids.names()))
    with pytest.raises(UsageError, match="'crane' is the name of several"):
        assignment(tmp_path / "names.txt", 1000, IMAGENET)
    (tmp_path / "names.txt").write_text("\n".join(wnids.names()[:134]))
    assert assignment(tmp_path / "names.txt", 134, IMAGENET).class_of == tuple(range(134))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("map.txt", "cat\ndog\n", "is of a head of 2 outputs"),
        ("map.txt", "a\nb\nc\nd\n", "none of its 4 outputs is a class"),
        ("map.txt", b"\xff\xfe\x00", "cannot be read"),
        ("map.json", "{", "cannot be read"),
        ("map.json", "3", "neither a list nor an object"),
        ("map.json", "[" * 100_000, "cannot be read"),
        ("map.json", '{"a": "cat"}', "'a' is no index of an output"),
        ("map.json", '{"0": 1.5}', "is no name of a class"),
        ("map.csv", "0,cat\n0,dog\n", "output 0 stands there twice"),
        ("map.csv", "4,cat\n", "output 4 is none of the model's 4, 0 to 3"),
        ("map.csv", "", "none of its 4 outputs"),
    ],
)
def test_what_is_no_map_is_said_in_one_line(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NsbenchError, match=words) as raised:
        assignment(tmp_path / name, 4, PETS)
    assert "\n" not in str(raised.value)


def test_the_map_belongs_to_the_head(tmp_path: Path) -> None:
    plain, model = load_model("vit_shapes10"), load_model("vit_shapes10")
    (tmp_path / "map.txt").write_text("\n".join(reversed(SHAPES)))
    model = mapped(model, str(tmp_path / "map.txt"), "sum", Shapes10())
    images = torch.rand(3, 3, 48, 48)
    assert torch.equal(model(images), plain(images).flip(1))
    assert torch.equal(model.head(model.encode(model.embed(images))), model(images))
    assert sorted(model.timm_state_dict()) == sorted(plain.timm_state_dict())
    assert weights_digest(model) != weights_digest(plain)
    assert "class map map.txt: 10 of 10 outputs to 10 of 10 classes, by sum of probabilities" in model.said


def nsbench(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def test_a_run_with_a_class_map(tmp_path: Path) -> None:
    """Two networks of opposite order are right on the same images, attacked or not, and results say by what map."""
    (tmp_path / "order.json").write_text(json.dumps({str(k): name for k, name in enumerate(SHAPES)}))
    common = ["--suite", "clean,fgsm", "--limit", 20]
    first = nsbench("run", "--method", "pretrained", *common, "--results", tmp_path / "a")
    second = nsbench(
        "run", "--method", "pretrained", *common, "--results", tmp_path / "b", "--class-map", tmp_path / "order.json"
    )
    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    assert "class map order.json: 10 of 10 outputs" in second.output.splitlines()[0]
    mine, theirs = ({one.suite: one for one in read_results(folder)[0]} for folder in (tmp_path / "a", tmp_path / "b"))
    assert {name: one.score for name, one in mine.items()} == {name: one.score for name, one in theirs.items()}
    assert mine["clean"].identity != theirs["clean"].identity
    assert any("class map order.json" in words for words in theirs["clean"].provenance.prepared)


def test_a_run_with_classes_that_have_no_output(tmp_path: Path) -> None:
    (tmp_path / "five.json").write_text(json.dumps({str(k): SHAPES[k // 2] for k in range(10)}))
    options = [
        "--limit",
        20,
        "--results",
        tmp_path / "r",
        "--class-map",
        tmp_path / "five.json",
        "--class-map-by",
        "max",
    ]
    done = nsbench("run", "--method", "pretrained", "--suite", "clean,fgsm,cw", *options)
    assert done.exit_code == 0, done.output
    assert "10 of 10 outputs to 5 of 10 classes, by largest logit" in done.output.splitlines()[0]
    assert "images of the 5 classes without an output" in done.output.splitlines()[0]


def test_a_model_of_other_classes_without_a_map(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "from torch import nn\ndef build():\n"
        "    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 7))\n"
        "    net.input_size = 48\n    return net\n"
    )
    done = nsbench("run", "--method", "pretrained", "--suite", "clean", "--model", f"{tmp_path}/m.py:build")
    assert done.exit_code == 1
    assert "say with --class-map what the model's outputs mean" in done.output
