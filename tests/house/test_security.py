"""SECURITY.md: each promise names a test that is there, the bounds are the code's, and some promises are held here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from nsbench.data.decode import ELONGATED
from nsbench.data.stored import MAX_BYTES
from nsbench.results import npz, parquet
from nsbench.submission import Limits

REPOSITORY = Path(__file__).parents[2]
PROMISED = (REPOSITORY / "SECURITY.md").read_text().partition("## What is promised")[2].partition("## What is not")[0]


def test_every_promise_names_a_test_that_is_there() -> None:
    promises = re.split(r"\n(?=- |\*\*)", PROMISED)
    bullets = [one for one in promises if one.startswith("- ")]
    assert len(bullets) > 15
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named or not promise.startswith("- "), promise
        for path, test in named:
            assert f"def {test}(" in (REPOSITORY / path).read_text(), f"{path}::{test}"


def test_the_bounds_are_those_of_the_code() -> None:
    limits, mib = Limits(), 1 << 20
    said = " ".join(PROMISED.split())
    assert (
        f"at most {limits.archive // (1 << 30)} GiB and {limits.files:,} files, {limits.json // mib} MiB for a result, "
        f"{limits.outcomes // mib} MiB for its outcomes and {limits.unpacked // (1 << 30)} GiB for what these unpack to"
    ) in said
    assert limits.unpacked == parquet.LARGEST == npz.LARGEST
    assert f"A member of more than {MAX_BYTES // mib} MiB is not read" in said
    assert Image.MAX_IMAGE_PIXELS is not None
    assert f"Pillow's limit ({Image.MAX_IMAGE_PIXELS / 1e6:.0f} million), or more than {ELONGATED} times" in said


def test_commands_reach_for_no_network(tmp_path: Path) -> None:
    """Every connection and every look-up of a name raises; a run, a report and a check go through."""
    code = (
        "import socket, sys\n"
        "def refused(*arguments, **options): print('REACHED', arguments); raise OSError('no network')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refused\n"
        "from nsbench.cli import main\n"
        "def nsbench(words):\n"
        "    try: main(words.split(), standalone_mode=True)\n"
        "    except SystemExit as done: assert not done.code, (words, done.code)\n"
        f"nsbench('run --method pretrained --suite clean,fgsm --limit 4 --results {tmp_path}/r')\n"
        f"nsbench('report --results {tmp_path}/r --out {tmp_path}/out --format html,md,csv,json --beside none')\n"
        f"nsbench('show --results {tmp_path}/r --beside none')\n"
        f"nsbench('submit pack --results {tmp_path}/r --out {tmp_path}/s.zip')\n"
        f"nsbench('list models')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "REACHED" not in done.stdout


def test_actions_are_pinned_and_no_secret_is_used() -> None:
    folders = (REPOSITORY / ".github", REPOSITORY / "examples" / "results-repository" / ".github")
    files = sorted(path for folder in folders for path in folder.rglob("*.yml"))
    assert len(files) >= 4
    for path in files:
        text = path.read_text()
        for used in re.findall(r"^\s*(?:- )?uses:\s*(\S+)", text, re.MULTILINE):
            assert used.startswith("./") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", used), f"{path}: {used}"
        assert "secrets." not in text.replace("secrets.GITHUB_TOKEN", ""), path
