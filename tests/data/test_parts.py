"""Which part of a set is read: {train,val} and wrapping folders, tables and shards that name their split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from containers import Pictures, jpeg, write_tar, write_zip
from layouts import WNIDS, labels, others, put, put_shard, put_table, under, wanted

from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError
from nsbench.run.opening import open_source

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("parts", [("train", "val"), ("Train", "Val"), ("train", "validation"), ("training", "test")])
def test_of_train_and_val_an_evaluation_set_is_val(tmp_path: Path, pictures: Pictures, parts: tuple[str, str]) -> None:
    put(tmp_path / "stylized-imagenet", under(parts[0], others(pictures)) | under(parts[1], pictures))
    (tmp_path / "stylized-imagenet" / "README.md").write_text("about")
    split = ImageNetTree(tmp_path).split("stylized")
    assert (labels(split), split.unread) == (wanted(pictures), ())
    put(tmp_path / "plain" / "stylized", pictures)
    assert split.digest == ImageNetTree(tmp_path / "plain").split("stylized").digest, "the same ids and labels"


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_train_and_val_in_an_archive(tmp_path: Path, pictures: Pictures, write: Callable[..., Path]) -> None:
    files = under("stylized-imagenet/train", others(pictures)) | under("stylized-imagenet/val", pictures)
    write(tmp_path / ("stylized-imagenet.tar" if write is write_tar else "stylized-imagenet.zip"), files)
    assert labels(ImageNetTree(tmp_path).split("stylized")) == wanted(pictures)


def test_of_train_and_val_the_training_set_is_train(tmp_path: Path, pictures: Pictures) -> None:
    put(tmp_path / "train", under("val", others(pictures)) | under("train", pictures))
    assert labels(ImageNetTree(tmp_path).split("train")) == wanted(pictures)


def test_one_folder_around_everything(tmp_path: Path, pictures: Pictures) -> None:
    put(tmp_path, under("imagenet-sketch/sketch", pictures) | {"imagenet-sketch/README.md": b"about"})
    write_zip(tmp_path / "damagenet.zip", under("a/b", pictures) | {"a/LICENSE": b"x", "__MACOSX/a/._b": b"x"})
    for name in ("sketch", "damagenet"):
        split = ImageNetTree(tmp_path).split(name)
        assert (labels(split), split.unread) == (wanted(pictures), ())


def test_two_parts_that_could_be_meant(tmp_path: Path, pictures: Pictures) -> None:
    put(tmp_path / "stylized", under("val", others(pictures)) | under("test", pictures))
    with pytest.raises(
        DataError, match=r"stylized: holds test and val, and each could be 'stylized'; name one in a config"
    ):
        ImageNetTree(tmp_path).split("stylized")
    (tmp_path / "sets.toml").write_text('stylized = "stylized/test"\n')
    assert labels(ImageNetTree(tmp_path / "sets.toml").split("stylized")) == wanted(pictures)


@pytest.mark.parametrize(("folder", "name", "part"), [("stylized", "stylized", "train"), ("val", "clean", "train"),
                                                      ("train", "train", "val")])  # fmt: skip
def test_half_of_a_set_that_has_two_parts(
    tmp_path: Path, pictures: Pictures, folder: str, name: str, part: str
) -> None:
    """Stylized-ImageNet's training images are not its evaluation images."""
    put(tmp_path / folder, under(part, pictures))
    with pytest.raises(
        DataError, match=f"{folder}: holds only {part}: are these the images of '{name}', or is the other"
    ):
        ImageNetTree(tmp_path).split(name)


def test_a_picture_beside_the_parts_is_not_left_out_in_silence(tmp_path: Path, pictures: Pictures) -> None:
    put(tmp_path / "stylized", under("train", others(pictures)) | under("val", pictures) | {"loose.JPEG": jpeg(1)})
    with pytest.raises(DataError, match="stylized/train: is no class folder"):
        ImageNetTree(tmp_path).split("stylized")


# --- tables and shards inside a set -----------------------------------------------------------------------------------


WRITERS = [(put_table, ".parquet"), (put_shard, ".tar")]


