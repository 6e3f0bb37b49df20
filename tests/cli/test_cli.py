"""What people meet: names, groups, one-line errors, exit statuses, and a wheel that carries its content."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest
from boards import SUITES
from click.testing import CliRunner, Result

from nsbench.cli import main
from nsbench.cli.options import SECTIONS
from nsbench.registry import load_content, resolve_suites

REPOSITORY = Path(__file__).parents[2]
PAPER = list(SUITES)  # the order of the paper's table 2


def nsbench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def one_line(result: Result) -> str:
    """The message of a failed command, which must be a single line without a traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert len(lines) == 1, result.output
    return lines[0]


def test_groups_of_suites() -> None:
    load_content()
    assert list(resolve_suites("all")) == PAPER
    assert list(resolve_suites("adversarial")) == PAPER[1:5]
    assert list(resolve_suites("ood")) == PAPER[5:]
    assert set(resolve_suites("extended")) >= set(PAPER)
    assert resolve_suites("cw, clean,cw") == ("cw", "clean")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "nss", "--suite", "clean"],
        ["--method", "ns", "--suite", "cleen"],
        ["--method", "ns", "--suite", "clean", "--recipe", "papr"],
        ["--method", "ns", "--suite", "clean", "--model", "vit_shapes11"],
    ],
    ids=["method", "suite", "recipe", "model"],
)
def test_unknown_names_list_the_known_ones(tmp_path: Path, arguments: list[str]) -> None:
    result = nsbench("run", *arguments, "--results", tmp_path)
    assert result.exit_code == 2
    message = one_line(result)
    assert "unknown" in message
    assert "Known:" in message


def test_a_device_that_is_not_here(tmp_path: Path) -> None:
    result = nsbench("run", "--method", "ns", "--suite", "clean", "--device", "cuda:77", "--results", tmp_path)
    assert result.exit_code == 2
    assert "--device cuda:77" in one_line(result)


def test_data_that_are_not_there(tmp_path: Path) -> None:
    result = nsbench("run", "--method", "ns", "--suite", "clean", "--data", tmp_path / "no", "--results", tmp_path)
    assert result.exit_code == 2
    assert "does not exist" in one_line(result)


def test_a_model_of_other_classes(tmp_path: Path) -> None:
    (tmp_path / "val" / "n01440764").mkdir(parents=True)
    from PIL import Image

    Image.new("RGB", (300, 300)).save(tmp_path / "val" / "n01440764" / "x.JPEG")
    result = nsbench(
        "run",
        "--method",
        "pretrained",
        "--suite",
        "clean",
        "--data",
        tmp_path,
        "--model",
        "vit_shapes10",
        "--results",
        tmp_path / "r",
    )
    assert result.exit_code == 1
    assert "10 classes" in one_line(result)


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = nsbench("run", "--method", "pretrained", "--suite", "clean", "--results", tmp_path / "file" / "x")
    assert result.exit_code == 1
    assert "--results" in one_line(result)


def test_dry_run_computes_nothing(tmp_path: Path) -> None:
    result = nsbench("run", "--method", "all", "--suite", "all", "--dry-run", "--results", tmp_path / "none")
    assert result.exit_code == 0
    assert "ns x imagenet_c: 75 conditions" in result.output
    assert not (tmp_path / "none").exists()


