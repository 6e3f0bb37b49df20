"""Tiny-ImageNet as it is published, and as scripts leave it: right labels, and its 200 classes declared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from containers import Pictures, jpeg, write_tar, write_zip
from layouts import WNIDS, labels, put, put_tiny, under, wanted

from nsbench.cli import main
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError, MissingSplit
from nsbench.run.opening import open_source

pytestmark = pytest.mark.usefixtures("own_cache")


def test_tiny_imagenet(tmp_path: Path, pictures: Pictures) -> None:
    expected = put_tiny(tmp_path, pictures)
    source = open_source(str(tmp_path))
    assert source.splits()[:2] == ["train", "clean"]
    clean, train = source.split("clean"), source.split("train")
    assert (labels(clean), clean.unread) == (expected, ())
    assert (labels(train), train.unread) == (wanted(pictures), ())
    assert clean.load(0).size == (40, 36)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_tiny_imagenet_in_archives(tmp_path: Path, pictures: Pictures, write: Callable[..., Path]) -> None:
    expected = put_tiny(tmp_path / "there", pictures)
    for name in ("train", "val"):
        base = tmp_path / "there" / name
        files = {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}
        write(tmp_path / f"{name}.{'tar' if write is write_tar else 'zip'}", under(name, files))
    source = ImageNetTree(tmp_path)
    assert labels(source.split("clean")) == expected
    assert labels(source.split("train")) == wanted(pictures)


def test_tiny_imagenet_pictures_that_nobody_reads(tmp_path: Path, pictures: Pictures) -> None:
    put_tiny(tmp_path, pictures)
    put(
        tmp_path, {"val/loose.JPEG": jpeg(1), f"train/{next(iter(pictures)).split('/')[0]}/images/more/1.JPEG": jpeg(1)}
    )
    source = ImageNetTree(tmp_path)
    assert source.split("clean").unread == ("loose.JPEG",)
    assert len(source.split("train").unread) == 1
    put(tmp_path, {"val/images/val_999.JPEG": jpeg(1)})
    with pytest.raises(DataError, match=r"images/val_999\.JPEG: has no line in .*val_annotations\.txt"):
        ImageNetTree(tmp_path).split("clean")


def test_tiny_imagenet_sorted_into_folders(tmp_path: Path, pictures: Pictures) -> None:
    """As scripts leave it that torchvision users run: the list stays, images/ is gone."""
    put(tmp_path, under("val", pictures) | {"val/val_annotations.txt": b"val_0.JPEG\tn01443537\t0\t1\t2\t3\n"})
    assert labels(ImageNetTree(tmp_path).split("clean")) == wanted(pictures)


def test_tiny_imagenets_list_as_a_label_file(tmp_path: Path, pictures: Pictures) -> None:
    """The number at the end of a line is the corner of a box and no label."""
    expected = put_tiny(tmp_path, pictures)
    (tmp_path / "sets.toml").write_text('clean = "val/images"\n[labels]\nclean = "val/val_annotations.txt"\n')
    assert labels(ImageNetTree(tmp_path / "sets.toml").split("clean")) == expected


def of_set(text: str, name: str) -> str:
    """What `data check` says of one set."""
    return " ".join(line for line in text.splitlines() if line.strip().startswith(f"{name}: "))


def test_tiny_imagenet_declares_its_classes(tmp_path: Path, pictures: Pictures) -> None:
    """200 classes are no declaration: `data check` says the line that is one, and that line works."""
    put_tiny(tmp_path, pictures)
    assert ImageNetTree(tmp_path).split("clean").classes is None
    checked = CliRunner().invoke(main, ["data", "check", str(tmp_path), "--quick"])
    assert checked.exit_code == 1
    assert '[classes] clean = "present"' in " ".join(checked.output.split())
    (tmp_path / "sets.toml").write_text('root = "."\n[classes]\nclean = "present"\ntrain = "present"\n')
    assert "ImageFolder" not in of_set(checked.output, "clean"), "images/ is no folder of a class"
    assert "ImageFolder" in of_set(checked.output, "train"), "classes stand above images/"
    declared = CliRunner().invoke(main, ["data", "check", str(tmp_path / "sets.toml"), "--quick"])
    assert declared.exit_code == 0, declared.output
    assert len(ImageNetTree(tmp_path / "sets.toml").split("clean").classes or ()) == 5


def test_real_tiny_imagenet(tmp_path: Path, shared_data: Path) -> None:
    """The real pictures, put back into the tree that they were published in."""
    tree = ImageNetTree(shared_data / "tiny-imagenet")
    real = tree.split("clean")
    chosen = range(0, len(real), 40)
    pictures = {f"{WNIDS[real.labels[k]]}/{k}.JPEG": real.read(k) for k in chosen}  # type: ignore[attr-defined]
    expected = put_tiny(tmp_path, pictures)
    split = ImageNetTree(tmp_path).split("clean")
    assert labels(split) == expected
    assert sorted(split.labels.tolist()) == sorted(int(real.labels[k]) for k in chosen)
    assert np.unique(split.labels).size == 50
    with pytest.raises(MissingSplit):
        ImageNetTree(tmp_path).split("test")
