"""`nsbench run` on a GPU has the outcomes of the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_main_job import nsbench

from nsbench.results import Result, read_outcomes, read_results

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]

SUITES = "clean,fgsm,imagenet_a"


def test_outcomes_are_those_of_the_cpu(tmp_path: Path) -> None:
    """At most one image of twelve may differ by rounding, in any condition."""
    runs: list[dict[str, Result]] = []
    for device in ("cpu", "cuda"):
        told = ("--suite", SUITES, "--limit", 12, "--device", device, "--results", tmp_path / device)
        run = nsbench("run", "--method", "pretrained", *told)
        assert run.exit_code == 0, run.output
        found, problems = read_results(tmp_path / device)
        assert not problems
        runs.append({one.suite: one for one in found})
    here, there = runs
    assert list(here) == list(there)
    for suite, result in here.items():
        assert there[suite].provenance.device != result.provenance.device
        expected, outcomes = read_outcomes(result), read_outcomes(there[suite])
        for condition, one in expected.items():
            assert (one.predictions != outcomes[condition].predictions).sum() <= 1, (suite, condition)
            assert abs(one.label_probability - outcomes[condition].label_probability).max() < 0.02, (suite, condition)
