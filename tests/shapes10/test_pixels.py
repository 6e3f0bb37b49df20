"""The pixels of every version of shapes10: a change that moves one is a new version, with a new row here."""

from __future__ import annotations

import numpy as np
import pytest

from nsbench.data.source import digest_of
from nsbench.shapes10 import Shapes10, make

PINS = {  # version -> digest of each split, and of each corruption's five severities, with the few images of `source`
    1: {
        "train": "eeb03583876608bb",
        "clean": "32bba9ec4709a5c0",
        "v2": "e14227de755e4bb3",
        "a": "c7f4fbee1deed327",
        "r": "ff5cbdb631f3f7f2",
        "sketch": "03d20e2e712cc40e",
        "stylized": "c1f8b8f44f50fe08",
        "damagenet": "0caafe3565db0bf9",
        "gaussian_noise": "d22586eb48f8687c",
        "shot_noise": "4151f6b0bf170c00",
        "impulse_noise": "076713b6ed572be1",
        "defocus_blur": "7c752e2a12696fe4",
        "glass_blur": "91f03ca4d18ac627",
        "zoom_blur": "ccff71e512beffbd",
        "snow": "2c7ba331ef5cf4b6",
        "fog": "9aeb1543d9c660c4",
        "brightness": "bd229452e09c3db9",
        "contrast": "959dac9345b6e05a",
        "elastic_transform": "923d842aa2ec8d52",
        "pixelate": "5c3bdff8371ebf79",
        "jpeg_compression": "4c765b23dcb1df4d",
    },
}
MEANS = {  # version -> mean grey level of the corruptions whose digests differ from processor to processor
    1: {"motion_blur": 152.158, "frost": 209.697},
}


@pytest.mark.parametrize("split", make.PLAIN_SPLITS)
def test_pixels_move_only_with_the_version(source: Shapes10, split: str) -> None:
    assert source.split(split).digest == PINS[make.VERSION][split]


@pytest.mark.parametrize("corruption", make.corruption_names())
def test_corrupted_pixels_move_only_with_the_version(source: Shapes10, corruption: str) -> None:
    found = [source.split(f"c/{corruption}/{severity}") for severity in range(1, 6)]
    if corruption in MEANS[make.VERSION]:
        mean = np.mean([split.images for split in found])
        assert mean == pytest.approx(MEANS[make.VERSION][corruption], abs=0.02)
    else:
        assert digest_of(*(split.digest for split in found)) == PINS[make.VERSION][corruption]


def test_a_new_version_weight_or_parameter_is_another_file(source: Shapes10, monkeypatch: pytest.MonkeyPatch) -> None:
    def name_of(split: str) -> str:
        make._recipe_digest.cache_clear()
        return make.path_of(split).name

    before = {split: name_of(split) for split in ("clean", "a", "c/fog/3")}
    with monkeypatch.context() as patch:
        patch.setattr(make, "VERSION", make.VERSION + 1)
        assert not {name_of(split) for split in before} & set(before.values())
    with monkeypatch.context() as patch:
        patch.setitem(make.NETWORKS, "a", "surrogate")
        assert (name_of("a") == before["a"], name_of("clean") == before["clean"]) == (False, True)
    with monkeypatch.context() as patch:
        patch.setattr("nsbench.corruptions.engine_version", lambda name: "another engine")
        assert (name_of("c/fog/3") == before["c/fog/3"], name_of("a") == before["a"]) == (False, True)
    assert {split: name_of(split) for split in before} == before
