"""nsbench from Python: the same records as the command line's, for modules, names and fitted methods."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import nsbench as nb
from nsbench.cli import main
from nsbench.errors import NsbenchError, UnknownName, UsageError
from nsbench.models import load_model
from nsbench.results import Result, read_outcomes

QUICK = {"rounds": "1", "steps_per_round": "2"}


class Net(nn.Module):
    """A small network that normalises inside."""

    input_size = 48

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body((images - 0.5) / 0.5)
        return logits


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "results"  # type: ignore[return-value]


def content(result: Result) -> Result:
    """Without what may differ between two measurements of the same thing."""
    own = replace(result.provenance, command="", date="", seconds=None, peak_memory_mib=None)
    conditions = tuple(
        replace(one, attack_card=one.attack_card and replace(one.attack_card, seconds=0.0)) for one in result.conditions
    )
    return replace(result, provenance=own, conditions=conditions, path=None)


def test_a_name_gives_what_the_command_gives_to_the_bit(tmp_path: Path) -> None:
    here, there = tmp_path / "python", tmp_path / "command"
    mine = nb.evaluate(suites="clean,fgsm", limit=40, results=here)
    command = ["run", "--method", "pretrained", "--suite", "clean,fgsm", "--limit", "40", "--results", str(there)]
    assert CliRunner().invoke(main, command).exit_code == 0
    theirs = nb.read_results(there)
    assert [content(one) for one in sorted(mine, key=lambda r: r.suite)] == [content(one) for one in theirs]
    assert mine[0].provenance.command == "nsbench.evaluate()"
    assert nb.evaluate(suites="clean", limit=40, results=there)[0].provenance.date == theirs[0].provenance.date, "held"


def test_a_module_is_evaluated_and_left_as_it_was(folder: Path) -> None:
    net = Net().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    clean, fgsm = nb.evaluate(net, data="shapes10", suites="clean,fgsm", name="mine", limit=60, results=folder)
    assert (clean.model, clean.method, clean.source) == ("mine", "pretrained", "shapes10")
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    split = nb.open_source("shapes10").split("clean").limited(60)
    from torchvision.transforms.functional import pil_to_tensor

    images = torch.stack([pil_to_tensor(split.load(k)) for k in range(60)]).float() / 255
    with torch.no_grad():
        predictions = net.eval()(images).argmax(dim=1).numpy()
    assert read_outcomes(clean)["clean"].predictions.tolist() == predictions.tolist()
    assert fgsm.score.value <= clean.score.value
    assert nb.evaluate(Net(), suites="clean", name="mine", limit=60, results=folder)[0] == clean, "held"
    assert nb.evaluate(Net(1), suites="clean", name="mine", limit=60, results=folder)[0] != clean


def test_a_module_with_other_code_is_another_model(folder: Path) -> None:
    class Other(Net):
        def forward(self, images: Tensor) -> Tensor:
            return -super().forward(images)

    class Same(Net):
        def forward(self, images: Tensor) -> Tensor:
            return +super().forward(images)

    one, other = (
        nb.evaluate(kind(), suites="clean", name="mine", limit=20, results=folder)[0] for kind in (Other, Same)
    )
    assert one.identity != other.identity
    assert one.provenance.weights_digest != other.provenance.weights_digest


def test_the_leaderboard_is_a_frame(folder: Path) -> None:
    results = nb.evaluate(Net(), suites="clean,fgsm", name="mine", limit=40, results=folder)
    results += nb.evaluate(suites="clean,fgsm", limit=40, results=folder)
    standings = nb.leaderboard(results)
    frame = standings.to_frame()
    assert list(frame.columns) == ["rank", "Clean", "FGSM", "Average"]
    assert sorted(frame.index) == ["pretrained · mine", "pretrained · vit_shapes10"]
    assert frame.loc["pretrained · mine", "Clean"] == results[0].score.value
    assert len(standings.to_frame(tidy=True)) == 4
    assert "| Clean" in str(standings)
    assert "<table" in standings._repr_html_()
    page = nb.report(folder, folder / "page.html")
    assert "pretrained" in page.read_text()


def test_a_fitted_method_is_a_module_and_is_evaluated(folder: Path, tmp_path: Path) -> None:
    fitted = nb.fit("finetune", settings=QUICK, weights=tmp_path / "weights")
    assert fitted.model(torch.rand(2, 3, 48, 48)).shape == (2, 10)
    (clean,) = nb.evaluate(fitted, suites="clean", limit=30, results=folder)
    assert clean.method == "finetune"
    assert clean.provenance.weights_digest == fitted.card.weights_digest
    (same,) = nb.run("finetune", "clean", settings=QUICK, limit=30, results=folder, weights=tmp_path / "weights")
    assert same == clean, "held"
    with pytest.raises(UsageError, match="recipe: a fitted method is evaluated as it was fitted"):
        nb.evaluate(fitted, suites="clean", recipe="quick", results=folder)


def test_own_modules_are_finetuned_by_methods_that_need_logits_alone(folder: Path, tmp_path: Path) -> None:
    options = {"settings": QUICK, "limit": 20, "results": folder, "weights": tmp_path / "weights"}
    (tuned,) = nb.run("finetune", "clean", model=Net(), name="mine", **options)
    assert tuned.provenance.recipe is not None
    with pytest.raises(NsbenchError, match=r"1 could not be done, such as ns x clean: .*patch embedding"):
        nb.run("ns", "clean", model=Net(), name="mine", **options)


def test_what_is_wrong_is_raised_in_one_line(folder: Path) -> None:
    for wrong, error, words in (
        (lambda: nb.evaluate(suites="nothing", results=folder), UnknownName, "unknown suite 'nothing'"),
        (lambda: nb.evaluate(suites="clean", colour=3, results=folder), UsageError, "colour: is no option"),
        (lambda: nb.evaluate(Net(), suites="clean", checkpoint="x", results=folder), UsageError, "has its weights"),
        (lambda: nb.evaluate(Net(), suites="clean", name="a/b", results=folder), UsageError, "give a name of letters"),
        (
            lambda: nb.evaluate(nn.Flatten(), suites="clean", results=folder),
            UsageError,
            "size of its input is not known",
        ),
        (lambda: nb.read_results(folder / "nothing"), UsageError, "is not a folder of results"),
    ):
        with pytest.raises(error, match=words) as raised:
            wrong()
        assert "\n" not in str(raised.value)


def test_a_broken_result_is_a_warning(folder: Path) -> None:
    nb.evaluate(suites="clean", limit=10, results=folder)
    (folder / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match=r"broken\.json"):
        assert len(nb.read_results(folder)) == 1


def test_a_loaded_model_is_taken_as_it_is(folder: Path) -> None:
    model = load_model("vit_shapes10")
    (one,) = nb.evaluate(model, suites="clean", limit=20, results=folder)
    (other,) = nb.evaluate(suites="clean", limit=20, results=folder)
    assert one.identity == other.identity


@pytest.mark.parametrize("first", ["nsbench.run.runner", "nsbench.leaderboard", "nsbench.report", "nsbench"])
def test_verbs_can_be_called_whatever_was_imported_first(first: str) -> None:
    """Rooms of the engine have the names of verbs."""
    code = f"import {first}, nsbench as nb; assert all(map(callable, (nb.run, nb.leaderboard, nb.report, nb.evaluate)))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"evaluate", "fit", "run", "report", "leaderboard", "open_source", "read_results"} <= set(dir(nb))
