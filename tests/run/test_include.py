"""Suites, methods and attacks of one's own: named files, never the current folder, and an edit is another measurement."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsbench.results import read_results

MINE = """
import nsbench as nb


@nb.attack(loss="none")
def invert(model, images, labels, *, ids, seed, threat):
    return (images + {sign} threat.eps * (1 - 2 * images).sign()).clamp(0, 1)


@nb.suite(title="Invert", group="adversarial", score=nb.accuracy, citation="this file", paper=False)
def invert_8() -> list[nb.Condition]:
    return [nb.Condition("eps 8/255", attack="invert", threat=nb.ThreatModel("linf", 8 / 255))]


@nb.method(title="As it is", citation="this file", trains=False)
def as_it_is(model, train, recipe, **run):
    return model
"""
RUN = ("run", "--method", "as_it_is", "--suite", "invert_8", "--limit", "10")


def nsbench(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nsbench", *words],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE.format(sign="+"))
    return tmp_path


def test_a_file_of_one_s_own_runs_and_an_edit_is_another_measurement(folder: Path) -> None:
    done = nsbench(folder, *RUN, "--include", "mine.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 done" in done.stdout
    assert "1 held already" in nsbench(folder, *RUN, "--include", "mine.py").stdout
    (folder / "mine.py").write_text(MINE.format(sign="-"))
    assert "1 done" in nsbench(folder, *RUN, "--include", "mine.py").stdout
    results, problems = read_results(folder / "reports" / "results")
    assert (len(results), problems) == (2, [])
    codes = [{key: value for key, value in one.provenance.versions.items() if " " in key} for one in results]
    assert set(codes[0]) == {"method as_it_is", "suite invert_8", "attack invert"}
    assert codes[0] != codes[1]


def test_the_environment_and_the_project_name_files_and_the_current_folder_does_not(folder: Path) -> None:
    assert "invert_8" not in nsbench(folder, "list", "suites").stdout
    assert "invert_8" in nsbench(folder, "list", "suites", NSBENCH_INCLUDE=str(folder)).stdout
    (folder / "pyproject.toml").write_text('[tool.nsbench]\ninclude = ["mine.py"]\n')
    (folder / "below").mkdir()
    assert "invert_8" in nsbench(folder / "below", "list", "suites").stdout
    (folder / "pyproject.toml").write_text('[tool.nsbench]\ninclude = "mine.py"\n')
    refused = nsbench(folder, "list")
    assert (refused.returncode, "must be a list of paths" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import nsbench\n\nx = 1 / 0\n", "bad.py:3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "bad.py:1: SyntaxError"),
        ("x = 1\n", "registers no suite, method or attack"),
        ("raise SystemExit(0)\n", "bad.py:1: SystemExit"),
        (None, "is no Python file and no folder with some"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "bad.py").write_text(content)
    refused = nsbench(tmp_path, "list", "--include", "bad.py")
    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_attack_is_held_to_its_budget(tmp_path: Path) -> None:
    wild = MINE.format(sign="+").replace("threat.eps * (1", "0.5 * (1")
    (tmp_path / "mine.py").write_text(wild)
    refused = nsbench(tmp_path, *RUN, "--include", "mine.py")
    assert refused.returncode == 1
    assert "invert" in refused.stdout
    assert "0 done" in refused.stdout


@pytest.mark.parametrize(
    ("stated", "line"),
    [
        ('include = ["a\\u0000b"]', "must be a list of paths"),
        ('includ = ["mine.py"]', "[tool.nsbench] includ is not known; known: include, slurm"),
    ],
)
def test_what_a_project_states_wrongly_is_one_line(folder: Path, stated: str, line: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.nsbench]\n{stated}\n")
    refused = nsbench(folder, "list", "suites")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert line in refused.stderr
