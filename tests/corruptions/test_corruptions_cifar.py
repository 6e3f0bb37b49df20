"""The corruptions of CIFAR-10-C: `imagecorruptions`' functions with its settings, and the three that it has otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from corruption_streams import original_of_cifar, ours_of_cifar, photographs
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.transform import estimate_transform, warp

from nsbench.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS, SEVERITIES, corrupt, corrupt_batch, fast
from nsbench.corruptions.draws import Draws
from nsbench.corruptions.settings import CIFAR, IMAGENET
from nsbench.errors import DataError, UsageError

OTHERWISE = ("frost", "elastic_transform", "pixelate")


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS + EXTRA_CORRUPTIONS if name not in OTHERWISE])
def test_agrees_with_the_original_at_its_settings(shared_data: Path, name: str) -> None:
    for severity in SEVERITIES:
        for seed, image in enumerate(photographs(shared_data, 3, (32, 32))):
            made, expected = (form(image, name, severity, seed) for form in (ours_of_cifar, original_of_cifar))
            assert np.mean(np.abs(made.astype(int) - expected) <= 1) >= 0.999, (severity, seed)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_is_an_affine_map_and_displacements(shared_data: Path, severity: int) -> None:
    """By scikit-image and scipy, with the same draws."""
    (image,) = photographs(shared_data, 1, (32, 32))
    reach, sigma, shift = (32 * share for share in CIFAR["elastic_transform"][severity - 1])
    draws = Draws(7)
    corners = np.array([[26, 26], [26, 6], [6, 6]], float)
    affine = estimate_transform("affine", corners, corners + (2 * draws.uniform((3, 2)) - 1) * shift)
    expected = warp(image.astype(float), affine.inverse, order=1, mode="reflect", preserve_range=True)
    columns, rows = (
        gaussian_filter(2 * draws.uniform((32, 32)).astype(float) - 1, sigma, mode="reflect", truncate=3) * reach
        for _ in range(2)
    )
    y, x = np.mgrid[:32, :32]
    expected = np.stack(
        [map_coordinates(expected[..., k], (y + rows, x + columns), order=1, mode="reflect") for k in range(3)], axis=-1
    )
    made = fast.corrupt(image, "elastic_transform", severity, 7, "cifar")
    assert np.mean(np.abs(made - expected)) < 2  # grey levels; OpenCV's map rounds places to 1/32 pixel
    assert np.mean(np.abs(image - expected)) > 4


def test_frost_and_pixelate(shared_data: Path) -> None:
    (image,) = photographs(shared_data, 1, (32, 32))
    for severity, (kept, ice) in enumerate(CIFAR["frost"], 1):
        made = fast.corrupt(image, "frost", severity, 3, "cifar").astype(float)
        added = (made - kept * image)[made < 255] / ice  # a piece of the texture, cut to whole levels
        assert added.min() >= -1 / ice
        assert added.max() <= 255 + 1 / ice
        assert np.ptp(added) > 30
    for severity, scale in enumerate(CIFAR["pixelate"], 1):
        small = Image.fromarray(image).resize((int(32 * scale),) * 2, Image.Resampling.BOX)
        expected = np.array(small.resize((32, 32), Image.Resampling.BOX))
        assert np.array_equal(fast.corrupt(image, "pixelate", severity, 0, "cifar"), expected)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_they_are_milder_than_those_of_imagenet(shared_data: Path, name: str) -> None:
    images = photographs(shared_data, 8, (32, 32))
    changes = [
        np.mean([
            np.abs(corrupt(image, name, 5, seed=0, image_id=str(k), engine="nsbench", scale=scale) - image.astype(float))
            for k, image in enumerate(images)
        ])
        for scale in ("cifar", "imagenet")
    ]  # fmt: skip
    assert 0 < changes[0] < changes[1]


def test_a_batch_is_its_images_and_only_32_pixels_are_taken(shared_data: Path) -> None:
    images = np.stack(photographs(shared_data, 3, (32, 32)))
    how = {"seed": 1, "engine": "nsbench", "scale": "cifar"}
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    for name in ("fog", "elastic_transform"):
        one_by_one = np.stack(
            [corrupt(image, name, 3, image_id=k, **how) for k, image in zip("abc", images, strict=True)]
        )
        made = corrupt_batch(tensors, name, 3, ids=list("abc"), **how)
        assert np.array_equal(made.permute(0, 2, 3, 1).numpy(), one_by_one)
        assert not np.array_equal(one_by_one[0], corrupt(images[0], name, 3, seed=1, image_id="a", engine="nsbench"))
    with pytest.raises(DataError, match="a: 48 x 48 pixels; the severities of CIFAR-10-C are for 32 x 32"):
        corrupt(np.zeros((48, 48, 3), np.uint8), "fog", 1, image_id="a", **how)
    with pytest.raises(UsageError, match="severities of ImageNet-C alone"):
        corrupt(images[0], "fog", 1, seed=1, image_id="a", engine="imagecorruptions", scale="cifar")


def test_both_scales_have_every_corruption_five_times() -> None:
    for table in (IMAGENET, CIFAR):
        assert set(table) == set(CORRUPTIONS + EXTRA_CORRUPTIONS)
        assert {len(settings) for settings in table.values()} == {5}
