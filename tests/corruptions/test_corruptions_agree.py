"""Our corruptions against `imagecorruptions`: the same images for the same draws, the same statistics for others."""

from __future__ import annotations

import platform
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from corruption_streams import original, ours, photographs

from nsbench.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS, SEVERITIES, corrupt, fast
from nsbench.corruptions.weather import rolled

ALL = CORRUPTIONS + EXTRA_CORRUPTIONS
RANDOM = (
    "gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog",
    "elastic_transform", "speckle_noise", "spatter",
)  # fmt: skip
WITHIN_ONE_LEVEL = 0.999  # share of pixel values


def agreement(images: list[np.ndarray], name: str, severity: int) -> float:
    """Share of values within one grey level of the original's, with the original's draws."""
    differences = [
        np.abs(ours(image, name, severity, seed).astype(int) - original(image, name, severity, seed))
        for seed, image in enumerate(images)
    ]
    return float(np.mean(np.array(differences) <= 1))


def test_every_corruption_has_our_form() -> None:
    assert set(fast.FUNCTIONS) == set(ALL)


@pytest.mark.parametrize("size", [(224, 224), (48, 48), (131, 200)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", ALL)
def test_agrees_with_the_original_for_its_draws(shared_data: Path, name: str, size: tuple[int, int]) -> None:
    images = photographs(shared_data, 2, size)
    for severity in SEVERITIES:
        assert agreement(images, name, severity) >= WITHIN_ONE_LEVEL, severity


@pytest.mark.parametrize("name", ALL)
def test_agrees_on_pictures_without_detail(name: str) -> None:
    """Black, white, grey and one saturated colour, at the smallest size and one that is not square."""
    for height, width in ((32, 32), (33, 47)):
        for colour in ((0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 3)):
            image = np.full((height, width, 3), colour, np.uint8)
            if name == "spatter" or (name == "fog" and colour == (0, 0, 0)):
                continue  # the original divides by zero where there is no drop; fog on black is black for any cloud
            for severity in SEVERITIES:
                assert agreement([image], name, severity) >= WITHIN_ONE_LEVEL, (colour, severity)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_agrees_on_many_photographs(shared_data: Path, name: str) -> None:
    for size in ((224, 224), (48, 48)):
        images = photographs(shared_data, 25, size)
        for severity in SEVERITIES:
            assert agreement(images, name, severity) >= WITHIN_ONE_LEVEL, (size, severity)


def statistics(image_HWC: np.ndarray) -> np.ndarray:
    """Mean, variance, and log power in six octaves of spatial frequency of the grey image."""
    grey = image_HWC.mean(axis=2) / 255
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in grey.shape), indexing="ij"))
    edges = 0.5 / 2.0 ** np.arange(6, -1, -1)
    octaves = [power[(radius > low) & (radius <= high)].mean() for low, high in pairwise(edges)]
    return np.array([image_HWC.mean(), image_HWC.var(), *np.log(np.array(octaves) + 1e-6)])


def largest_deviation(images: list[np.ndarray], name: str, severity: int) -> float:
    """The largest |t| of the paired differences of any statistic between the two engines, each with its own draws."""
    pairs = np.array([
        [statistics(corrupt(image, name, severity, seed=3, image_id=str(k), engine=engine)) for engine in
         ("nsbench", "imagecorruptions")] for k, image in enumerate(images)
    ])  # fmt: skip
    differences = pairs[:, 0] - pairs[:, 1]
    error = differences.std(axis=0, ddof=1) / np.sqrt(len(images))
    return float(np.max(np.abs(differences.mean(axis=0)) / np.maximum(error, 1e-9)))


# Eight statistics and at most 55 comparisons: |t| > 5 with 23 or more degrees of freedom has p < 5e-5 in each.
@pytest.mark.parametrize("name", RANDOM)
def test_own_draws_have_the_same_statistics(shared_data: Path, name: str) -> None:
    assert largest_deviation(photographs(shared_data, 24, (96, 96)), name, 3) < 5


@pytest.mark.slow
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", RANDOM)
def test_own_draws_have_the_same_statistics_on_200_photographs(shared_data: Path, name: str, severity: int) -> None:
    assert largest_deviation(photographs(shared_data, 200), name, severity) < 5


def test_the_statistics_would_show_a_wrong_strength(shared_data: Path) -> None:
    """Two percent more noise must not go unseen."""
    images = photographs(shared_data, 24, (96, 96))
    random = np.random.default_rng(0)
    sets = [[np.clip(image + random.normal(0, sigma, image.shape), 0, 255).astype(np.uint8) for image in images]
            for sigma in (45.9, 46.8)]  # fmt: skip
    first, second = (np.array([statistics(image) for image in group]) for group in sets)
    differences = first - second
    t = differences.mean(axis=0) / (differences.std(axis=0, ddof=1) / np.sqrt(len(images)))
    assert np.abs(t).max() > 5


@pytest.mark.parametrize(("shift", "axis"), [(1, -1), (-1, -1), (1, -2), (-1, -2)])
def test_heights_are_rolled_as_by_numpy(shift: int, axis: int) -> None:
    for side in (1, 2, 5):
        heights = np.arange(side * side).reshape(side, side)
        assert np.array_equal(rolled(heights, shift, axis), np.roll(heights, shift, axis))


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory by rules of their own"
)
def test_memory_is_not_given_back_to_the_system_after_each_image() -> None:
    """In a new process, where nothing large was freed before; without `keep_freed_memory` 1,096 pages an image."""
    code = (
        "import resource, numpy as np; from nsbench.corruptions import corrupt;"
        "image = np.full((224, 224, 3), 99, np.uint8);"
        "pages = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt;"
        "run = lambda: corrupt(image, 'elastic_transform', 3, seed=0, image_id='x', engine='nsbench');"
        "[run() for _ in range(5)]; before = pages(); [run() for _ in range(20)];"
        "print((pages() - before) / 20)"
    )
    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(made.stdout) < 200