def test_dry_run_marks_what_is_held(tmp_path: Path) -> None:
    assert (
        nsbench("run", "--method", "pretrained", "--suite", "clean", "--limit", 4, "--results", tmp_path).exit_code == 0
    )
    before = sorted(tmp_path.rglob("*"))
    chosen = ["run", "--method", "pretrained,ns", "--suite", "clean,fgsm", "--limit", 4, "--results", tmp_path]
    result = nsbench(*chosen, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "pretrained x clean: 1 condition on shapes10: held already" in result.output
    assert "pretrained x fgsm: 5 conditions on shapes10: to run" in result.output
    assert "ns x clean: 1 condition on shapes10: to run" in result.output
    assert f"4 pairs in {tmp_path}: 1 held already, 3 to run" in result.output
    assert "held already" not in nsbench(*chosen, "--dry-run", "--force").output
    assert sorted(tmp_path.rglob("*")) == before


def test_report_without_results(tmp_path: Path) -> None:
    result = nsbench("report", "--results", tmp_path / "none")
    assert result.exit_code == 2
    assert "nsbench run" in one_line(result)


@pytest.mark.parametrize("what", ["suites", "methods", "models", "sources", "recipes"])
def test_list(what: str) -> None:
    result = nsbench("list", what)
    assert result.exit_code == 0
    expected = {
        "suites": "imagenet_sketch",
        "methods": "finetune",
        "models": "vit_shapes10",
        "sources": "shapes10",
        "recipes": "paper",
    }
    assert expected[what] in result.output


def test_a_wheel_finds_its_content_in_an_empty_folder(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(REPOSITORY),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("nsbench-*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
        assert top == {"nsbench", wheel.name.split("-py3")[0] + ".dist-info"}, "nothing else is installed at the top"
        archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-m", "nsbench", "list"],
        cwd=empty,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"},
        check=True,
    )
    for name in (*PAPER, "pretrained", "finetune", "ns"):
        assert f"  {name} " in done.stdout
    for needed in (
        "shapes10/weights/vit_shapes10.safetensors",
        "training/recipes/paper.toml",
        "data/imagenet_wnids.txt",
    ):
        assert (site / "nsbench" / needed).is_file()


@pytest.mark.parametrize(
    "wrong",
    [
        ["run", "--method", "ns", "--suite", "clean", "--data", "absent"],
        ["run", "--method", "ns", "--suite", "clean", "--checkpoint", "absent.pth"],
        ["run", "--method", "ns", "--suite", "clean", "--set", "rounds=many"],
        ["run", "--method", "ns", "--suite", "clean", "--device", "abacus"],
        ["baseline", "record", "--method", "pretrained", "--suite", "clean", "--data", "absent", "--out", "b/b.json"],
        ["baseline", "record", "--method", "pretrained", "--suite", "clean", "--out", "b.json", "--results", "r"],
        ["check", "--baseline", "absent.json"],
        ["check", "--baseline", "absent.json", "--run"],
        ["data", "check", "absent"],
        ["submit", "check", "absent.zip"],
        ["submit", "check", "absent.zip", "--rerun", "3", "--checkpoint", "absent.pth"],
        ["show", "--results", "absent"],
        ["report", "--results", "absent"],
        ["report", "--format", "pdf", "--results", "."],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = nsbench(*wrong)
    assert result.exit_code == 2, result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["show"], ["report"], ["report", "--compare", "ns", "finetune"]], ids=" ".join)
def test_an_empty_folder_is_said_to_be_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    result = nsbench(*command, "--results", "results")
    assert result.exit_code == 1
    assert "--results results: holds no result; make some: nsbench run" in one_line(result)
    assert [path.name for path in tmp_path.rglob("*")] == ["results"]


def test_help_of_check_and_record_prints_what_they_use() -> None:
    checked, recorded = (
        " ".join(nsbench(*words, "--help").output.split()) for words in (["check"], ["baseline", "record"])
    )
    for name in ("--normalisation", "--weights", "--seed", "--match", "--corruption-engine"):
        assert "[default: (the baseline's)]" in checked.partition(f" {name} ")[2][:300]
        assert f" {name} " in recorded
    assert checked.count("(the baseline's)") == 5
    assert "--results" not in recorded
    assert "[default: own]" in recorded


def test_recipes_are_listed_with_their_fields_and_what_differs() -> None:
    lines = nsbench("list", "recipes").output.splitlines()
    assert lines[1].split() == ["paper", "plain", "quick", "shapes10"]
    rows = {words[0]: words[1:] for line in lines[2:] if (words := line.split())}
    assert rows["rounds"] == ["20", "20", "2", "8"]
    assert rows["attack_eps"] == ["8/255", "8/255", "8/255", "2/255"]
    assert rows["weight_decay"] == ["0.05"], "the same in all of them"
    from nsbench.training import Recipe

    assert set(rows) >= set(Recipe.model_fields) - {"name", "seed"}


def test_help_of_run_has_its_options_in_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option stands below a heading that says what it is about, once."""
    # click keeps the first --help that a command shows, and other tests ask this one without its group, which adds -h
    monkeypatch.setattr(main.commands["run"], "_help_option", None, raising=False)
    shown = CliRunner().invoke(main, ["run", "--help"]).output
    heads = re.findall(r"^(\S.*):$", shown, re.MULTILINE)
    assert heads == ["Options", *SECTIONS]
    sections = dict(zip(heads, re.split(r"^\S.*:$", shown, flags=re.MULTILINE)[-len(heads) :], strict=True))
    assert re.findall(r"^  (-\S+)", sections["Options"], re.MULTILINE) == ["-h,"]
    for head, option in (("Training", "--recipe"), ("Model", "--checkpoint"), ("Machines and clusters", "--slurm")):
        assert re.search(rf"^  {option} ", sections[head], re.MULTILINE), option
    for parameter in main.commands["run"].params:
        if isinstance(parameter, click.Option):
            assert len(re.findall(rf"^  (?:-\w, )?{parameter.opts[-1]}\b(?!-)", shown, re.MULTILINE)) == 1, (
                parameter.name
            )
