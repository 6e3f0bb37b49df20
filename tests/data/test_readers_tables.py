"""Tables of every type that holds the same pictures, and damaged ones: the figures of the folder, or one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from containers import Pictures, as_parquet, as_saved, jpeg
from layouts import put

from nsbench.data.imagenet import ImageNetTree
from nsbench.data.own import OwnSource

pytestmark = pytest.mark.usefixtures("own_cache")
CLASSES = ("cat", "dog", "eel")


@pytest.fixture
def pets() -> Pictures:
    return {
        f"{part}/{name}/{name}_{part}_{k}.jpg": jpeg(10 * label + k)
        for part in ("train", "val")
        for label, name in enumerate(CLASSES)
        for k in range(3)
    }


def as_tables(root: Path, pets: Pictures, content: pa.DataType, text: pa.DataType, write: Callable) -> None:
    for part in ("train", "val"):
        mine = {name: one for name, one in pets.items() if name.startswith(part)}
        pictures = pa.array(list(mine.values()), pa.binary()).cast(content)
        paths = pa.array([name.split("/")[2] for name in mine], pa.string()).cast(text)
        labels = pa.array([name.split("/")[1] for name in mine]).cast(text)
        images = pa.StructArray.from_arrays([pictures, paths], ["bytes", "path"])
        write(pa.table({"image": images, "label": labels}), root, part)


def parquet(table: pa.Table, root: Path, part: str) -> None:
    root.mkdir(exist_ok=True)
    pq.write_table(table, root / f"{part}-00000-of-00001.parquet")


def capitals(table: pa.Table, root: Path, part: str) -> None:
    root.mkdir(exist_ok=True)
    pq.write_table(table, root / f"{part}-00000-of-00001.PARQUET")


def saved(table: pa.Table, root: Path, part: str) -> None:
    (root / part).mkdir(parents=True)
    with pa.OSFile(str(root / part / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=4)
    (root / part / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))


@pytest.mark.parametrize("write", [parquet, capitals, saved])
@pytest.mark.parametrize("content", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
@pytest.mark.parametrize(
    "text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_type_of_a_column_gives_the_figures_of_the_folder(
    tmp_path: Path, pets: Pictures, content: pa.DataType, text: pa.DataType, write: Callable
) -> None:
    put(tmp_path / "folder", pets)
    if write is saved and pa.types.is_dictionary(text):
        text = pa.large_string()  # dictionaries inside a struct of a stream: `datasets` writes none
    as_tables(tmp_path / "tables", pets, content, text, write)
    whole = OwnSource(tmp_path / "folder").split("clean")
    ours = OwnSource(tmp_path / "tables")
    split = ours.split("clean")
    assert (ours.class_names, split.digest) == (CLASSES, whole.digest)
    assert split.ids.tolist() == whole.ids.tolist()
    assert [split.load(k).tobytes() for k in (8, 0)] == [whole.load(k).tobytes() for k in (8, 0)]


def test_a_suffix_in_capitals_is_the_same_suffix(tmp_path: Path, pictures: Pictures) -> None:
    as_parquet(tmp_path, pictures)
    before = ImageNetTree(tmp_path).split("clean").digest
    for path in (tmp_path / "data").iterdir():
        path.rename(path.with_suffix(".PARQUET"))
    assert ImageNetTree(tmp_path).split("clean").digest == before


READ = """
import sys
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError
try:
    split = ImageNetTree(sys.argv[1]).split("clean")
    print(len(split), sum(len(split.read(k)) for k in range(len(split))))
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("offset", [10**8, -5, 1])
def test_damaged_offsets_of_an_arrow_file_end_in_a_line(tmp_path: Path, pictures: Pictures, offset: int) -> None:
    """In a process of its own, which they would end."""
    as_saved(tmp_path, pictures)
    path = sorted((tmp_path / "validation").glob("*.arrow"))[0]
    sizes = [len(content) for content in list(pictures.values())[:4]]
    offsets = np.cumsum([0, *sizes]).astype("<i4")
    content = path.read_bytes()
    damaged = offsets.copy()
    damaged[2] = offset
    assert content.count(offsets.tobytes()) == 1
    path.write_bytes(content.replace(offsets.tobytes(), damaged.tobytes()))
    done = subprocess.run([sys.executable, "-c", READ, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{path}: cannot be read as arrow (" in done.stdout
    assert "Offset invariant failure" in done.stdout
    assert len(done.stdout.splitlines()) == 1
