"""Fixtures of the tests of baselines."""

from __future__ import annotations

from pathlib import Path

import pytest
from regression_results import flags, store

from nsbench.results import Result


@pytest.fixture
def before(tmp_path: Path) -> Result:
    """A stored result: 80 of 100 images are right."""
    return store(tmp_path / "before", {"clean": flags(100, 80)})
