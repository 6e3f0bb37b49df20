"""`nsbench list` for people and for programs, and what a shell offers where a name is expected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from nsbench import registry
from nsbench.cli import main
from nsbench.cli.names import KINDS
from nsbench.models.catalogue import PLACES, known_models
from nsbench.report.tables.exports import ABOUT, FORMATS


def listed(*words: str) -> str:
    done = CliRunner().invoke(main, ["list", *words])
    assert done.exit_code == 0, done.output
    return done.output


def records(kind: str) -> list[dict[str, str]]:
    found = json.loads(listed(kind, "--json"))
    assert list(found) == [kind]
    rows: list[dict[str, str]] = found[kind]
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_a_name_and_is_shown_to_people_and_programs(kind: str) -> None:
    rows, text = records(kind), listed(kind)
    assert len({row["name"] for row in rows}) == len(rows) > 1
    assert all(row["name"] in text for row in rows)
    assert kind == "models" or all(row["about"] for row in rows)
    assert len({tuple(row) for row in rows}) == 1


def test_what_is_listed_is_what_can_be_named() -> None:
    registry.load_content()
    assert {row["name"] for row in records("methods")} == set(registry.methods)
    assert {row["name"] for row in records("suites")} == set(registry.suites)
    assert {row["name"] for row in records("attacks")} == set(registry.attacks)
    assert {row["name"] for row in records("formats")} == set(FORMATS) == set(ABOUT)
    models = {row["name"]: row for row in records("models")}
    assert set(models) >= {*known_models(), *(place.form for place in PLACES.values())}
    tiny = models["vit_tiny_patch16_224"]
    assert (tiny["family"], tiny["parameters"], tiny["input"]) == ("ViT", "5.7 M", "224 px")


def test_sizes_of_models_are_timms() -> None:
    import timm

    for row in records("models"):
        if row["parameters"] and row["name"] != "vit_shapes10":
            config = timm.get_pretrained_cfg(row["name"])
            assert row["input"] == f"{config.input_size[-1]} px"


def test_recipes_have_their_fields_for_programs() -> None:
    quick = next(row for row in json.loads(listed("recipes", "--json"))["recipes"] if row["name"] == "quick")
    assert quick["fields"]["rounds"] == 2
    assert set(json.loads(listed("--json"))) == {"suites", "methods"}


def offered(*words: str) -> list[str]:
    """What is offered for the last of these words."""
    *before, typed = words
    complete = ShellComplete(main, {}, "nsbench", "_NSBENCH_COMPLETE")
    return [item.value for item in complete.get_completions(before, typed)]


def test_names_are_completed() -> None:
    assert offered("run", "--method", "mad") == ["madry"]
    assert offered("run", "--method", "ns,pre") == ["ns,pretrained"]
    assert offered("run", "--method", "madry+n") == ["madry+ns"]
    assert offered("run", "--suite", "imagenet_c") == ["imagenet_c", "imagenet_c_severity3"]
    assert "extended" in offered("run", "--suite", "")
    assert offered("run", "--recipe", "pa") == ["paper"]
    assert offered("run", "--study", "table") == ["table2", "table3", "table4"]
    assert offered("run", "--model", "vit_tiny") == ["vit_tiny_patch16_224"]
    assert "robustbench:Salman2020Do_R50" in offered("run", "--model", "robustbench:Sal")
    assert offered("run", "--model", "hf") == ["hf-hub:"]
    assert offered("run", "--data", "sha") == ["shapes10"]
    assert offered("export", "weights", "--method", "fine") == ["finetune"]
    assert offered("check", "--method", "trad") == ["trades"]


def test_where_no_name_fits_files_and_folders_are() -> None:
    complete = ShellComplete(main, {}, "nsbench", "_NSBENCH_COMPLETE")
    assert [item.type for item in complete.get_completions(["run", "--data"], "./my")] == ["dir"]
    assert [item.type for item in complete.get_completions(["run", "--model"], "./my")] == ["file"]


def test_a_shell_is_answered_as_it_asks(tmp_path: Path) -> None:
    """As bash does it, in an empty folder, with a file of the user's own that is broken: nothing is offered for it."""
    (tmp_path / "broken.py").write_text("import nsbench\nraise ValueError\n")
    environment = os.environ | {
        "_NSBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "nsbench run --method random",
        "COMP_CWORD": "3",
    }
    command = [sys.executable, "-c", "from nsbench.cli import main; main(prog_name='nsbench')"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["plain,random_noise"], done.stderr
    broken = environment | {"NSBENCH_INCLUDE": str(tmp_path / "broken.py")}
    done = subprocess.run(command, env=broken, capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr
