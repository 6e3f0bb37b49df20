"""The README is executed: its examples are real files of a suite and a method, its commands exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsbench import registry
from nsbench.cli import main

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
EXAMPLES = {
    re.search(r"^def (\w+)\(", block, re.MULTILINE)[1]: block  # type: ignore[index]
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
}


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's suite and method, registered for one test."""
    registry.load_content()
    for registered in (registry.suites, registry.methods):
        monkeypatch.setattr(registered, "_items", dict(registered._items))
    for name, source in EXAMPLES.items():
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        assert name in registry.suites or name in registry.methods


def test_the_examples_run(examples: None, tmp_path: Path) -> None:
    assert set(EXAMPLES) == {"fgsm_strong", "uniform_noise"}
    result = CliRunner().invoke(
        main,
        [
            "run",
            "--method",
            "uniform_noise",
            "--suite",
            "fgsm_strong,clean",
            "--recipe",
            "quick",
            "--limit",
            "8",
            "--results",
            str(tmp_path / "results"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "2 done" in result.output


def test_every_command_of_the_readme_parses() -> None:
    groups = "run|report|list|show|data|check|baseline|nullspace|submit"
    commands = re.findall(rf"nsbench ((?:{groups})\b(?:[^\n&#`]|\\\n)*)", README)
    assert commands
    for command in commands:
        words = command.replace("\\\n", " ").replace("...", " ").split()
        group, names = main, []
        while words and hasattr(group, "commands") and words[0] in group.commands:
            group = group.commands[words[0]]
            names.append(words.pop(0))
        assert names, command
        known = {option for parameter in group.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, command


def test_pictures_of_the_readme_exist() -> None:
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (REPOSITORY / picture).is_file(), picture
