"""Label numbers without class names: asked about where they have two readings, never taken for ImageNet's in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from containers import jpeg, write_tar
from scipy.io import savemat

from nsbench.cli import main
from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError

A = wnids.subset("a")
ORDER = wnids.wnids()
OTHERS = [ORDER[label] for label in (340, 7, 999)]  # three classes in no order


def shards(folder: Path, numbers: list[int]) -> None:
    files = {}
    for k, number in enumerate(numbers):
        files |= {f"s{k}.jpg": jpeg(k), f"s{k}.cls": str(number).encode()}
    write_tar(folder / "0.tar", files)


def table(folder: Path, numbers: list[int]) -> None:
    folder.mkdir(parents=True)
    images = [{"bytes": jpeg(k), "path": f"s{k}.jpg"} for k in range(len(numbers))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(
        pa.table({"image": pa.array(images, kind), "label": pa.array(numbers, pa.int64())}), folder / "0.parquet"
    )


def arrow(folder: Path, numbers: list[int]) -> None:
    table(folder, numbers)
    made = pq.read_table(folder / "0.parquet")
    (folder / "0.parquet").unlink()
    with pa.OSFile(str(folder / "0.arrow"), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as stream:
        stream.write_table(made)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "0.arrow"}]}))


def flat(folder: Path, numbers: list[int]) -> None:
    folder.mkdir(parents=True)
    for k in range(len(numbers)):
        (folder / f"s{k}.jpg").write_bytes(jpeg(k))
    (folder / "val.txt").write_text("".join(f"s{k}.jpg {number}\n" for k, number in enumerate(numbers)))


WRITERS = [shards, table, arrow, flat]
Writer = Callable[[Path, list[int]], None]


def stated(root: Path, line: str) -> Path:
    path = root / "data.toml"
    path.write_text(f'root = "."\n[classes]\n{line}\n')
    return path


@pytest.mark.parametrize("write", WRITERS)
def test_a_class_that_the_set_does_not_hold_is_refused(tmp_path: Path, write: Writer) -> None:
    """The smallest case: one picture of class 0, which is none of ImageNet-A's, beside one that is."""
    write(tmp_path / "imagenet-a", [0, A[3]])
    with pytest.raises(
        DataError, match=r"1 images are of 1 class\(es\) that are none of this set's 200, such as n01440764"
    ):
        ImageNetTree(tmp_path).split("a")


@pytest.mark.parametrize("write", WRITERS)
def test_the_sets_own_numbers_are_asked_about_and_taken_when_stated(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "imagenet-a", list(range(200)))
    with pytest.raises(
        DataError, match=r"the numbers 0 to 199 without class names.*\[classes\] a = \"imagenet\" or a = \"a\""
    ):
        ImageNetTree(tmp_path).split("a")
    split = ImageNetTree(stated(tmp_path, 'a = "a"')).split("a")
    assert split.labels[[int(str(one).split(".")[0][1:]) == 7 for one in split.ids]].tolist() == [A[7]]
    assert sorted(split.labels.tolist()) == sorted(A)
    with pytest.raises(DataError, match="none of this set's 200"):
        ImageNetTree(stated(tmp_path, 'a = "imagenet"')).split("a")


@pytest.mark.parametrize("write", WRITERS)
def test_a_list_in_order_says_what_the_numbers_mean(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "val", [0, 1, 2, 2])
    with pytest.raises(DataError, match=r'clean = "imagenet" or clean = \[the 3 wnids in order\]'):
        ImageNetTree(tmp_path).split("clean")
    split = ImageNetTree(stated(tmp_path, f"clean = {json.dumps(OTHERS)}")).split("clean")
    assert split.labels.tolist() == [340, 7, 999, 999]
    assert split.classes == (7, 340, 999)
    as_imagenets = ImageNetTree(stated(tmp_path, 'clean = "imagenet"')).split("clean")
    assert (as_imagenets.labels.tolist(), as_imagenets.classes) == ([0, 1, 2, 2], None)
    present = ImageNetTree(stated(tmp_path, 'clean = "present"')).split("clean")
    assert (present.labels.tolist(), present.classes) == ([0, 1, 2, 2], (0, 1, 2))


