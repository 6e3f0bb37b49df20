"""What can be known of a suite's images before the first batch is said before it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nsbench import registry
from nsbench.errors import DataError
from nsbench.run.runner import _rehearse


def splits(suite: str, change: str = "") -> list[SimpleNamespace]:
    """Of every condition the same four images; one condition has another name for one of them."""
    ids = np.array([f"n01440764/ILSVRC2012_val_{k:08}.JPEG" for k in range(4)])
    found = []
    for condition in registry.suites[suite].conditions():
        own = np.char.replace(ids, "00000002.JPEG", "00000002.png") if condition.name == change else ids
        found.append(SimpleNamespace(ids=own, labels=np.zeros(4, dtype=np.int64)))
    return found


@pytest.fixture(autouse=True)
def _content() -> None:
    registry.load_content()


def test_a_corruption_of_other_images_is_refused_and_an_image_named() -> None:
    with pytest.raises(
        DataError, match=r"impulse_noise/3 has others .* such as n01440764/ILSVRC2012_val_00000002\.(JPEG|png)"
    ):
        _rehearse(registry.suites["imagenet_c"], splits("imagenet_c", "impulse_noise/3"))


@pytest.mark.parametrize("suite", ["imagenet_c", "fgsm", "clean", "cw", "patchfool"])
def test_whole_sets_are_not(suite: str) -> None:
    _rehearse(registry.suites[suite], splits(suite))
