"""ruff and mypy are part of the tests, so that one command tells everything."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["ruff", "format", "mypy"],
)
def test_clean(command: list[str]) -> None:
    pytest.importorskip(command[0])
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_committed_results_name_no_place_of_the_machine_that_made_them() -> None:
    """A reader can repeat their commands in a checkout."""
    found = [
        f"{path}: {option}"
        for path in sorted((REPOSITORY / "reports" / "showcase").rglob("*.json"))
        for option in shlex.split(json.loads(path.read_text()).get("provenance", {}).get("command", ""))
        if option.rpartition("=")[2].startswith("/")
    ]
    assert not found
