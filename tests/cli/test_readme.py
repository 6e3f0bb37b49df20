"""README and docs are executed: examples run as they stand, commands and settings exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from pages import (
    DOCS,
    PAGES,
    REPOSITORY,
    Block,
    all_options,
    blocks,
    command_of,
    console_lines,
    heading_ids,
    named,
    nsbench_commands,
    parsed,
    prose,
)

from nsbench import registry
from nsbench.cli import main
from nsbench.data.config import read_config
from nsbench.data.own_config import read_own_config
from nsbench.registry import resolve_methods, resolve_suites
from nsbench.report import resolve_formats
from nsbench.results.about import read_about
from nsbench.run.engines.slurm_settings import SlurmSettings
from nsbench.run.study import load_study
from nsbench.training.recipe import load_recipe

README = REPOSITORY / "README.md"
CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
SHOWCASE = REPOSITORY / "reports" / "showcase" / "shapes10" / "results"
EXAMPLES = {  # Python blocks that are files of content, by the name of their first function
    block.name: block for block in blocks("python") if "@nb." in block.code or "@attack" in block.code
}
FILES = ("fgsm_strong", "uniform_noise", "any_corner", "mean_error", "gaussian", "random_corner", "squares")
SCRIPTS = (README, REPOSITORY / "docs" / "python.md")  # whose other Python blocks are one script
ELSEWHERE = {"models.md": 2, "logs.md": 1, "CONTRIBUTING.md": 1}  # run by other tests; a fragment of a file
OWN_NAMES = {  # which the examples register, and a data config of docs/data.md
    "uniform_noise", "gaussian", "fgsm_strong", "corner", "weather", "objects", "cue_conflict", "shape_bias",
}  # fmt: skip
OTHER_PROGRAMS = ("python", "python3", "pip", "git", "hf", "eval", "pytest", "ruff", ".ci/run", ".venv/bin/pip")
NOT_NSBENCH = {
    "--no-deps",
    "--upgrade",
    "--index-url",
    "--resolution",
    "--head",
    "--address",
    "--rates",
    "--without-ray",
    "--only",
    "--epochs",
}  # options of other programs in sentences
READING = ("list", "show", "status", "report", "submit pack", "data get")  # commands that are run as they stand

every_page = pytest.mark.parametrize("page", PAGES, ids=named)


def python(folder: Path, *words: str) -> str:
    """What another process says that runs this in the folder."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- Python ----------------------------------------------------------------------------------------------------------


def test_every_python_block_is_run_somewhere() -> None:
    assert set(EXAMPLES) == set(FILES)
    others = [block for block in blocks("python") if block.name not in EXAMPLES and block.page not in SCRIPTS]
    assert {name: [block.page.name for block in others].count(name) for name in ELSEWHERE} == ELSEWHERE
    assert len(others) == sum(ELSEWHERE.values())
    for block in others:
        compile(block.code, block.page.name, "exec")


def test_suites_methods_and_attacks_run_as_they_stand(tmp_path: Path) -> None:
    for name, block in EXAMPLES.items():
        (tmp_path / f"{name}.py").write_text(block.code)
    include = [word for name in FILES for word in ("--include", f"{name}.py")]
    said = python(
        tmp_path, "-m", "nsbench", "run", *include, "--method", "uniform_noise,gaussian",
        "--suite", "clean,fgsm_strong,corner,weather,squares", "--recipe", "quick", "--set", "rounds=1", "--limit", "8",
    )  # fmt: skip
    assert "10 done, 0 held already, 0 missing, 0 failed" in said


@pytest.mark.parametrize("page", SCRIPTS, ids=named)
def test_the_api_runs_as_it_is_shown(page: Path, tmp_path: Path) -> None:
    code = "\n".join(block.code for block in blocks("python", page) if block.name not in EXAMPLES)
    (tmp_path / "script.py").write_text(code)
    said = python(tmp_path, "script.py")
    assert "Clean" in said
    assert len(code.strip().splitlines()) <= 6 or page != README


# --- commands --------------------------------------------------------------------------------------------------------


@every_page
def test_every_command_is_one(page: Path) -> None:
    for line in console_lines(page):
        commands = nsbench_commands(line)
        for words in commands:
            check_command(words)
        first = line.split()[0]
        assert commands or first in OTHER_PROGRAMS or "=" in first, f"{line}: of which program?"
        if first == "python":
            check_script(line.split()[1:])


def check_command(words: list[str]) -> None:
    """Its options, values and names exist. Nothing is run."""
    given = parsed(words)
    registry.load_content()
    if command_of(words)[2] in ("run", "check", "baseline record", "export weights"):
        for keys, resolve in ((("methods", "method"), resolve_methods), (("suites",), resolve_suites)):
            names = [str(given[key]) for key in keys if given.get(key)]
            known = [name for name in ",".join(names).split(",") if name and name not in OWN_NAMES]
            assert not known or resolve(",".join(known))
    if given.get("recipe") or given.get("settings"):
        pairs = given.get("settings", ())
        assert isinstance(pairs, list | tuple)
        load_recipe(str(given.get("recipe", "shapes10")), dict(pair.split("=") for pair in pairs))
    if study := given.get("study"):
        assert str(study).endswith(".toml") or load_study(str(study))
    if formats := given.get("formats"):
        resolve_formats(str(formats))


