"""The tests of a GPU, where there is none: see `pretend_gpu` for what they find there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from junitparser import JUnitXml

TESTS = Path(__file__).parents[1]
PRETENDING = os.environ | {"PYTHONPATH": str(TESTS / "support"), "OMP_NUM_THREADS": "1"}

MIXTURES = """
import numpy, torch, pretend_gpu
there, here = torch.ones(3, device="cuda"), torch.ones(3)
assert there.is_cuda and str(there.device) == "cuda:0" and there.cpu().tolist() == there.tolist() == here.tolist()
layer = torch.nn.Linear(3, 2).to("cuda")
assert layer(there).is_cuda and layer.weight.is_cuda and (there + torch.tensor(1.0))[torch.tensor([0])].item() == 2
assert torch.arange(3).to("cuda")[[2, 0]].tolist() == [2, 0]
for mixture in (
    lambda: there + here,
    lambda: layer(here),
    lambda: here[there.long()],
    lambda: torch.cat([there, here]),
    lambda: there.index_put_((torch.tensor([0]),), torch.ones(1)),
    lambda: there.numpy(),
    lambda: numpy.asarray(there),
):
    try:
        mixture()
    except (RuntimeError, TypeError) as error:
        assert "cuda:0" in str(error), error
    else:
        raise AssertionError("a mixture passed")
"""


def test_the_pretended_gpu_refuses_what_a_real_one_refuses() -> None:
    subprocess.run([sys.executable, "-c", MIXTURES], env=PRETENDING, check=True)


@pytest.mark.timeout(900)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: run them on it, with -m gpu")
def test_nothing_mixes_the_memories(tmp_path: Path) -> None:
    marked = sorted(str(path) for path in TESTS.rglob("test_*.py") if "pytest.mark." + "gpu" in path.read_text())
    told = tmp_path / "told.xml"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "gpu", "-p", "pretend_gpu", f"--junitxml={told}"]
    run = subprocess.run([*command, *marked], env=PRETENDING, cwd=TESTS.parent, capture_output=True, text=True)
    found = JUnitXml.fromfile(str(told))
    assert (run.returncode, found.failures, found.errors, found.skipped) == (0, 0, 0, 0), run.stdout[-4000:]
    assert found.tests > 50
