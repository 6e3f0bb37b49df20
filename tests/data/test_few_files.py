"""How many files are open at a time: a suite of 75 sets works where a process may hold 64."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from containers import Pictures, as_folder, as_shards, write_tar

from nsbench.corruptions import CORRUPTIONS, SEVERITIES
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.kept import mapped_array
from nsbench.shapes10 import Shapes10

own_cache = pytest.mark.usefixtures("own_cache")
REPOSITORY = Path(__file__).parents[2]
FEW = 64  # files that a process may hold


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def as_one_tar(root: Path, pictures: Pictures) -> None:
    files = {f"{c}/{s}/{name}": content for c in CORRUPTIONS for s in SEVERITIES for name, content in pictures.items()}
    write_tar(root / "imagenet-c.tar", files)


def as_tars(root: Path, pictures: Pictures) -> None:
    for corruption in CORRUPTIONS:
        files = {f"{s}/{name}": content for s in SEVERITIES for name, content in pictures.items()}
        write_tar(root / "imagenet-c" / f"{corruption}.tar", files)


def as_folders(root: Path, pictures: Pictures) -> None:
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            for name, content in pictures.items():
                path = root / "imagenet-c" / corruption / str(severity) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


@own_cache
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted under Linux")
@pytest.mark.parametrize("write", [as_one_tar, as_tars, as_folders])
def test_corrupted_sets_hold_no_file_open(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    few = dict(list(pictures.items())[:2])
    as_folder(tmp_path, few)
    write(tmp_path, few)
    source, before = ImageNetTree(tmp_path), open_files()
    splits = [source.split(name) for name in source.splits()]
    assert len(splits) == 76
    assert all(split.load(1).size == (40, 36) for split in splits)
    assert open_files() <= before + 1


@own_cache
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted under Linux")
def test_shards_hold_no_file_open(tmp_path: Path, pictures: Pictures) -> None:
    as_shards(tmp_path, pictures)
    before = open_files()
    split = ImageNetTree(tmp_path).split("clean")
    assert [split.load(k).size for k in range(len(split))] == [(40, 36)] * len(pictures)
    assert open_files() <= before + 1


@own_cache
@pytest.mark.parametrize("kind", ["<i8", [("id", "U4"), ("image", "u1", (2, 2))]])
def test_a_mapped_array_is_numpys(tmp_path: Path, kind: object) -> None:
    array = np.zeros(5, dtype=kind)
    for version in ((1, 0), (2, 0)):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, array, version=version)
            file.write(b"behind it")
        mapped = mapped_array(tmp_path / "a.npy")
        assert mapped.dtype == array.dtype
        assert (mapped == array).all()
    np.save(tmp_path / "f.npy", np.asfortranarray(np.ones((2, 3))))
    with pytest.raises(ValueError, match="an array of another kind"):
        mapped_array(tmp_path / "f.npy")


def test_the_suite_runs_with_few_files() -> None:
    """All 75 corrupted sets of shapes10, of which as many are open as the suite has conditions."""
    Shapes10().split("c/fog/1")
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW}, {FEW}))\n"
        "from nsbench.shapes10 import Shapes10\n"
        "from nsbench.shapes10.make import split_names\n"
        "source = Shapes10(); names = [name for name in split_names() if name.startswith('c/')]\n"
        "assert len(names) == 75\n"
        "splits = [source.split('c/fog/1') for _ in names]\n"
        "print(sum(split.load(3).size[0] for split in splits))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == str(75 * 48), done.stderr


@own_cache
def test_workers_with_few_files(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW}, {FEW}))\n"
        "import torch\n"
        "from pathlib import Path\n"
        "from nsbench.data.imagenet import ImageNetTree\n"
        "from nsbench.data.loading import batches\n"
        f"split = ImageNetTree(Path({str(tmp_path)!r})).split('clean')\n"
        "black = lambda image: torch.zeros(3, 4, 4, dtype=torch.uint8)\n"
        "print(sum(len(batch) for batch in batches(split, black, batch_size=1, workers=9)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == str(len(pictures)), done.stderr