def check_script(words: list[str]) -> None:
    """`python tests/benchmarks/x.py --option`: the file is there and knows the option."""
    if words[0] == "-m":
        return
    code = (REPOSITORY / words[0]).read_text()
    assert all(f'"{word}"' in code for word in words if word.startswith("--")), words


@every_page
def test_commands_and_options_in_sentences_exist(page: Path) -> None:
    text = " ".join(prose(page).split())
    for command in re.findall(r"`nsbench ([a-z][^`]*)`", text):
        words = command.replace("...", " ").split()
        group, rest, _ = command_of(words)
        known = {option for parameter in group.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known | {"--help"}, command
    mentioned = {
        found for code in re.findall(r"`([^`]+)`", text) for found in re.findall(r"(?<!\S)--[a-z][\w-]*", code)
    }
    assert mentioned <= all_options() | NOT_NSBENCH, mentioned - all_options()


@every_page
def test_nothing_is_installed_that_is_not_released(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"pip install (-\S+ )*nsbench\b", text)
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"(?:-e '?\.|nsbench)\[(\w+)\]", text)) <= set(extras)


@pytest.fixture
def with_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who has run every method."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "results").symlink_to(SHOWCASE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reading_commands() -> list[str]:
    lines = [line for page in (README, *DOCS) for line in console_lines(page)]
    found = dict.fromkeys(" ".join(words) for line in lines for words in nsbench_commands(line))
    return [line for line in found if line.startswith(READING) and not set(line.split()) & {"--method", "sets"}]


@pytest.mark.parametrize("command", reading_commands())
def test_commands_that_only_read_run_as_they_stand(command: str, with_results: Path) -> None:
    done = CliRunner().invoke(main, command.split())
    assert done.exit_code == 0, done.output


# --- settings, links, size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.page.name)
def test_every_config_file_is_read(block: Block, tmp_path: Path) -> None:
    content = tomllib.loads(block.code)
    path = tmp_path / "file.toml"
    path.write_text(block.code.replace('"/', f'"{tmp_path}/').replace('"~/', f'"{tmp_path}/'))
    if "methods" in content:
        study = load_study(str(path))
        assert resolve_methods(",".join(study.methods))
        assert [load_recipe("shapes10", setting) for setting in study.texts()]
    elif "slurm" in content.get("tool", {}).get("nsbench", {}):
        assert SlurmSettings(**content["tool"]["nsbench"]["slurm"]).filled(1).describe()
    elif "tool" in content:
        assert isinstance(content["tool"]["nsbench"]["include"], list)
    elif "project" in content:
        assert set(content["project"]["entry-points"]) <= {
            f"nsbench.{kind}" for kind in ("suites", "methods", "attacks")
        }
    elif "authors" in content:
        assert read_about(path).title
    else:
        put_sets(content, tmp_path)
        assert read_own_config(path) or read_config(path)


def put_sets(content: dict[str, object], folder: Path) -> None:
    """Something where the config file says that a set lies."""
    for value in content.values():
        if isinstance(value, str) and "*" in value:
            (folder / value.lstrip("/")).parent.mkdir(parents=True)
            (folder / value.lstrip("/").replace("*", "0")).touch()
    for name in ("val/n01440764", "train/n01440764"):
        (folder / str(content.get("root", "")).lstrip("/") / name).mkdir(parents=True)
    classes = REPOSITORY / "examples" / "sixteen_classes.json"
    (folder / classes.name).write_bytes(classes.read_bytes())


def test_every_ci_snippet_is_yaml_and_its_commands_exist() -> None:
    for block in blocks("yaml"):
        assert yaml.safe_load(block.code)
        for line in re.findall(r"nsbench check [^\n}\]]+", block.code):
            check_command(line.split()[1:])


@pytest.mark.parametrize("page", [*PAGES, *(REPOSITORY / "examples").glob("*.ipynb")], ids=named)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{named(page)}: {target}"
        assert not anchor or anchor in heading_ids(path), f"{named(page)}: {target}"


def test_the_readme_is_short_and_in_order() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 140
    assert [line[3:] for line in lines if line.startswith("## ")] == [
        "Two commands", "Five lines of Python", "Read the table", "Your own", "Share results", "In CI",
        "Where to read on", "Corrections", "Cite", "Licence",
    ]  # fmt: skip
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README.read_text()))
    assert linked == {page.name for page in DOCS} - {"reference.md"}, "every page of docs is named"


def test_corrections_have_a_line_and_a_paragraph_each() -> None:
    pages = (README, REPOSITORY / "docs" / "corrections.md")
    dates = [re.findall(r"^- (\d{4}-\d\d-\d\d): ", page.read_text(), re.MULTILINE) for page in pages]
    assert dates[0] == dates[1]
    assert len(dates[0]) > 3
