"""Batches: the same in the main process and in workers, errors that arrive as themselves, bounded memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from nsbench.data import loading, wnids
from nsbench.data.corrupted import CorruptedSplit
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.loading import Batch, batches
from nsbench.data.source import Split, digest_of
from nsbench.errors import CorruptImage, DataError, UsageError


class Painted(Split):
    """Image k is a plain (40, 36) picture of grey k; `log` counts what was loaded."""

    name = "clean"

    def __init__(self, n: int) -> None:
        self.ids, self.labels = np.array([f"image {k}" for k in range(n)]), np.arange(n) % 3
        self.loaded = 0

    def load(self, index: int) -> Image.Image:
        self.loaded += 1
        return Image.new("RGB", (40, 36), (index, index, index))

    @property
    def digest(self) -> str:
        return digest_of(*self.ids)


def joined(found: list[Batch]) -> tuple[torch.Tensor, torch.Tensor, list[str], list[int]]:
    return (
        torch.cat([batch.images for batch in found]),
        torch.cat([batch.labels for batch in found]),
        [image_id for batch in found for image_id in batch.ids],
        [int(index) for batch in found for index in batch.indices],
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_keep_the_order(workers: int) -> None:
    found = list(batches(Painted(11), pil_to_tensor, batch_size=4, workers=workers))
    assert [len(batch) for batch in found] == [4, 4, 3]
    images, labels, ids, indices = joined(found)
    assert images.shape == (11, 3, 36, 40)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert images[:, 0, 0, 0].tolist() == indices == list(range(11))
    assert labels.tolist() == [k % 3 for k in range(11)]
    assert ids == [f"image {k}" for k in range(11)]


@pytest.mark.parametrize("workers", [0, 2])
def test_chosen_indices_in_their_own_order(workers: int) -> None:
    found = list(batches(Painted(20), pil_to_tensor, batch_size=2, workers=workers, indices=[7, 3, 19]))
    images, labels, ids, indices = joined(found)
    assert images[:, 0, 0, 0].tolist() == indices == [7, 3, 19]
    assert ids == ["image 7", "image 3", "image 19"]
    assert labels.tolist() == [1, 0, 1]
    assert list(batches(Painted(20), pil_to_tensor, batch_size=2, workers=workers, indices=[])) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for label in (5, 700):
        folder = tmp_path / "val" / wnids.wnids()[label]
        folder.mkdir(parents=True)
        for k in range(3):
            Image.fromarray(random.integers(0, 256, (60, 70, 3), dtype=np.uint8)).save(folder / f"{k}.JPEG")
    return tmp_path


@pytest.mark.parametrize("corruption", ["gaussian_noise", "impulse_noise", "glass_blur", "elastic_transform", "snow"])
def test_corrupted_images_are_the_same_in_workers_and_in_any_batch(tree: Path, corruption: str) -> None:
    split = CorruptedSplit(ImageNetTree(tree).split("clean"), corruption, 4)
    here = joined(list(batches(split, pil_to_tensor, batch_size=6)))
    there = joined(list(batches(split, pil_to_tensor, batch_size=1, workers=2)))
    assert torch.equal(here[0], there[0])
    assert torch.equal(here[1], there[1])
    assert here[2:] == there[2:]
    assert len({image.numpy().tobytes() for image in here[0]}) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named_in_one_line(tree: Path, workers: int) -> None:
    path = tree / "val" / wnids.wnids()[700] / "1.JPEG"
    path.write_bytes(path.read_bytes()[:700])
    found = batches(ImageNetTree(tree).split("clean"), pil_to_tensor, batch_size=2, workers=workers)
    assert len(next(found)) == 2, "batches before it are delivered"
    assert len(next(found)) == 2
    with pytest.raises(CorruptImage) as caught:
        next(found)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "worker" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_two_sizes(tree: Path, workers: int) -> None:
    Image.new("RGB", (50, 60)).save(tree / "val" / wnids.wnids()[5] / "1.JPEG")
    with pytest.raises(DataError, match=rf"{wnids.wnids()[5]}/1: \(3, 60, 50\).*must have one size"):
        list(batches(ImageNetTree(tree).split("clean"), pil_to_tensor, batch_size=6, workers=workers))


def test_an_error_of_the_transform_names_the_image() -> None:
    def only_first(image: Image.Image) -> torch.Tensor:
        if image.getpixel((0, 0)) != (0, 0, 0):
            raise DataError("must not be resized")
        return pil_to_tensor(image)

    with pytest.raises(DataError, match="image 1: must not be resized"):
        list(batches(Painted(3), only_first, batch_size=3))


def test_a_transform_that_gives_floats_is_refused() -> None:
    with pytest.raises(DataError, match=r"torch\.float32"):
        list(batches(Painted(2), lambda image: pil_to_tensor(image) / 255, batch_size=2))


@pytest.mark.parametrize(("size", "workers"), [(0, 0), (4, -1)])
def test_wrong_use(size: int, workers: int) -> None:
    with pytest.raises(UsageError, match="batch size"):
        batches(Painted(2), pil_to_tensor, batch_size=size, workers=workers)


def test_images_are_loaded_only_when_asked_for() -> None:
    split = Painted(100)
    found = batches(split, pil_to_tensor, batch_size=5)
    next(found)
    next(found)
    assert split.loaded == 10


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_stays(workers: int) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(batches(Painted(4), pil_to_tensor, batch_size=2, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_leaving_early_ends_the_workers() -> None:
    found = batches(Painted(50), pil_to_tensor, batch_size=1, workers=2)
    next(found)
    assert len(multiprocessing.active_children()) == 2
    found.close()
    assert multiprocessing.active_children() == []


def test_workers_that_are_started_afresh(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where processes are not forked (macOS, Windows, Python 3.14), everything travels by pickle."""
    make: Callable = loading.DataLoader
    monkeypatch.setattr(loading, "DataLoader", lambda *a, **k: make(*a, multiprocessing_context="spawn", **k))
    split = CorruptedSplit(ImageNetTree(tree).split("clean"), "shot_noise", 4)
    there = joined(list(batches(split, pil_to_tensor, batch_size=3, workers=1)))
    here = joined(list(batches(split, pil_to_tensor, batch_size=3)))
    assert torch.equal(here[0], there[0])
