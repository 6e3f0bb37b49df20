"""One set in every container: the same ids, labels and pixels, read in place."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from containers import (
    CONTAINERS,
    Pictures,
    as_deflated_zip,
    as_folder,
    as_parquet,
    as_saved,
    as_shards,
    as_tar,
    found,
    jpeg,
    label_of,
    stem,
    write_tar,
)
from torchvision.transforms.functional import pil_to_tensor

from nsbench.data import tables, wnids
from nsbench.data.decode import decode
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.loading import batches
from nsbench.data.table_files import ParquetFiles
from nsbench.errors import CorruptImage
from nsbench.models import load_model
from nsbench.run.opening import open_source
from nsbench.training.augment import Augmented
from nsbench.training.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("own_cache")


# --- the same set in every container ---------------------------------------------------------------------------------


@pytest.mark.parametrize("write", CONTAINERS)
def test_every_container_gives_the_same_images_and_labels(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    write(tmp_path, pictures)
    split = open_source(str(tmp_path)).split("clean")
    assert len(split) == len(set(split.ids.tolist())) == 15
    expected = {
        stem(name): (label_of(name), decode(io.BytesIO(content)).tobytes()) for name, content in pictures.items()
    }
    assert found(split) == expected
    assert split.labels.dtype == np.int64
    assert split.classes is None
    again = open_source(str(tmp_path)).split("clean")  # from the cached index
    assert again.digest == split.digest
    assert found(again) == expected


@pytest.mark.parametrize("write", CONTAINERS)
def test_every_container_in_any_order_pickled_and_in_workers(
    tmp_path: Path, pictures: Pictures, write: Callable
) -> None:
    write(tmp_path, pictures)
    split = open_source(str(tmp_path)).split("clean")
    straight = [split.load(k).tobytes() for k in range(15)]
    order = np.random.default_rng(0).permutation(15)
    copy = pickle.loads(pickle.dumps(split))
    assert [copy.load(int(k)).tobytes() for k in order] == [straight[k] for k in order]
    from_workers = [batch.images for batch in batches(split, pil_to_tensor, batch_size=4, workers=2)]
    here = [batch.images for batch in batches(copy, pil_to_tensor, batch_size=4)]
    assert torch.equal(torch.cat(from_workers), torch.cat(here))


@pytest.mark.parametrize("write", CONTAINERS)
def test_the_container_does_not_move_ids_digest_subset_or_draws(
    tmp_path: Path, pictures: Pictures, write: Callable
) -> None:
    """A result from val.zip, from shards or from tables is a result on the same data as one from the unpacked folder."""
    for name, writer in (("there", write), ("plain", as_folder)):
        (tmp_path / name).mkdir()
        writer(tmp_path / name, pictures)
    there, plain = (open_source(str(tmp_path / name)) for name in ("there", "plain"))
    split, reference = there.split("clean"), plain.split("clean")
    assert sorted(split.ids.tolist()) == reference.ids.tolist() == sorted(map(stem, pictures))
    assert split.digest == reference.digest
    few, known = split.limited(6), reference.limited(6)
    assert sorted(few.ids.tolist()) == sorted(known.ids.tolist())
    assert few.digest == known.digest
    image_id = few.ids[0]
    for name in ("clean", "c/shot_noise/3"):
        one, other = there.split(name), plain.split(name)
        pair = [part.load(part.ids.tolist().index(image_id)).tobytes() for part in (one, other)]
        assert pair[0] == pair[1], name


@pytest.mark.parametrize("write", [as_tar, as_shards, as_parquet])
def test_the_container_does_not_move_the_order_of_training(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    orders = []
    for name, writer in (("there", write), ("plain", as_folder)):
        (tmp_path / name).mkdir()
        writer(tmp_path / name, pictures)
        split = open_source(str(tmp_path / name)).split("clean")
        stream = Augmented(split, load_recipe("shapes10"), load_model("vit_shapes10"), stream="train", length=40)
        orders.append((stream.ids.tolist(), stream.labels.tolist(), stream.load(7).tobytes()))
    assert orders[0] == orders[1]


def test_sizes_of_parquet_are_measured_once(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_parquet(tmp_path, pictures)
    split = ImageNetTree(tmp_path).split("clean")
    assert sorted(split.sizes.tolist()) == sorted(map(len, pictures.values()))
    monkeypatch.setattr(ParquetFiles, "sizes", lambda *_: pytest.fail("measured again"))
    assert ImageNetTree(tmp_path).split("clean").digest == split.digest


def test_parquet_that_is_too_large_to_be_read_for_sizes(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_parquet(tmp_path, pictures)
    monkeypatch.setattr(tables, "READ_FOR_SIZES", 100)
    monkeypatch.setattr(ParquetFiles, "sizes", lambda *_: pytest.fail("read"))
    assert ImageNetTree(tmp_path).split("clean").sizes.min() > 0


def test_real_images_in_every_container(tmp_path: Path, shared_data: Path) -> None:
    files = sorted((shared_data / "imagenet" / "val").glob("*/*.JPEG"))[::40]
    pictures = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    expected = {
        stem(name): (label_of(name), decode(io.BytesIO(content)).tobytes()) for name, content in pictures.items()
    }
    for number, write in enumerate(CONTAINERS):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number), pictures)
        assert found(open_source(str(tmp_path / str(number))).split("clean")) == expected, write.__name__


def test_real_tar_of_200_classes(shared_data: Path) -> None:
    split = ImageNetTree(shared_data / "tiny-imagenet").split("clean")
    assert len(split) == 2000
    assert np.unique(split.labels).size == 200
    assert set(np.bincount(split.labels)) == {0, 10}
    assert split.classes is None, "200 classes are no declaration"
    assert split.load(0).size == (64, 64)


def test_folder_before_archive(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, dict(list(pictures.items())[:6]))
    as_tar(tmp_path, pictures)
    assert len(ImageNetTree(tmp_path).split("clean")) == 6


def test_v2_and_its_sisters_in_archives(tmp_path: Path) -> None:
    for name in (
        "imagenetv2-matched-frequency-format-val",
        "imagenetv2-threshold0.7-format-val",
        "imagenetv2-top-images-format-val",
    ):
        write_tar(tmp_path / f"{name}.tar", {f"{name}/{number}/a.jpeg": jpeg(number) for number in (0, 2, 10, 999)})
    source = ImageNetTree(tmp_path)
    assert source.splits() == ["v2", "v2-threshold-0.7", "v2-top-images"]
    for name in source.splits():
        assert source.split(name).labels.tolist() == [0, 2, 10, 999]


# --- ImageNet-C ------------------------------------------------------------------------------------------------------


def c_files(corruptions: tuple[str, ...], top: str = "") -> Pictures:
    wnid = wnids.wnids()[5]
    return {
        f"{top}{name}/{severity}/{wnid}/a.JPEG": jpeg(severity, (224, 224))
        for name in corruptions
        for severity in (1, 5)
    }


@pytest.mark.parametrize("layout", ["plain", "grouped", "group archives", "corruption archives", "one archive"])
def test_c_in_every_layout(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "ImageNet-C"
    if layout in ("plain", "grouped"):
        files = c_files(("fog",), "weather/" if layout == "grouped" else "")
        files |= c_files(("defocus_blur", "speckle_noise"), "blur/" if layout == "grouped" else "")
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    elif layout == "group archives":
        write_tar(root / "weather.tar", c_files(("fog",)))
        write_tar(root / "blur.tar", c_files(("defocus_blur", "speckle_noise"), "blur/"))
    elif layout == "corruption archives":
        write_tar(root / "fog.tar", {n.removeprefix("fog/"): c for n, c in c_files(("fog",)).items()})
        write_tar(root / "defocus_blur.tar", c_files(("defocus_blur",)))
        write_tar(root / "speckle_noise.tar", c_files(("speckle_noise",)))
    else:
        write_tar(tmp_path / "imagenet-c.tar", c_files(("fog", "defocus_blur", "speckle_noise"), "imagenet-c/"))
    source = ImageNetTree(tmp_path)
    assert source.splits() == [f"c/{name}/{s}" for name in ("defocus_blur", "fog", "speckle_noise") for s in (1, 5)]
    split = source.split("c/fog/5")
    assert split.ids.tolist() == ["a"]
    assert split.labels.tolist() == [5]
    assert split.load(0).tobytes() == decode(io.BytesIO(jpeg(5, (224, 224)))).tobytes()


# --- corrupt images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [as_folder, as_tar, as_deflated_zip, as_shards, as_parquet, as_saved])
@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_left_out_and_named(
    tmp_path: Path, pictures: Pictures, write: Callable, workers: int
) -> None:
    names = sorted(pictures)
    bad = {names[0], names[1], names[7]}
    for name in bad:
        pictures[name] = pictures[name][:600]
    write(tmp_path, pictures)
    split = ImageNetTree(tmp_path).split("clean")
    corrupt: dict[str, str] = {}
    kept = [batch for batch in batches(split, pil_to_tensor, batch_size=2, workers=workers, corrupt=corrupt)]
    assert {stem(image_id) for image_id in corrupt} == {stem(name) for name in bad}
    for image_id, why in corrupt.items():
        assert stem(image_id) in why
        assert str(tmp_path) in why
        assert "\n" not in why
    ids = [image_id for batch in kept for image_id in batch.ids]
    assert len(ids) == 12
    assert not set(ids) & set(corrupt)
    labels = dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True))
    assert torch.cat([batch.labels for batch in kept]).tolist() == [labels[image_id] for image_id in ids]
    for batch in kept:
        assert split.ids[batch.indices].tolist() == batch.ids
        assert batch.images.shape[1:] == (3, 36, 40)
    with pytest.raises(CorruptImage):
        list(batches(split, pil_to_tensor, batch_size=2, workers=workers))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_in_a_tar(tmp_path: Path, mode: str) -> None:
    write_tar(tmp_path / "val.tar", {f"{wnids.wnids()[0]}/a.JPEG": jpeg(0, mode=mode)})
    image = ImageNetTree(tmp_path).split("clean").load(0)
    assert image.mode == "RGB"
    reference = np.asarray(decode(io.BytesIO(jpeg(0, mode=mode)))).astype(int)
    assert np.abs(np.asarray(image) - reference).max() == 0
