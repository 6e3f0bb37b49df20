"""shapes10 with few images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nsbench.shapes10 import Shapes10, make, splits

FEW = 60  # images per split in these tests


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shapes10]:
    """shapes10 with few images per split and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, drawn in splits.DRAWN.items():
            patch.setitem(splits.DRAWN, name, replace(drawn, count=FEW))
        patch.setattr(make, "HARD", 18)
        patch.setattr(make, "MOST", 3)
        patch.setattr(make, "CORRUPTED", 4)
        make._recipe_digest.cache_clear()
        yield Shapes10()
    make._recipe_digest.cache_clear()