@pytest.mark.parametrize("write", [shards, table])
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classnames.txt", "\n".join(OTHERS)),
        ("classnames.txt", "\n".join(wnids.names()[label].split(",")[0] for label in (340, 7, 999))),
        ("info.json", json.dumps({"name": "mine", "class_names": OTHERS})),
        ("info.json", json.dumps({"classes": {str(k): name for k, name in enumerate(OTHERS)}})),
    ],
)
def test_names_beside_the_pictures_are_used(tmp_path: Path, write: Writer, file: str, content: str) -> None:
    write(tmp_path / "val", [0, 1, 2])
    (tmp_path / "val" / file).write_text(content)
    assert ImageNetTree(tmp_path).split("clean").labels.tolist() == [340, 7, 999]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("classnames.txt", "cat\ndog\nhorse", "are neither wnids nor"),
        ("classnames.txt", "\n".join(OTHERS[:2]), "names 2 classes, and a label is 2"),
        ("info.json", "{", "cannot be read as class names"),
        ("info.json", "[" * 100_000, "cannot be read as class names"),
    ],
)
def test_names_that_say_nothing_are_refused(tmp_path: Path, file: str, content: str, reason: str) -> None:
    shards(tmp_path / "val", [0, 1, 2])
    (tmp_path / "val" / file).write_text(content)
    with pytest.raises(DataError, match=reason):
        ImageNetTree(tmp_path).split("clean")


def test_numbers_with_gaps_are_imagenets(tmp_path: Path) -> None:
    for write, name in ((shards, "val"), (table, "sketch")):
        write(tmp_path / name, [0, 1, 3])
    source = ImageNetTree(tmp_path)
    assert source.split("clean").labels.tolist() == source.split("sketch").labels.tolist() == [0, 1, 3]


def test_run_and_data_check_ask_in_the_same_words(tmp_path: Path) -> None:
    shards(tmp_path / "val", [0, 1, 2])
    checked = CliRunner().invoke(main, ["data", "check", str(tmp_path)])
    assert checked.exit_code == 1
    assert "the numbers 0 to 2 without class names" in " ".join(checked.output.split())


# --- lists of validation labels ---------------------------------------------------------------------------------------


def pictures(folder: Path, count: int = 3) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"ILSVRC2012_val_{k:08}" for k in range(1, count + 1)]
    for k, name in enumerate(names):
        (folder / f"{name}.JPEG").write_bytes(jpeg(k))
    return names


@pytest.mark.parametrize("inside", [True, False])
def test_kaggles_list(tmp_path: Path, inside: bool) -> None:
    names = pictures(tmp_path / "val")
    lines = ["ImageId,PredictionString"]
    lines += [f"{name},{wnid} 85 1 499 272 {wnid} 2 2 9 9 " for name, wnid in zip(names[::-1], OTHERS, strict=True)]
    (tmp_path / ("val" if inside else ".") / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    split = ImageNetTree(tmp_path).split("clean")
    assert split.labels.tolist() == [999, 7, 340]


def test_the_devkits_list_needs_its_meta(tmp_path: Path) -> None:
    """ILSVRC2012_IDs are no sorted wnids: 1, 2, 3 are other classes than 0, 1, 2."""
    pictures(tmp_path / "val")
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n2\n")
    with pytest.raises(
        DataError, match=r"ILSVRC2012_IDs, which are no sorted wnids; put the devkit's meta\.mat beside it"
    ):
        ImageNetTree(tmp_path).split("clean")
    synsets = np.array([(k + 1, wnid) for k, wnid in enumerate(OTHERS)], dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    savemat(tmp_path / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    assert ImageNetTree(tmp_path).split("clean").labels.tolist() == [999, 340, 7]
    (tmp_path / "meta.mat").write_bytes(b"x" * 200)
    with pytest.raises(DataError, match="take both from one devkit"):
        ImageNetTree(tmp_path).split("clean")
