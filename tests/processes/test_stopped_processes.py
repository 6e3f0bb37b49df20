"""Processes of torchrun that are stopped in the middle of a training go on from the round that they kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nsbench.files import cache_folder
from nsbench.shapes10 import Shapes10

REPOSITORY = Path(__file__).parents[2]
ASKED = ["--method", "ns", "--suite", "clean", "--recipe", "quick", "--set", "rounds=5", "--limit", "50"]
RUN = ["run", *ASKED, "--results", "results"]


def started(folder: Path, count: int) -> subprocess.Popen[str]:
    """The run in so many processes, with a cache of its own in which the images are drawn already."""
    images = folder / "cache" / "shapes10"
    if not images.is_dir():
        for name in ("train", "clean"):
            Shapes10().split(name)
        shutil.copytree(cache_folder() / "shapes10", images)
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    environ = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "NSBENCH_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, *several, "-m", "nsbench", *RUN],
        cwd=folder,
        env={**os.environ, **environ},
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(folder: Path, count: int) -> str:
    """What the run printed."""
    printed, _ = started(folder, count).communicate(timeout=400)
    return printed


def stopped_after_two_rounds(folder: Path) -> str:
    """What two processes print that get SIGTERM, as from a scheduler, once two rounds are kept."""
    folder.mkdir()
    process = started(folder, 2)
    assert process.stdout is not None
    printed, end = "", time.monotonic() + 400
    while "round 2" not in printed and time.monotonic() < end:
        printed += process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    return printed + process.communicate(timeout=60)[0]


def weights(folder: Path) -> str:
    """Digest of the weights that the result is of."""
    (path,) = (folder / "results").rglob("clean*.json")
    digest: str = json.loads(path.read_text())["provenance"]["weights_digest"]
    return digest


def fitted(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "cache").rglob("*.safetensors")
    return load_file(path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stopped_processes_go_on_from_the_last_round_in_as_many_or_in_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    finished(tmp_path / "whole", 2)
    said = stopped_after_two_rounds(tmp_path / "stopped")
    assert said.count("nsbench: terminated; the finished rounds of ns are kept; 0 of 1 pairs are stored") == 1, said
    assert not list((tmp_path / "stopped" / "results").rglob("clean*.json"))
    shutil.copytree(tmp_path / "stopped", tmp_path / "alone")
    again = finished(tmp_path / "stopped", 2)
    assert "goes on after round" in again, again
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")  # to the bit, in as many processes
    alone = finished(tmp_path / "alone", 1)
    assert "goes on after round" in alone, alone
    two, one = (fitted(tmp_path / name) for name in ("whole", "alone"))
    apart = torch.cat([(one[name] - value).abs().flatten() for name, value in two.items()])
    # Sums in another order. AdamW makes steps of the keys' biases, whose gradient is rounding alone (it is 0): 1.2e-5.
    assert apart.max() < 1e-4
    assert apart.mean() < 1e-7
