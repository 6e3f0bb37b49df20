"""Where a figure comes from."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nsbench.provenance import peak_memory_mib


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_peak_memory_is_in_mib_and_never_falls() -> None:
    before = peak_memory_mib("cpu")
    held = np.ones(32 << 20)  # 256 MiB
    after = peak_memory_mib("cpu")
    assert before is not None
    assert after is not None
    assert 20 < before <= after < 1 << 20
    assert after >= held.nbytes >> 20


def test_peak_memory_is_not_stated_where_the_platform_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it raises ImportError
    assert peak_memory_mib("cpu") is None
