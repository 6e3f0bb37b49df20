"""SIGINT and SIGTERM: one line that says what is kept, the exit status of the signal, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsbench.data import wnids
from nsbench.results import read_results

SIGNALS = [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
RUN = ("--method", "pretrained", "--suite", "clean,cw", "--limit", "500")  # CW is long enough to be interrupted
GOES_ON = "what was finished is kept, and the same command goes on from there"


def stopped(number: int, when: Callable[[], bool], *command: object, **environment: str) -> tuple[int, str, float]:
    """Exit status, the last line and the seconds it took to end, of a command that gets a signal at some moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nsbench", *map(str, command)],
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=partial(
            signal.signal, signal.SIGINT, signal.SIG_DFL
        ),  # ignored by what a shell put into the background
    )
    deadline = time.monotonic() + 120
    while not when():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.02)
    time.sleep(0.2)  # on a busy machine a file is there some time before the command knows it
    sent = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output.splitlines()[-1], time.monotonic() - sent


@pytest.mark.parametrize(("number", "word", "status"), SIGNALS)
def test_a_run_keeps_what_was_finished(tmp_path: Path, number: int, word: str, status: int) -> None:
    results = tmp_path / "results"
    status_, line, _ = stopped(
        number, lambda: bool(list(results.rglob("clean.seed0.json"))), "run", *RUN, "--results", results
    )
    assert (status_, line) == (status, f"nsbench: {word}; 1 of 2 pairs are stored in {results}; {GOES_ON}")
    assert [one.suite for one in read_results(results)[0]] == ["clean"]
    assert not list(results.rglob("*.draft"))


@pytest.mark.parametrize(("number", "word", "status"), SIGNALS)
def test_a_baseline_keeps_nothing_and_says_so(tmp_path: Path, number: int, word: str, status: int) -> None:
    status_, line, _ = stopped(
        number,
        lambda: bool(list(tmp_path.rglob("clean.seed0.json"))),
        *("baseline", "record", *RUN, "--out", tmp_path / "baseline.json"),
        TMPDIR=str(tmp_path),
    )
    said = "nothing is kept, since it is measured as a whole; the same command starts anew"
    assert (status_, line) == (status, f"nsbench: {word}; {said}")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("nsbench-", "baseline"))]


@pytest.mark.parametrize(("number", "word", "status"), SIGNALS)
def test_making_a_set_ends_within_seconds(tmp_path: Path, number: int, word: str, status: int) -> None:
    """Worker processes are in the middle of pieces of 150 files."""
    folder = tmp_path / "data" / "val" / wnids.wnids()[0]
    folder.mkdir(parents=True)
    for k in range(300):
        pixels = np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"ILSVRC2012_val_{k:08d}.JPEG")
    out = tmp_path / "out"
    options = ("--corruptions", "glass_blur", "--severities", "5", "--workers", "2")
    status_, line, seconds = stopped(
        number,
        lambda: bool(list(out.rglob("*.JPEG"))),
        *("data", "make", "imagenet-c", "--data", tmp_path / "data", "--out", out, *options),
    )
    assert (status_, line) == (status, f"nsbench: {word}; {GOES_ON}")
    assert seconds < 8
    before = len(list(out.rglob("*.JPEG")))
    assert before < 300
    for path in out.rglob("*.JPEG"):
        Image.open(path).load()
    time.sleep(1)
    assert len(list(out.rglob("*.JPEG"))) == before, "no process goes on"
