"""The site of README and docs: every page has a place, every public name an entry, and no link leads nowhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import DOCS, REPOSITORY

import nsbench as nb

CONFIG = (REPOSITORY / "mkdocs.yml").read_text()
HOOKS = (REPOSITORY / "docs" / "hooks.py").read_text()


def test_every_page_has_a_place_in_the_contents() -> None:
    listed = re.findall(r"([\w-]+\.md)$", CONFIG.partition("nav:")[2], re.MULTILINE)
    added = re.findall(r'"[\w/]+\.md": "([\w-]+\.md)"', HOOKS)
    assert sorted(listed) == sorted([*(page.name for page in DOCS), *added])


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(r"^::: nsbench\.(\S+)$", (REPOSITORY / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert set(nb.__all__) <= {name.rpartition(".")[2] for name in named}


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    mkdocs = shutil.which("mkdocs")
    if mkdocs is None:
        pytest.skip("mkdocs is not installed: pip install -r .ci/docs.txt in an environment of its own, on PATH")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first = (tmp_path / "site" / "index.html").read_text()
    assert "leaderboard.png" in first
    assert (tmp_path / "site" / "reports" / "showcase" / "shapes10" / "leaderboard.png").is_file()
    assert "Finetune a model with a method" in (tmp_path / "site" / "reference" / "index.html").read_text()