@pytest.mark.parametrize(("write", "suffix"), WRITERS)
@pytest.mark.parametrize(
    ("folder", "train"), [("sketch/data", ""), ("sketch", ""), ("sketch/data", "train"), ("sketch/default/test", "")]
)
@pytest.mark.parametrize("word", ["test", "val", "validation", "train", "imagenet-sketch-val"])
def test_pieces_of_an_evaluation_set(
    tmp_path: Path, pictures: Pictures, write: Callable[..., None], suffix: str, folder: str, train: str, word: str
) -> None:
    """The pieces of evaluation are taken where there are some; train-* alone is how sets without training are published."""
    for number in range(2):
        part = dict(list(pictures.items())[number::2])
        write(tmp_path / folder / f"{word}-{number:05}-of-00002{suffix}", part)
    if train and word != "train":
        write(tmp_path / folder / f"{train}-00000-of-00001{suffix}", others(pictures))
    (tmp_path / "sketch" / "README.md").write_text("---\n")
    (tmp_path / "sketch" / ".gitattributes").write_text("*.parquet filter=lfs\n")
    assert labels(open_source(str(tmp_path)).split("sketch")) == wanted(pictures)


@pytest.mark.parametrize(("write", "suffix"), WRITERS)
def test_pieces_with_two_readings(tmp_path: Path, pictures: Pictures, write: Callable[..., None], suffix: str) -> None:
    data = tmp_path / "sketch" / "data"
    write(data / f"test-00000-of-00001{suffix}", pictures)
    write(data / f"validation-00000-of-00001{suffix}", others(pictures))
    with pytest.raises(DataError, match=r"data: holds test and validation, and each could be 'sketch'; name one"):
        ImageNetTree(tmp_path).split("sketch")
    (tmp_path / "sets.toml").write_text(f'sketch = "sketch/data/test-*{suffix}"\n')
    assert labels(ImageNetTree(tmp_path / "sets.toml").split("sketch")) == wanted(pictures)
    (data / f"validation-00000-of-00001{suffix}").rename(data / f"more{suffix}")
    with pytest.raises(
        DataError, match=rf"data: more\{suffix} says no split in its name, and others say test; move it"
    ):
        ImageNetTree(tmp_path).split("sketch")
    write(tmp_path / "stylized" / f"train-0{suffix}", pictures)
    with pytest.raises(DataError, match="stylized: holds only train: are these the images of 'stylized'"):
        ImageNetTree(tmp_path).split("stylized")


@pytest.mark.parametrize(("write", "suffix"), WRITERS)
def test_pictures_among_the_pieces(tmp_path: Path, pictures: Pictures, write: Callable[..., None], suffix: str) -> None:
    write(tmp_path / "sketch" / "data" / f"test-0{suffix}", pictures)
    put(tmp_path / "sketch" / "data", {"left over": jpeg(1), "about.md": b"x"})
    assert ImageNetTree(tmp_path).split("sketch").unread == ("left over",)


def test_a_set_that_is_given_as_the_tree(tmp_path: Path, pictures: Pictures) -> None:
    """Its train-* would be taken for ImageNet's training images."""
    root = tmp_path / "imagenet_sketch"
    put_table(root / "data" / "train-00000-of-00001.parquet", pictures)
    with pytest.raises(
        DataError, match=rf"is it the set 'sketch', or a tree that holds train\? Give its parent, {tmp_path}"
    ):
        ImageNetTree(root)
    assert labels(ImageNetTree(tmp_path).split("sketch")) == wanted(pictures)


def test_names_of_classes_above_the_shards(tmp_path: Path) -> None:
    """As the shards of CLIP-benchmark lie: <set>/classnames.txt and <set>/test/0.tar with numbers of its own."""
    own = wnids.subset("r")
    assert own is not None
    files: Pictures = {}
    for number in range(200):
        files |= {f"{number}.jpg": jpeg(0), f"{number}.cls": str(number).encode()}
    write_tar(tmp_path / "imagenet-r" / "test" / "0.tar", files)
    names = "\n".join(WNIDS[label] for label in own)
    (tmp_path / "imagenet-r" / "classnames.txt").write_text(names)
    assert sorted(ImageNetTree(tmp_path).split("r").labels.tolist()) == list(own)
