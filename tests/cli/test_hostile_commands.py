"""Commands that are given broken files: each ends with a line and its own exit status, never as an unexpected error."""

from __future__ import annotations

import os
from pathlib import Path

import made
import pytest
from click.testing import CliRunner
from hostile_results import attacked, other_member, submission
from mutations import BYTES, replace

from nsbench.cli import main
from nsbench.statistics import accuracy

NESTED = b"[" * 100_000
KINDS = {
    "empty": b"",
    "zeros": bytes(500),
    "nested": NESTED,
    "text": b"\xff\xfe\x00 not this \x1b[2J",
    "object": b'{"schema": 2, "score": {"value": "high"}}',
}

COMMANDS = {  # FILE is the broken one, GOOD a folder of results
    "check": "check --baseline FILE --results GOOD",
    "submit check": "submit check FILE --results GOOD",
    "submit merge": "submit merge FILE --results GOOD",
    "study": "run --study FILE.toml --dry-run",
    "config": "run --method pretrained --suite clean --data FILE.toml --results OUT",
    "data check": "data check FILE.toml",
    "checkpoint": "run --method pretrained --suite clean --checkpoint FILE.pth --results OUT --limit 2",
    "safetensors": "run --method pretrained --suite clean --checkpoint FILE.safetensors --results OUT --limit 2",
    "npz": "run --method pretrained --suite clean --checkpoint FILE.npz --results OUT --limit 2",
    "surrogate": "run --method pretrained --suite transfer --surrogate vit_shapes10:FILE.pth --results OUT --limit 2",
    "watermark": "nullspace watermark FILE.png --mark FILE.png --out OUT",
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    outcomes = attacked()
    made.stored(tmp_path / "good", outcomes, score=accuracy(outcomes))
    return tmp_path / "good"


def ended(folder: Path, command: str, file: Path) -> int:
    """The exit status; the output must be lines that no terminal obeys."""
    words = [word.replace("FILE", str(file)).replace("GOOD", str(folder / "good")) for word in command.split()]
    done = CliRunner().invoke(main, [word.replace("OUT", str(folder / "out")) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "\x1b" not in done.output
    assert "Traceback" not in done.output
    return done.exit_code


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_broken_file_is_named(tmp_path: Path, good: Path, name: str, kind: str) -> None:
    command = COMMANDS[name]
    suffix = next(
        (
            Path(word).suffix
            for word in command.split()
            if word.partition(":")[2].startswith("FILE") or word.startswith("FILE")
        ),
        "",
    )
    (tmp_path / f"broken{suffix}").write_bytes(KINDS[kind])
    assert ended(tmp_path, command, tmp_path / "broken") in (1, 2, 3)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_pipe_is_not_waited_for(tmp_path: Path, good: Path, name: str) -> None:
    command = COMMANDS[name]
    for suffix in ("", ".toml", ".pth", ".safetensors", ".npz", ".png"):
        os.mkfifo(tmp_path / f"broken{suffix}")
    assert ended(tmp_path, command, tmp_path / "broken") in (1, 2, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "command", ["show --results GOOD", "report --results GOOD --out OUT", "submit pack --results GOOD --out OUT.zip"]
)
def test_a_broken_file_among_results_stops_nobody(tmp_path: Path, good: Path, command: str, kind: str) -> None:
    (good / "broken.json").write_bytes(KINDS[kind])
    os.mkfifo(good / "pipe.json")
    (good / "loop.json").symlink_to("loop.json")
    assert ended(tmp_path, command, good) in (0, 1)


@pytest.mark.parametrize("number", range(8))
def test_a_submission_that_a_stranger_changed(tmp_path: Path, good: Path, number: int) -> None:
    import numpy as np

    path, draws = submission(tmp_path), np.random.default_rng(number)
    change = (other_member, *BYTES, replace)[number]
    path.write_bytes(change(path.read_bytes(), draws))
    for command in ("submit check FILE --results GOOD", "submit merge FILE --results GOOD"):
        assert ended(tmp_path, command, path) in (0, 1, 2)


@pytest.mark.parametrize(
    "words",
    [
        "run --method pretrained --suite clean --set randaugment=rand-m9-inc1-mstd-5 --results OUT",
        "run --method pretrained --suite clean --device meta --results OUT",
        "run --method pretrained --suite clean --data ~nobody-has-this-name/x --results OUT",
        f"run --method pretrained --suite clean --data {'a' * 5000} --results OUT",
        f"run --method pretrained --suite clean --checkpoint {'a' * 5000}.pth --results OUT",
        "run --method pretrained --suite transfer --surrogate x:~nobody-has-this-name/y --results OUT",
        f"run --study {'a' * 5000}.toml",
        f"data check {'a' * 5000}",
        f"check --baseline {'a' * 5000} --results GOOD",
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, good: Path, words: str) -> None:
    assert ended(tmp_path, words, tmp_path / "broken") in (1, 2, 3)
