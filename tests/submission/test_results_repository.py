"""examples/results-repository: its files are YAML that GitHub reads, and what its workflows run does what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from submissions import store

from nsbench.submission import pack

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "results-repository"
WORKFLOWS = sorted((EXAMPLE / ".github" / "workflows").glob("*.yml"))
GIT = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")


def loaded(name: str) -> dict[str, object]:
    return yaml.safe_load((EXAMPLE / ".github" / name).read_text())  # type: ignore[no-any-return]


def step(workflow: str, name: str) -> str:
    """The script of a step of the job build."""
    jobs = loaded(f"workflows/{workflow}.yml")["jobs"]
    (found,) = [one["run"] for one in jobs["build"]["steps"] if one.get("name") == name]  # type: ignore[index]
    return str(found)


def checking() -> str:
    (found,) = loaded("actions/submit-check/action.yml")["runs"]["steps"]  # type: ignore[index]
    return str(found["run"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository made of the example, with one accepted archive, and `nsbench` as a command."""
    shutil.copytree(EXAMPLE, tmp_path / "repository")
    store(tmp_path / "held", "clean", method="madry")
    pack(tmp_path / "held", tmp_path / "repository" / "submissions" / "madry.zip")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "nsbench"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nsbench "$@"\n')
    command.chmod(0o755)
    run(tmp_path / "repository", "git init -q -b main")
    commit(tmp_path / "repository")
    return tmp_path / "repository"


def commit(repository: Path) -> None:
    subprocess.run([*GIT, "add", "-A"], cwd=repository, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", "x"], cwd=repository, check=True)


def run(repository: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{repository.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"} | variables
    environment["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as GitHub runs `shell: bash`
    return subprocess.run(words, cwd=repository, env=environment, capture_output=True, text=True)


def checked(repository: Path, summary: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the action says of the last commit."""
    variables = {"BASE": "HEAD~1", "RESULTS": "results", "OPTIONS": ""}
    return run(repository, checking(), **variables, **({"GITHUB_STEP_SUMMARY": str(summary)} if summary else {}))


def submitted(repository: Path, name: str = "ns.zip", lost: int = 0) -> None:
    """A pull request with an archive of NS; `lost` bytes of its end are not there."""
    store(repository.parent / "mine", "clean")
    archive = pack(repository.parent / "mine", repository / "submissions" / name).path
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) - lost])
    commit(repository)


@pytest.mark.parametrize("path", sorted((EXAMPLE / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_every_file_is_yaml_and_its_actions_are_pinned_or_there(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert content["name"]
    for used in re.findall(r"^\s*(?:- )?uses:\s*(\S+)", path.read_text(), re.MULTILINE):
        if used.startswith("./"):
            assert (EXAMPLE / used / "action.yml").is_file()
        else:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", used), used
    assert "secrets." not in path.read_text()
    if path in WORKFLOWS:
        assert content["permissions"] == {"contents": "read"}
        assert "pull_request_target" not in path.read_text()
        ours = (REPOSITORY / ".github" / "workflows").glob("*.yml")
        pins = set(re.findall(r"@[0-9a-f]{40}", "".join(one.read_text() for one in ours)))
        assert set(re.findall(r"@[0-9a-f]{40}", path.read_text())) <= pins


def test_no_expression_stands_in_a_script() -> None:
    for path in sorted((EXAMPLE / ".github").rglob("*.yml")):
        for script in re.findall(r"run: (\|\n(?: {8,}.*\n|\n)+|.*)", path.read_text()):
            assert "${{" not in script, path


def test_the_form_asks_what_ours_asks() -> None:
    theirs = loaded("ISSUE_TEMPLATE/submission.yml")
    ours = yaml.safe_load((REPOSITORY / ".github" / "ISSUE_TEMPLATE" / "submission.yml").read_text())
    assert [one.get("id") for one in theirs["body"]] == [one.get("id") for one in ours["body"]]  # type: ignore[attr-defined]


def test_a_good_archive_passes_and_the_summary_says_so(repository: Path, tmp_path: Path) -> None:
    submitted(repository)
    done = checked(repository, tmp_path / "summary.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "submissions/ns.zip: 1 results, 0 problems" in done.stdout
    assert "madry.zip: " not in (tmp_path / "summary.md").read_text()
    assert all(line.startswith("    ") for line in (tmp_path / "summary.md").read_text().splitlines())
    assert list((repository / "results").rglob("madry/clean.seed0.json")), "what was accepted before is held"


def test_a_broken_archive_and_a_file_that_is_none_fail(repository: Path) -> None:
    submitted(repository, lost=40)
    done = checked(repository)
    assert done.returncode == 1, done.stdout
    (repository / "submissions" / "ns.zip").unlink()
    commit(repository)
    assert "No archive in submissions/ was added or changed." in checked(repository).stdout
    (repository / "submissions" / "$(touch here).txt").write_text("::error::x")
    commit(repository)
    done = checked(repository)
    assert done.returncode == 1
    assert "is no archive; nsbench submit pack makes one" in done.stdout
    assert not (repository / "here").exists()


def test_what_strangers_wrote_is_no_command_of_the_workflow(repository: Path) -> None:
    submitted(repository, name="a\n::set-env name=X::y.zip")
    lines = checked(repository).stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("::stop-commands::"))
    end = lines.index(f"::{lines[start].removeprefix('::stop-commands::')}::")
    assert [place for place, line in enumerate(lines) if line.startswith("::") and not start <= place <= end] == []
    assert end - start > 1


def test_the_site_is_built_of_the_merged_archives(repository: Path) -> None:
    submitted(repository)
    for name in ("Merge the archives", "Build the site"):
        address = "https://owner.github.io/results/"
        done = run(repository, step("site", name), OPTIONS="", SITE_URL=address, SITE_TITLE="Ours")
        assert done.returncode == 0, done.stdout + done.stderr
    assert "1 board, 2 methods" in done.stdout
    assert (repository / "site" / "methods" / "madry.html").is_file()
    (page,) = (repository / "site" / "boards").glob("shapes10*.html")
    assert f"https://owner.github.io/results/boards/{page.name}<" in (repository / "site" / "sitemap.xml").read_text()
