"""Plain mistakes of calls from Python: each is one line, before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import nsbench as nb
from nsbench.cli import main
from nsbench.errors import NsbenchError, UsageError
from nsbench.models import Model
from nsbench.run.from_python import checked, seeds_of

MISTAKES: dict[str, dict[str, Any]] = {
    "limit: -5 is no whole number of at least 1": {"limit": -5},
    "limit: 0 is no whole number of at least 1": {"limit": 0},
    "limit: True is no whole number": {"limit": True},
    "limit: '5' is no whole number": {"limit": "5"},
    "limit: 5.0 is no whole number": {"limit": 5.0},
    "batch_size: 0 is no whole number of at least 1": {"batch_size": 0},
    "workers: -1 is no whole number of at least 0": {"workers": -1},
    "match: 'x' is none of steps, compute": {"match": "x"},
    "settings: \\['rounds'\\] is no mapping": {"settings": ["rounds"]},
    "mean: '0.5' are no three numbers": {"mean": "0.5"},
    "std: \\(0.5, 0.5\\) are no three numbers": {"std": (0.5, 0.5)},
    "suites: name at least one": {"suites": ""},
    "model: .*Linear.* is neither a name nor an nn.Module": {"model": torch.nn.Linear},
    "seeds: '01' is no sequence of whole numbers": {"seeds": "01"},
    "seeds: \\(\\) is no sequence": {"seeds": ()},
    "seeds: 3 is no sequence": {"seeds": 3},
    "seeds: -1 is no whole number": {"seeds": (-1,)},
    "seeds: '1' is no whole number": {"seeds": ("1",)},
    "data: 5 is no text": {"data": 5},
    r"name 'a\\x1bb': holds characters that are not seen": {"name": "a\x1bb"},
    r"name 'a\\u200db': holds characters that are not seen": {"name": "a\u200db"},
    "crop_pct: '0.9' is no number": {"crop_pct": "0.9"},
    "checkpoint: 3 is no text": {"checkpoint": 3},
    "class_map_by: 'nope' is none of sum, mean, max": {"class_map_by": "nope"},
    "corruption_engine: 'nope' is none of nsbench, imagecorruptions": {"corruption_engine": "nope"},
    "force: 'no' is neither True nor False": {"force": "no"},
    "3 are no names": {"suites": 3},
    "preprocessing: is for an nn.Module": {"preprocessing": nb.Preprocessing(48)},
}


@pytest.mark.parametrize(("line", "given"), MISTAKES.items())
def test_a_mistake_is_one_line(tmp_path: Path, line: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{line}"):
        nb.run("pretrained", **({"suites": "clean", "results": tmp_path} | given))
    assert not list(tmp_path.iterdir())


def test_numbers_of_other_libraries_are_numbers() -> None:
    found = checked({"limit": np.int64(5), "device": torch.device("cpu"), "mean": np.full(3, 0.5), "workers": None})
    assert found == {"limit": 5, "device": "cpu", "mean": (0.5, 0.5, 0.5), "workers": None}
    assert [type(one) for one in (found["limit"], *found["mean"])] == [int, float, float, float]
    assert seeds_of(np.array([3, 1, 3])) == (3, 1)
    assert seeds_of(range(2)) == (0, 1)


@pytest.mark.parametrize("method", ["finetune,ns", "all", ["finetune", "ns"]])
def test_one_method_is_fitted_at_a_time(method: Any) -> None:
    with pytest.raises(UsageError, match="fit one at a time"):
        nb.fit(method)
    with pytest.raises(UsageError, match="seeds: -1"):
        nb.fit("finetune", seed=-1)


def test_a_model_that_has_its_preparation_takes_no_other() -> None:
    model: Model = nb.load_model("vit_shapes10")
    for given in ({"mean": (0, 0, 0)}, {"std": (1, 1, 1)}, {"preprocessing": nb.Preprocessing(48)}, {"img_size": 48}):
        with pytest.raises(
            NsbenchError, match=f"^{next(iter(given)).replace('img_', '')}: this model has its preparation"
        ):
            nb.evaluate(model, suites="clean", **given)


def test_a_leaderboard_is_made_of_results() -> None:
    with pytest.raises(UsageError, match="is a folder; give what read_results gives of it"):
        nb.leaderboard("reports/results")


@pytest.mark.parametrize(("option", "value"), [("--name", "two\nlines"), ("--seed", str(2**63))])
def test_what_nobody_could_share_is_refused_before_the_work(tmp_path: Path, option: str, value: str) -> None:
    """`submit` takes no such result."""
    work = ["run", "--method", "pretrained", "--suite", "clean", "--results", str(tmp_path / "results")]
    done = CliRunner().invoke(main, [*work, option, value])
    assert done.exit_code == 2
    assert done.output.startswith(f"nsbench: {option[2:]} ")
    assert not (tmp_path / "results").exists()
