import pytest
from submissions import store

from nsbench.submission import pack


@pytest.fixture
def packed(tmp_path):
    """Two results of one method, packed."""
    store(tmp_path / "results")
    store(tmp_path / "results", "clean")
    return pack(tmp_path / "results", tmp_path / "ns.zip")
