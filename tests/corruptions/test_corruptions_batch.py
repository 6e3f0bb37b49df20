"""Batches, as arrays and as tensors, and the choice of the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_corruptions import picture

from nsbench.corruptions import (
    CORRUPTIONS,
    ENGINES,
    EXTRA_CORRUPTIONS,
    REFERENCE,
    SEVERITIES,
    corrupt,
    corrupt_batch,
    engine_version,
)
from nsbench.errors import DataError, UnknownName

ALL = CORRUPTIONS + EXTRA_CORRUPTIONS
IDS = ["a", "b", "c"]


def pictures(size: int) -> np.ndarray:
    return np.stack([picture(size, seed) for seed in range(len(IDS))])


def tensors_of(images_BHWC: np.ndarray, device: str = "cpu") -> torch.Tensor:
    return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).to(device)


def differences(made_BCHW: torch.Tensor, images_BHWC: np.ndarray) -> np.ndarray:
    return np.abs(made_BCHW.permute(0, 2, 3, 1).cpu().numpy().astype(int) - images_BHWC)


@pytest.mark.parametrize("size", [32, 48, 96])
@pytest.mark.parametrize("name", ALL)
def test_our_engine_runs_and_depends_on_seed_and_id_alone(name: str, size: int) -> None:
    images = pictures(size)
    before = images.copy()
    batch = corrupt_batch(images, name, 4, seed=1, ids=IDS, engine="nsbench")
    assert batch.shape == images.shape
    assert batch.dtype == np.uint8
    assert np.array_equal(images, before), "the input was changed in place"
    assert not np.array_equal(batch, images)
    for image, image_id, made in zip(images[::-1], IDS[::-1], batch[::-1], strict=True):
        alone = corrupt(image, name, 4, seed=1, image_id=image_id, engine="nsbench")
        assert np.array_equal(alone, made)
        assert alone.flags.writeable


@pytest.mark.parametrize("name", [n for n in ALL if "noise" in n or n in ("glass_blur", "fog", "elastic_transform")])
def test_our_draws_differ_between_seeds_ids_and_severities(name: str) -> None:
    image = picture(48)
    made = [corrupt(image, name, severity, seed=seed, image_id=image_id, engine="nsbench")
            for severity, seed, image_id in ((3, 0, "x"), (3, 1, "x"), (3, 0, "y"), (4, 0, "x"))]  # fmt: skip
    assert all(not np.array_equal(made[0], other) for other in made[1:])


@pytest.mark.parametrize("name", ALL)
def test_tensors_give_the_images_of_arrays(name: str) -> None:
    for severity in SEVERITIES:
        for images in (pictures(64), pictures(48)[:, :40]):
            made = corrupt_batch(tensors_of(images), name, severity, seed=0, ids=IDS, engine="nsbench")
            assert made.dtype == torch.uint8
            expected = corrupt_batch(images, name, severity, seed=0, ids=IDS, engine="nsbench")
            assert np.mean(differences(made, expected) <= 1) >= 0.999, severity


@pytest.mark.parametrize("name", ALL)
def test_tensors_agree_on_flat_images(name: str) -> None:
    """Rounding decides here what is cut off; no corruption may drift by more than the one level that it may cost."""
    images = np.stack([np.full((40, 40, 3), level, np.uint8) for level in (0, 16, 77, 128, 254, 255)])
    ids = [str(k) for k in range(len(images))]
    for severity in SEVERITIES:
        made = corrupt_batch(tensors_of(images), name, severity, seed=0, ids=ids, engine="nsbench")
        expected = corrupt_batch(images, name, severity, seed=0, ids=ids, engine="nsbench")
        assert np.mean(differences(made, expected) <= 1) >= 0.999, severity


@pytest.mark.parametrize("name", ALL)
def test_a_tensor_image_does_not_depend_on_its_batch(name: str) -> None:
    images = tensors_of(pictures(48))
    together = corrupt_batch(images, name, 5, seed=0, ids=IDS, engine="nsbench")
    alone = corrupt_batch(images[1:2], name, 5, seed=0, ids=IDS[1:2], engine="nsbench")
    assert (together[1].int() - alone[0].int()).abs().max() <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", ALL)
def test_a_gpu_gives_the_images_of_the_cpu(name: str) -> None:
    images = pictures(224)
    for severity in SEVERITIES:
        made = corrupt_batch(tensors_of(images, "cuda"), name, severity, seed=0, ids=IDS, engine="nsbench")
        assert made.is_cuda
        expected = corrupt_batch(images, name, severity, seed=0, ids=IDS, engine="nsbench")
        assert np.mean(differences(made, expected) <= 1) >= 0.999, severity


@pytest.mark.parametrize("name", ["fog", "spatter"])
def test_batches_of_the_reference_engine(name: str) -> None:
    images = pictures(48)
    expected = np.stack([corrupt(image, name, 2, seed=0, image_id=i) for image, i in zip(images, IDS, strict=True)])
    assert np.array_equal(corrupt_batch(images, name, 2, seed=0, ids=IDS), expected)
    assert not differences(corrupt_batch(tensors_of(images), name, 2, seed=0, ids=IDS), expected).any()


def test_empty_batches() -> None:
    assert corrupt_batch(np.empty((0, 48, 48, 3), np.uint8), "fog", 1, seed=0, ids=[]).shape == (0, 48, 48, 3)
    empty = corrupt_batch(torch.empty((0, 3, 48, 48), dtype=torch.uint8), "fog", 1, seed=0, ids=[], engine="nsbench")
    assert empty.shape == (0, 3, 48, 48)


def test_engines_are_named_in_digests() -> None:
    assert engine_version("fog", "nsbench").startswith("nsbench corruptions")
    assert engine_version("fog", REFERENCE) == engine_version("fog") != engine_version("fog", "nsbench")
    assert len(ENGINES) == 2


def test_wrong_use() -> None:
    images = pictures(48)
    with pytest.raises(UnknownName, match="corruption engine 'numba'"):
        corrupt_batch(images, "fog", 1, seed=0, ids=IDS, engine="numba")
    with pytest.raises(DataError, match="3 images and 2 ids"):
        corrupt_batch(images, "fog", 1, seed=0, ids=IDS[:2])
    with pytest.raises(DataError, match=r"must be \(B, 3, H, W\) uint8"):
        corrupt_batch(torch.zeros(1, 3, 48, 48), "fog", 1, seed=0, ids=["x"])
    with pytest.raises(DataError, match="40 x 20 pixels is too small"):
        corrupt_batch(images[:, :20, :40], "fog", 1, seed=0, ids=IDS, engine="nsbench")
