"""Shards, tables, label files and config files that are wrong are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from containers import (
    LABELS,
    Pictures,
    as_flat_tar,
    as_folder,
    as_parquet,
    as_saved,
    as_shards,
    jpeg,
    label_of,
    table,
    write_tar,
)

from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError, UnknownName
from nsbench.run.opening import open_source

pytestmark = pytest.mark.usefixtures("own_cache")


# --- shards, tables and label files that are wrong -------------------------------------------------------------------


@pytest.mark.parametrize(("sidecar", "message"), [
    ({}, "has neither"), ({".cls": b"1000"}, "is neither a label from 0 to 999 nor a wnid"),
    ({".cls": b"-1"}, "is neither a label"), ({".json": b"[]"}, "is neither a label"), ({".json": b"{"}, "is no JSON"),
])  # fmt: skip
def test_shards_without_labels(tmp_path: Path, pictures: Pictures, sidecar: dict[str, bytes], message: str) -> None:
    last = list(pictures)[-1]
    as_shards(tmp_path, pictures, lambda name: sidecar if name == last else {".cls": b"3"})
    with pytest.raises(DataError, match=message):
        ImageNetTree(tmp_path).split("clean")


def test_shards_whose_keys_start_again(tmp_path: Path) -> None:
    for number in range(2):
        files = {"0.jpg": jpeg(number), "0.cls": str(number + 5).encode()}
        write_tar(tmp_path / "val" / f"{number}.tar", files)
    split = ImageNetTree(tmp_path).split("clean")
    assert split.ids.tolist() == [f"{wnids.wnids()[5]}/0", f"{wnids.wnids()[6]}/0"]
    assert split.labels.tolist() == [5, 6]


def test_class_names_of_a_table_are_mapped(tmp_path: Path, pictures: Pictures) -> None:
    """A table of five classes numbers them 0 to 4; its wnids say which labels these are."""
    names = [wnids.wnids()[label] for label in LABELS]
    (tmp_path / "val").mkdir()
    pq.write_table(table(pictures, names), tmp_path / "val" / "0000.parquet")
    split = ImageNetTree(tmp_path).split("clean")
    assert split.labels.tolist() == [label_of(name) for name in pictures]


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.replace_schema_metadata({"huggingface": json.dumps(
        {"info": {"features": {"label": {"names": [f"class {k}" for k in range(1000)]}}}})}), "neither wnids nor"),
    (lambda t: t.drop_columns(["label"]), "expected a picture column"),
    (lambda t: t.set_column(1, "label", [[-1] * len(t)]), "has no label"),
    (lambda t: t.set_column(1, "label", [[1000] * len(t)]), "is no class"),
    (lambda t: t.set_column(0, "image", [["a.jpg"] * len(t)]), "not encoded pictures"),
])  # fmt: skip
def test_tables_that_are_wrong(tmp_path: Path, pictures: Pictures, change: Callable, message: str) -> None:
    (tmp_path / "val").mkdir()
    pq.write_table(change(table(pictures)), tmp_path / "val" / "0000.parquet")
    with pytest.raises(DataError, match=message):
        ImageNetTree(tmp_path).split("clean")


@pytest.mark.parametrize("write", [as_parquet, as_saved])
def test_truncated_tables(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    write(tmp_path, pictures)
    path = max(file for file in tmp_path.rglob("*-of-00002.*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="half copied"):
        ImageNetTree(tmp_path).split("clean")
    path.unlink()
    if write is as_saved:
        with pytest.raises(DataError, match="is not there; copy the folder again"):
            ImageNetTree(tmp_path).split("clean")


def test_flat_without_labels_and_with_two(tmp_path: Path, pictures: Pictures) -> None:
    as_flat_tar(tmp_path, pictures)
    lines = tmp_path / "ILSVRC2012_img_val.txt"
    lines.write_text(lines.read_text() + "ILSVRC2012_val_00000000.JPEG,5\n")
    with pytest.raises(DataError, match="a second label, 5 after 0"):
        ImageNetTree(tmp_path).split("clean")
    lines.unlink()
    with pytest.raises(DataError, match="holds 15 images in no folder: put a label file beside them"):
        ImageNetTree(tmp_path).split("clean")


# --- config files ----------------------------------------------------------------------------------------------------


def config(tmp_path: Path, text: str) -> ImageNetTree:
    (tmp_path / "data.toml").write_text(text)
    return open_source(str(tmp_path / "data.toml"))  # type: ignore[return-value]


def test_config_names_every_place(tmp_path: Path, pictures: Pictures) -> None:
    as_shards(tmp_path / "shards", pictures)
    write_tar(tmp_path / "flat.tar", {name.split("/")[1]: content for name, content in pictures.items()})
    (tmp_path / "list.txt").write_text("".join(f"{n.split('/')[1]} {label_of(n)}\n" for n in pictures))
    source = config(
        tmp_path,
        'name = "mine"\nclean = "flat.tar"\nsketch = "shards/val/imagenet-val-*.tar"\n'
        'v2-threshold-0.7 = "flat.tar"\n[labels]\nclean = "list.txt"\n'
        '"v2-threshold-0.7" = "list.txt"\n',
    )
    assert (source.name, source.title) == ("mine", "mine")
    assert source.splits()[:3] == ["clean", "v2-threshold-0.7", "sketch"]
    for name in ("clean", "sketch", "v2-threshold-0.7"):
        assert len(source.split(name)) == 15


def test_config_over_a_root(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path / "tree", pictures)
    write_tar(tmp_path / "other.tar", dict(list(pictures.items())[:3]))
    source = config(tmp_path, 'root = "tree"\nsketch = "other.tar"\n')
    assert (source.name, len(source.split("clean")), len(source.split("sketch"))) == ("imagenet", 15, 3)


def test_fewer_classes_only_when_declared(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    whole = ImageNetTree(tmp_path).split("clean")
    assert whole.classes is None
    split = config(tmp_path, 'clean = "val"\n[classes]\nclean = "present"\n').split("clean")
    assert split.classes == tuple(sorted(LABELS))
    assert split.digest != whole.digest, "results over 5 and over 1000 classes are not the same results"
    source = config(tmp_path, 'clean = "val"\n[classes]\nclean = "present"\n')
    assert source.split("c/fog/3").classes == tuple(sorted(LABELS))
    more = [wnids.wnids()[label] for label in (*LABELS, 500)]
    assert config(tmp_path, f'clean = "val"\n[classes]\nclean = {more}\n').split("clean").classes == tuple(
        sorted((*LABELS, 500))
    )
    with pytest.raises(DataError, match=r"holds 1 class\(es\) that \[classes\] does not list"):
        config(tmp_path, 'clean = "val"\n[classes]\nclean = [0, 3, 7, 400]\n').split("clean")


@pytest.mark.parametrize(("text", "error", "message"), [
    ("clean = ", DataError, "cannot be read as a config file"),
    ("", DataError, "names no set"),
    ('klean = "val"', UnknownName, "Did you mean 'clean'"),
    ("clean = 5", DataError, "must be a path or a list of paths"),
    ('clean = "x-*.tar"', DataError, "nothing is called"),
    ('clean = "val"\n[classes]\nclean = "all"', DataError, 'must be "present"'),
    ('clean = "val"\n[classes]\nclean = [0, 1000]', DataError, 'must be "present"'),
    ('clean = "val"\n[classes]\nsketch = "present"', DataError, "has no path"),
    ('clean = "val"\nname = "../x"', DataError, "must consist of letters"),
])  # fmt: skip
def test_config_files_that_are_wrong(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        config(tmp_path, text)


def test_config_that_names_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; correct the path of 'clean'"):
        config(tmp_path, 'clean = "absent.tar"').split("clean")
