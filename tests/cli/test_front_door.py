"""The first commands of a fresh clone: nothing is held, the run says what it found, the page has rows beside its own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nsbench.cli import main
from nsbench.cli.board import SHOWCASE, lending_of
from nsbench.cli.options import DEFAULT_RESULTS
from nsbench.errors import UsageError
from nsbench.report import read_board
from nsbench.report.page.rows import initial_pair

REPOSITORY = Path(__file__).parents[2]
BOARD = SHOWCASE / "shapes10" / "results"
MARK = "from the showcase"


def nsbench(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A results folder as after `nsbench run --method ns --suite clean`: one of the showcase's results."""
    folder = tmp_path / "results"
    there = Path("shapes10", "vit_shapes10", "ns")
    (folder / there).mkdir(parents=True)
    for path in (BOARD / there).glob("clean.seed0.*"):
        shutil.copy(path, folder / there)
    return folder


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not in a git checkout")
def test_git_keeps_the_showcase_and_nothing_that_a_run_writes() -> None:
    kept = subprocess.run(["git", "ls-files", "reports"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    boards = {Path(line).parts[1] for line in kept.stdout.splitlines()}
    assert boards == {"README.md", "showcase"}
    for path in (
        "results/shapes10/vit_shapes10/ns/clean.seed0.json",
        "index.html",
        "nullspace/index.html",
        "leaderboard.csv",
    ):
        assert subprocess.run(["git", "check-ignore", "-q", f"reports/{path}"], cwd=REPOSITORY).returncode == 0, path
    kept_path = "reports/showcase/shapes10/results/new.json"
    assert subprocess.run(["git", "check-ignore", "-q", kept_path], cwd=REPOSITORY).returncode == 1


def test_a_run_ends_with_what_it_found(tmp_path: Path) -> None:
    result = nsbench(
        "run", "--method", "pretrained", "--suite", "clean", "--limit", 8, "--results", tmp_path / "my results"
    )
    assert result.exit_code == 0, result.output
    counts, found, against, page = result.output.splitlines()[-4:]
    assert counts == "1 done, 0 held already, 0 missing, 0 failed"
    assert found.startswith("pretrained: Clean ")
    assert "on 8 images of shapes10 (a part of them: good for a look, not for a claim), seed 0" in found
    assert against.startswith("Nothing in its table to compare it with")
    assert page.endswith(f"The page: nsbench report --results '{tmp_path / 'my results'}' (writes reports/index.html)")


def test_a_study_points_to_its_section(tmp_path: Path) -> None:
    study = tmp_path / "mine.toml"
    study.write_text("title = 'x'\nmethods = ['pretrained']\nsuites = ['clean']\n")
    result = nsbench("run", "--study", study, "--limit", 8, "--results", tmp_path / "r")
    assert result.exit_code == 0, result.output
    counts, section, page = result.output.splitlines()[-3:]
    assert counts.startswith("1 done")
    assert section == "The page shows the grid of a study in a section of its own, where its rows are stored."
    command = page.partition("The page: ")[2].partition(" (writes")[0]
    page = tmp_path / "page.html"
    shown = nsbench(*shlex.split(command)[1:], "--out", page)
    assert shown.exit_code == 0, shown.output
    assert '-study-mine">x</h3>' in page.read_text()


def test_a_run_without_results_claims_nothing(tmp_path: Path, shared_data: Path) -> None:
    """Nothing found, nothing said: the last line names what is missing."""
    weights = shared_data / "weights" / "vit_tiny_patch16_224.safetensors"
    data = ["--data", shared_data / "imagenet", "--model", "vit_tiny_patch16_224", "--checkpoint", weights]
    result = nsbench("run", "--method", "pretrained", "--suite", "imagenet_a", *data, "--results", tmp_path)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("  missing: pretrained x imagenet_a")


def test_the_page_shows_the_showcase_beside(own: Path, tmp_path: Path) -> None:
    result = nsbench("report", "--results", own, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text()
    assert MARK in page
    assert "not computed here" in page
    for title in ("finetune (control)", "pretrained", "Madry", "TRADES", "random noise"):
        assert f"{title} · {MARK}" in page
    assert f"NS · {MARK}" not in page


def test_what_is_compared_at_first_is_ones_own_row(own: Path) -> None:
    (table,) = read_board(own, lending_of(own)).tables
    first, second = (table.rows[index] for index in initial_pair(table))
    assert (first.method, first.lender) == ("ns", "")
    assert (second.method, second.lender) == ("finetune", "the showcase")
    assert table.rows[0].lender, "although another row stands above it"


def test_the_showcase_can_be_left_out_and_is_never_beside_itself(own: Path, tmp_path: Path) -> None:
    assert nsbench("report", "--results", own, "--out", tmp_path / "page.html", "--beside", "none").exit_code == 0
    assert MARK not in (tmp_path / "page.html").read_text()
    assert lending_of(SHOWCASE / "table4" / "results") is None
    assert lending_of(own) is not None


def test_files_for_programs_hold_only_the_folder(own: Path, tmp_path: Path) -> None:
    assert nsbench("report", "--results", own, "--out", tmp_path / "a", "--format", "csv,html").exit_code == 0
    assert MARK not in (tmp_path / "a" / "leaderboard.csv").read_text()
    assert MARK in (tmp_path / "a" / "index.html").read_text()
    chosen = ["--format", "csv", "--beside", BOARD]
    assert nsbench("report", "--results", own, "--out", tmp_path / "b", *chosen).exit_code == 0
    assert f"from {BOARD}" in (tmp_path / "b" / "leaderboard.csv").read_text()


def test_the_terminal_shows_and_compares_them(own: Path) -> None:
    assert MARK in nsbench("show", "--results", own).output
    assert MARK in nsbench("report", "--results", own, "--compare", "ns", "finetune").output


def test_a_folder_that_is_not_there(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        lending_of(own, str(tmp_path / "none"))
    assert nsbench("report", "--results", own, "--beside", tmp_path / "none").exit_code == 2
    assert not DEFAULT_RESULTS.is_relative_to(SHOWCASE)
