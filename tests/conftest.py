"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each of several test processes
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real images and weights, which are not part of the repository."""
    folder = Path(os.environ.get("NSBENCH_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real images and weights at {folder}; set NSBENCH_SHARED_DATA")
    return folder


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach for a hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that nobody else writes to."""
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def pictures() -> dict[str, bytes]:
    """What the tests of readers put into each container."""
    from containers import some_pictures

    return some_pictures()
