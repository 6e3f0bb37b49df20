"""The fifteen corruptions: they run on today's libraries, and depend on (seed, name, severity, image id) alone."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from corruption_streams import OriginalDraws
from PIL import Image

from nsbench.corruptions import (
    CORRUPTIONS,
    EXTRA_CORRUPTIONS,
    SEVERITIES,
    corrupt,
    engine_version,
    exact,
    reference,
)
from nsbench.corruptions.glass import glass_blur
from nsbench.corruptions.settings import IMAGENET
from nsbench.errors import DataError, UnknownName, UsageError

RANDOM = {
    "gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog",
    "elastic_transform",
}  # fmt: skip


def picture(size: int, seed: int = 0) -> np.ndarray:
    """(size, size, 3) uint8 with structure at several scales, as photographs have."""
    random = np.random.default_rng(seed)
    layers = [random.uniform(0, 255, (cells, cells, 3)).astype(np.uint8) for cells in (2, 5, 12, 30)]
    resized = [np.asarray(Image.fromarray(layer).resize((size, size), Image.Resampling.BICUBIC)) for layer in layers]
    return np.mean(resized, axis=0).astype(np.uint8)


def rms(changed: np.ndarray, image: np.ndarray) -> float:
    return float(np.sqrt(np.mean((changed.astype(float) - image) ** 2)))


@pytest.mark.parametrize("size", [32, 48, 224])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_runs_and_is_deterministic(name: str, size: int) -> None:
    image = picture(size)
    before = image.copy()
    first = corrupt(image, name, 3, seed=0, image_id="x")
    np.random.seed(1)
    corrupt(picture(size, seed=9), name, 5, seed=4, image_id="between")
    again = corrupt(image, name, 3, seed=0, image_id="x")
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert np.array_equal(image, before), "the input was changed in place"
    assert not np.array_equal(first, image)


def test_not_square() -> None:
    image = picture(96)[:64]
    for name in CORRUPTIONS:
        assert corrupt(image, name, 2, seed=0, image_id="x").shape == (64, 96, 3), name


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_seed_and_id_matter_where_there_is_chance(name: str) -> None:
    image = picture(48)
    results = [corrupt(image, name, 3, seed=s, image_id=i) for s, i in ((0, "x"), (1, "x"), (0, "y"))]
    differ = [not np.array_equal(results[0], other) for other in results[1:]]
    assert differ == [name in RANDOM] * 2


def test_global_random_state_is_neither_read_nor_moved() -> None:
    image = picture(48)
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    for name in CORRUPTIONS:
        corrupt(image, name, 3, seed=0, image_id="x")
    _, keys, position, *_ = np.random.get_state()
    assert np.array_equal(keys, before)
    assert position == np.random.RandomState(7).get_state()[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_distorts_more(name: str) -> None:
    images = [picture(64, seed) for seed in range(8)]
    mild, strong = (
        np.mean([rms(corrupt(image, name, s, seed=0, image_id=str(k)), image) for k, image in enumerate(images)])
        for s in (1, 5)
    )
    assert strong > mild > 0


@pytest.mark.parametrize("size", [48, 100])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_equals_the_loop_of_the_original(size: int, severity: int) -> None:
    image = picture(size)[: size - 8]  # not square, so that rows and columns cannot be confused
    reference.seed_draws(11)
    original = reference.module().glass_blur(Image.fromarray(image), severity)
    setting = IMAGENET["glass_blur"][severity - 1]
    assert np.array_equal(glass_blur(image, setting, OriginalDraws(11).integers), np.uint8(original))


@pytest.mark.parametrize("size", [(48, 48), (71, 36), (131, 200)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS + EXTRA_CORRUPTIONS if name != "glass_blur"])
def test_what_is_faster_than_the_original_makes_the_same_bytes(name: str, size: tuple[int, int]) -> None:
    for seed, severity in enumerate(SEVERITIES):
        image = picture(200, seed)[: size[0], : size[1]]
        reference.seed_draws(seed)
        original = np.uint8(getattr(reference.module(), name)(Image.fromarray(image), severity))
        assert np.array_equal(reference.corrupt(image, name, severity, seed), original), severity


@pytest.mark.parametrize("factor", [1.0, 1.2, 1.21, 1.07, 3, 4.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zooming_is_scipys_with_its_black_edges(factor: float, dtype: type[np.floating[Any]]) -> None:
    """At 36, 71 and 78 pixels one of these factors puts the last place beyond the image by a rounding error."""
    black = 0
    for height, width in ((48, 36), (71, 50), (33, 78)):
        image = 0.1 + np.random.default_rng(height).random((height, width, 3)).astype(dtype)
        expected = reference.module().clipped_zoom(image, factor)
        zoomed = exact.clipped_zoom(image, factor)
        assert zoomed.dtype == expected.dtype
        assert np.array_equal(zoomed, expected)
        black += int((expected == 0).sum())
    assert (black > 0) == (factor in (1.2, 1.21))


def test_hues_are_scikit_images_to_the_last_bit() -> None:
    from skimage.color import hsv2rgb, rgb2hsv

    levels = np.array([0, 1, 7, 127, 128, 254, 255]) / 255.0
    every_triple = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(7, 49, 3)
    for image in (every_triple, picture(60) / 255.0):
        hsv = rgb2hsv(image)
        assert np.array_equal(exact.rgb2hsv(image), hsv)
        for added in (0.0, 0.3):
            hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
            assert np.array_equal(exact.hsv2rgb(hsv), hsv2rgb(hsv))


@pytest.mark.parametrize("angle", [-135.0, -90.0, -45.0, 0.0, 31.7, 45.0])
def test_motion_is_the_originals_to_the_last_bit(angle: float) -> None:
    for image in (picture(40)[:33], picture(64)[..., 0] / 7):
        for radius, sigma in ((10, 3), (20, 15)):
            expected = reference.module()._motion_blur(image, radius, sigma, angle)
            assert np.array_equal(exact.motion_blur(image, radius, sigma, angle), expected)


def test_a_texture_is_enlarged_once_for_each_size_and_never_taken_for_another() -> None:
    resize = exact.resize_once()
    for seed in range(30):  # more than are kept: numbers of old arrays are given to new ones
        image = picture(20, seed)
        for size in ((30, 40), (25, 25)):
            expected = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
            assert np.array_equal(resize(image, dsize=size, interpolation=cv2.INTER_CUBIC), expected)
            assert resize(image, dsize=size, interpolation=cv2.INTER_CUBIC) is resize(image, size, cv2.INTER_CUBIC)


def test_other_users_of_the_package_see_it_unrepaired() -> None:
    """Our repairs live in a private copy: the module that others import is not even loaded by us."""
    code = (
        "import sys, numpy as np; from nsbench.corruptions import CORRUPTIONS, corrupt;"
        "grey = np.full((48, 48, 3), 99, np.uint8);"
        "[corrupt(grey, name, 1, seed=0, image_id='x') for name in CORRUPTIONS];"
        "assert not any(m.startswith('imagecorruptions') for m in sys.modules), 'loaded';"
        "assert not hasattr(np, 'float_'), 'leaked'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_threads_do_not_share_draws() -> None:
    jobs = [(name, str(k)) for name in sorted(RANDOM) for k in range(6)]
    image = picture(48)
    alone = [corrupt(image, name, 2, seed=0, image_id=k) for name, k in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: corrupt(image, job[0], 2, seed=0, image_id=job[1]), jobs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_closed_forms() -> None:
    """Contrast and the noises have known results on a constant image."""
    grey = np.full((224, 224, 3), 128, np.uint8)
    assert np.abs(corrupt(grey, "contrast", 5, seed=0, image_id="x").astype(int) - 128).max() <= 1
    noisy = corrupt(grey, "gaussian_noise", 1, seed=0, image_id="x")
    assert noisy.astype(float).std() == pytest.approx(0.08 * 255, rel=0.02)
    salted = corrupt(grey, "impulse_noise", 3, seed=0, image_id="x")
    assert np.mean(salted != 128) == pytest.approx(0.09, abs=0.003)
    bright = corrupt(grey, "brightness", 3, seed=0, image_id="x")
    assert np.abs(bright.astype(float) - (128 + 0.3 * 255)).max() <= 1


def test_engine_is_named() -> None:
    assert engine_version("fog").startswith("imagecorruptions ")
    assert engine_version("glass_blur").startswith("nsbench glass_blur")


def test_wrong_use() -> None:
    image = picture(48)
    with pytest.raises(UnknownName, match="Did you mean 'fog'"):
        corrupt(image, "fogg", 1, seed=0, image_id="x")
    for severity in (0, 6):
        with pytest.raises(UsageError, match=f"severity {severity}"):
            corrupt(image, "fog", severity, seed=0, image_id="x")
    with pytest.raises(DataError, match="31 x 31 pixels is too small"):
        corrupt(picture(31), "fog", 1, seed=0, image_id="x")
    with pytest.raises(DataError, match="float64"):
        corrupt(image / 255.0, "fog", 1, seed=0, image_id="x")


@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur", "brightness", "contrast"])
def test_agrees_with_images_that_others_made(shared_data: Path, name: str) -> None:
    """ImageNet-Testbed shows one bird under each corruption; its files are JPEGs, so a few grey levels may differ."""

    def read(stem: str) -> np.ndarray:
        return np.asarray(Image.open(shared_data / "corruption_examples" / f"{stem}.jpeg").convert("RGB"))

    bird = read("bird")
    theirs = [read(f"{name}_{severity}").astype(float) for severity in SEVERITIES]
    for severity in SEVERITIES:
        ours = corrupt(bird, name, severity, seed=0, image_id="bird")
        distances = [np.abs(ours - other).mean() for other in theirs]
        assert int(np.argmin(distances)) + 1 == severity
        assert distances[severity - 1] < 4


def test_gaussian_noise_has_the_deviation_of_its_severity() -> None:
    """On grey, where nothing is clipped; cut to whole levels, which takes half a level and adds a variance of 1/12."""
    grey = np.full((700, 700, 3), 128, np.uint8)
    change = corrupt(grey, "gaussian_noise", 1, seed=0, image_id="grey", engine="nsbench").astype(float) - 128
    deviation = 255 * IMAGENET["gaussian_noise"][0]
    assert np.var(change) == pytest.approx(deviation**2 + 1 / 12, rel=0.005)  # 254 would be 0.8 % away
    assert change.mean() == pytest.approx(-0.5, abs=0.1)


def test_frost_is_cut_to_whole_levels_and_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbench.corruptions import weather

    draw = np.random.default_rng(0)
    image, ice = (draw.integers(0, 256, (64, 48, 3)).astype(np.uint8) for _ in range(2))
    larger = np.pad(ice, ((0, 1), (0, 1), (0, 0)))  # of which the first place alone can be drawn
    monkeypatch.setattr(weather, "ice_texture", lambda number, height, width: larger)
    for severity in range(1, 6):
        share, ice_share = IMAGENET["frost"][severity - 1]
        expected = np.clip(np.round(share * image + ice_share * ice, 6), 0, 255).astype(np.uint8)
        found = corrupt(image, "frost", severity, seed=0, image_id="a", engine="nsbench")
        assert np.array_equal(found, expected), severity
