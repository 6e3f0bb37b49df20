"""Sets that a data config names: a column each, with labels of the source or with coarser classes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from containers import as_tar, jpeg
from layouts import put

from nsbench import registry
from nsbench.cli import main
from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError, UsageError
from nsbench.models import load_model
from nsbench.models.class_map import Assignment, ClassMap
from nsbench.results import read_outcomes, read_results
from nsbench.run.class_maps import for_classes
from nsbench.run.evaluate import evaluate
from nsbench.run.named_suites import register_sets
from nsbench.types import Condition, ThreatModel

pytestmark = pytest.mark.usefixtures("own_cache")
W = wnids.wnids()
EXAMPLES = Path(__file__).parents[2] / "examples"
MAP = {"fish": [W[0], W[1]], "bird": [W[7]], "cat": [W[281], W[282], W[283]]}


def config(root: Path, text: str) -> Path:
    (root / "map.json").write_text(json.dumps(MAP))
    (root / "sets.toml").write_text(text)
    return root / "sets.toml"


@pytest.fixture(autouse=True)
def _suites_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.load_content()
    monkeypatch.setattr(registry.suites, "_items", dict(registry.suites._items))


def test_a_set_of_the_source_s_own_classes(tmp_path: Path) -> None:
    put(tmp_path / "objects", {f"{W[label]}/{label}.jpg": jpeg(label) for label in (3, 400)})
    source = ImageNetTree(
        config(tmp_path, '[sets.objects]\npath = "objects"\n[sets.few]\npath = "objects"\nclasses = "present"')
    )
    split = source.split("objects")
    assert (split.ids.tolist(), split.labels.tolist(), split.classes) == (["3", "400"], [3, 400], None)
    assert source.split("few").classes == (3, 400)
    assert source.splits() == ["objects", "few"]


def test_a_flat_set_with_a_list(tmp_path: Path) -> None:
    put(tmp_path / "objects", {"one.jpg": jpeg(1), "two.jpg": jpeg(2)})
    (tmp_path / "list.txt").write_text(f"one.jpg {W[9]}\ntwo.jpg {W[8]}\n")
    split = ImageNetTree(config(tmp_path, '[sets.objects]\npath = "objects"\nlabels = "list.txt"')).split("objects")
    assert dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True)) == {"one": 9, "two": 8}


@pytest.mark.parametrize("by", ["sum", "mean", "max"])
def test_many_classes_to_one_of_the_set(tmp_path: Path, by: str) -> None:
    put(tmp_path / "coarse", {"fish/a.jpg": jpeg(1), "bird/b.jpg": jpeg(2), "cat/c.jpg": jpeg(3)})
    path = config(tmp_path, f'[sets.coarse]\npath = "coarse"\nclass_map = "map.json"\nclass_map_by = "{by}"')
    split = ImageNetTree(path).split("coarse")
    assert split.set_classes is not None
    assert split.set_classes.names == ("bird", "cat", "fish")
    assert dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True)) == {"b": 0, "c": 1, "a": 2}
    assert split.limited(2).set_classes == split.set_classes
    class_map = ClassMap(Assignment("m", split.set_classes.of, 3, by))
    probability_BO = torch.rand(4, 1000).softmax(dim=1)
    inside = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[by]
    expected = torch.stack([inside(probability_BO[:, one], dim=1) for one in ([7], [281, 282, 283], [0, 1])], dim=1)
    assert torch.allclose(class_map(probability_BO.log()).exp(), expected)


def test_the_map_decides_what_was_measured(tmp_path: Path) -> None:
    put(tmp_path / "coarse", {"fish/a.jpg": jpeg(1), "bird/b.jpg": jpeg(2), "cat/c.jpg": jpeg(3)})
    text = '[sets.coarse]\npath = "coarse"\nclass_map = "map.json"\nclass_map_by = "{}"'
    digests = {ImageNetTree(config(tmp_path, text.format(by))).split("coarse").digest for by in ("sum", "max")}
    assert len(digests) == 2


def test_a_model_keeps_its_own_outputs() -> None:
    model = load_model("vit_shapes10")
    from nsbench.data.source import SetClasses

    coarse = for_classes(model, SetClasses(("a", "b"), (0, 0, 0, 0, 0, 1, 1, 1, 1, None), "sum"))
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        logits, two = model(images), coarse(images)
    assert (logits.shape, two.shape) == ((2, 10), (2, 2))
    assert model.class_map is None
    assert torch.allclose(two[:, 0], logits[:, :5].logsumexp(dim=1))
    assert next(coarse.parameters()) is next(model.parameters())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sets = 3", r"sets must be tables, \[sets.NAME\]"),
        ("[sets.objects]\ntitle = 'x'", "needs a path"),
        ("[sets.Objects]\npath = 'objects'", "small letters"),
        ("[sets.clean]\npath = 'objects'", "that no set of ImageNet has"),
        *(
            (f"[sets.{name}]\npath = 'objects'", f"--suite {name} stands for several suites")
            for name in ("all", "extended", "ood", "adversarial")
        ),
        ('[sets.objects]\npath = "objects"\ntitle = "a\\nb\\u001b[31m"', "title holds control characters"),
        ('[sets.objects]\npath = "objects"\nsummary = "a\\u202eb"', "summary holds control characters"),
        ('[sets.objects]\npath = "objects"\ntitle = " "', "title is empty"),
        ("[sets.objects]\npath = 'objects'\ncolour = 'red'", "colour is none of path, classes, labels"),
        ("[sets.objects]\npath = 'objects'\ntitle = 3", "title must be a text"),
        ("[sets.objects]\npath = 'objects'\nclass_map = 'map.json'\nclass_map_by = 'luck'", "one of sum, mean, max"),
        ("[sets.objects]\npath = 'objects'\nclass_map = 'none.json'", "cannot be read as a class map"),
        (
            "[sets.objects]\npath = 'objects'\nclass_map = 'map.json'\nclasses = 'present'",
            "leave out labels and classes",
        ),
        ("[sets.objects]\npath = 'objects'\nclasses = ['n0']", "list of classes of the source"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as raised:
        ImageNetTree(config(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([W[0]], "a class map of a set is"),
        ({"a": [W[0]]}, "two classes or more"),
        ({"a": [W[0]], "b": ["n0"]}, "'n0' of 'b' is no class of the source"),
        ({"a": [W[0]], "b": [W[0]]}, "belongs to 'a' and to 'b'"),
        ({"a": [W[0]], "b": []}, "'b' has no class of the source"),
    ],
)
def test_what_is_wrong_with_a_map_is_one_line(tmp_path: Path, content: object, words: str) -> None:
    path = config(tmp_path, '[sets.objects]\npath = "objects"\nclass_map = "map.json"')
    (tmp_path / "map.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        ImageNetTree(path)


def test_each_set_is_a_suite_and_no_other_one_s(tmp_path: Path) -> None:
    path = config(tmp_path, '[sets.objects]\npath = "objects"\ntitle = "Objects"\nlicence = "CC0"')
    register_sets(str(path))
    register_sets(str(path))  # a second run in one process
    suite = registry.suites["objects"]
    assert (suite.title, suite.paper, suite.conditions()[0].split) == ("Objects", False, "objects")
    assert "Licence: CC0" in suite.summary
    with pytest.raises(UsageError, match=r"\[sets.fgsm\]: there is a suite of that name already"):
        register_sets(str(config(tmp_path, '[sets.fgsm]\npath = "objects"')))
    register_sets("shapes10")


def test_sets_beside_those_of_imagenet(tmp_path: Path, pictures: dict[str, bytes]) -> None:
    as_tar(tmp_path, pictures)
    put(tmp_path / "objects", {f"{W[3]}/x.jpg": jpeg(3)})
    source = ImageNetTree(config(tmp_path, 'clean = "val.tar"\n[sets.objects]\npath = "objects"'))
    assert source.splits()[:2] == ["clean", "objects"]
    assert len(source.split("clean")) == 15


def test_shape_bias_of_a_real_model(tmp_path: Path, shared_data: Path) -> None:
    """Measured apart, with timm's model and transform, PIL and numpy alone: 25 of 128 right, 14 of 59 for the shape."""
    text = f'name = "cues"\n[sets.cue_conflict]\npath = "{shared_data}/cue_conflict"\nclass_map_by = "mean"\n'
    path = config(tmp_path, f'{text}class_map = "{EXAMPLES}/sixteen_classes.json"')
    weights = next((shared_data / "weights").glob("vit_tiny*.safetensors"))
    command = ["run", "--include", str(EXAMPLES / "shape_bias.py"), "--method", "pretrained", "--suite",
               "cue_conflict,shape_bias", "--data", str(path), "--model", "vit_tiny_patch16_224", "--checkpoint",
               str(weights), "--results", str(tmp_path / "results")]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    results, problems = read_results(tmp_path / "results")
    assert not problems
    by_suite = {one.suite: one for one in results}
    assert by_suite["cue_conflict"].score.value == pytest.approx(100 * 25 / 128)
    assert (by_suite["shape_bias"].score.value, by_suite["shape_bias"].score.n) == (pytest.approx(100 * 14 / 59), 59)
    (outcomes,) = read_outcomes(by_suite["cue_conflict"]).values()
    assert np.isin(outcomes.predictions, range(16)).all()


