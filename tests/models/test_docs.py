"""docs/models.md is true: its commands exist, its own code runs as it is shown there, and so does its export."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsbench.cli import main

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "models.md").read_text()


@pytest.mark.parametrize("name", ["models.md", "names.md"])
def test_every_command_parses(name: str) -> None:
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    commands = [one for block in blocks for one in re.findall(r"^\$ nsbench ((?:[^\n#]|\\\n)*)", block, re.MULTILINE)]
    assert len(commands) > 3
    for command in commands:
        words = command.replace("\\\n", " ").split()
        group, names = main, []
        while words and hasattr(group, "commands") and words[0] in group.commands:
            group = group.commands[words[0]]
            names.append(words.pop(0))
        assert names, command
        known = {option for parameter in group.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, command


def test_own_code_and_export_run_as_they_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = next(block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "models.py" in block)
    Path("models.py").write_text(code)
    quick = ["--recipe", "quick", "--set", "rounds=1", "--limit", "6"]
    shown = re.search(r"\$ nsbench (run .*--model \./models\.py:build.*)", TEXT)
    assert shown
    done = CliRunner().invoke(main, [*shown[1].split(), *quick])
    assert done.exit_code == 0, done.output
    shown = re.search(r"\$ nsbench (export weights .*)", TEXT)
    assert shown
    done = CliRunner().invoke(main, [*shown[1].split(), *quick[:-2]])
    assert done.exit_code == 0, done.output
    shown = re.search(r"\$ nsbench (run .*--model local-dir:.*)", TEXT)
    assert shown
    done = CliRunner().invoke(main, [*shown[1].replace("all", "clean").split(), "--limit", "6"])
    assert done.exit_code == 0, done.output