def real(root: Path, content: object) -> Path:
    put(root / "objects", {f"{W[label]}/img_{label}.jpg": jpeg(label) for label in (3, 7, 9)})
    (root / "real.json").write_text(json.dumps(content))
    return config(root, '[sets.objects]\npath = "objects"\nlabels = "real.json"')


@pytest.mark.parametrize("content", [[[5, 3], [7], []], {"img_9": [], "img_7": [W[7]], "img_3": [5, W[3]]}])
def test_several_right_labels_of_an_image(tmp_path: Path, content: object) -> None:
    """As ReaL has them: a list in the order of the images, or by name; an image without a label is left out."""
    split = ImageNetTree(real(tmp_path, content)).split("objects")
    assert dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True)) == {"img_3": 5, "img_7": 7}
    assert split.also_right == {"img_3": (3,)}

    class Says(torch.nn.Module):
        """Always the same class."""

        def __init__(self, said: int) -> None:
            super().__init__()
            self.said = torch.nn.Parameter(torch.nn.functional.one_hot(torch.tensor(said), 1000).float())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.said + 0 * images.mean(dim=(1, 2, 3))[:, None]

    from nsbench.models import Preprocessing
    from nsbench.models.own_code import wrap_in_memory
    from nsbench.models.request import Request

    for said, right in ((3, 1), (5, 1), (7, 1), (9, 0)):
        model = wrap_in_memory(Says(said), Preprocessing(32), Request("says", "says"))
        outcomes = evaluate(model, split, Condition("as they are")).outcomes
        assert int(outcomes.correct.sum()) == right, said
        assert set(outcomes.labels.tolist()) == {5, 7}
    with pytest.raises(DataError, match="several right labels, and an attack knows one of them"):
        evaluate(model, split, Condition("fgsm", attack="fgsm", threat=ThreatModel("linf", 1 / 255)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([[1], [2]], "has 2 lists, and the set 3 images"),
        ({"img_3": [3]}, "has no labels of img_7"),
        ([[1], [2], ["n0"]], "'n0' of img_9 is no class of the source"),
        ([[1], [2], [1000]], "'1000' of img_9 is no class"),
        (3, "neither a list nor an object"),
    ],
)
def test_lists_of_labels_that_cannot_be_right(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ImageNetTree(real(tmp_path, content)).split("objects")
