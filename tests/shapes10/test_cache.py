"""The cache: a file is whole or not there, two processes share the work, a killed one blocks nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nsbench.errors import DataError
from nsbench.progress import SILENT
from nsbench.shapes10 import Shapes10, cache, make, splits

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path))
    return tmp_path / "shapes10"


def few_records(n: int = 5) -> np.ndarray:
    indices = np.arange(n)
    return cache.records_of(make.image_ids("clean", indices), indices % 10, splits.render("clean", indices))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_a_damaged_file_is_made_again(source: Shapes10, damage: str) -> None:
    before = source.split("sketch")
    path, whole = before.path, before.path.read_bytes()
    flipped = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    path.write_bytes({"flip": flipped, "cut": whole[:-700], "empty": b"", "foreign": b"not an array" * 50}[damage])
    assert cache.read(path) is None
    assert source.split("sketch").digest == before.digest
    assert path.read_bytes() == whole


def test_digest_changes_with_ids_labels_and_pixels() -> None:
    digests = {cache.content_digest(few_records())}
    for name in ("id", "label", "image"):
        records = few_records()
        if name == "image":
            records["image"][2, 5, 5, 1] ^= 1
        else:
            records[name][2] = "other" if name == "id" else 9
        digests.add(cache.content_digest(records))
    assert len(digests) == 4


def test_failure_while_making_leaves_nothing_behind(folder: Path) -> None:
    def fail(missing: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
        yield missing[0], few_records()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        cache.fetch([folder / "one.npy", folder / "two.npy"], fail)
    assert cache.read(folder / "one.npy") is not None
    assert not (folder / "two.npy").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["one.lock", "one.npy"]


def test_unwritable_cache_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"shapes10: cannot be written \(.*\); free some space or point NSBENCH_CACHE"):
        Shapes10().split("v2")


def _start(code: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "NSBENCH_CACHE": str(folder.parent), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_end_with_the_same_file(folder: Path) -> None:
    code = "from nsbench.shapes10 import Shapes10; print(Shapes10().split('clean').digest)"
    both = [_start(code, folder) for _ in range(2)]
    digests = [process.communicate(timeout=60)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert digests[0] == digests[1] != ""
    assert len(list(folder.glob("clean.*.npy"))) == 1
    assert not list(folder.glob(".*"))


def test_a_killed_process_blocks_nobody(folder: Path) -> None:
    code = (
        "import time; from nsbench.shapes10 import cache\n"
        "def make(missing): print('making', flush=True); time.sleep(60); yield\n"
        "cache.fetch([cache.folder() / 'one.npy'], make)"
    )
    process = _start(code, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "making\n"
    process.kill()
    process.wait()
    start = time.time()
    cache.fetch([folder / "one.npy"], lambda missing: iter([(missing[0], few_records())]))
    assert time.time() - start < 5
    assert cache.read(folder / "one.npy") is not None


def test_work_in_processes_comes_back_in_order() -> None:
    jobs = [("clean", np.arange(start, start + 3)) for start in (0, 3, 6, 9)]
    pieces = list(cache.spread(splits.render, jobs, SILENT, "test", 3))
    assert np.array_equal(np.concatenate(pieces), splits.render("clean", np.arange(12)))


def test_a_script_without_a_guard_ends(tmp_path: Path) -> None:
    """Workers import it and come to the same call, while their parent holds the lock and waits for them."""
    script = tmp_path / "script.py"
    script.write_text(
        "import nsbench as nb\nfrom nsbench.shapes10 import make\n\n"
        "print('imported', flush=True)\n"
        "make.PIECE = 50  # so that there is enough to divide\n"
        "print(len(nb.open_source('shapes10').split('v2').ids))\n"
    )
    environment = {**os.environ, "NSBENCH_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=200, check=False
    )
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["1000"]), done.stderr
    assert done.stdout.count("imported") > 1  # workers were started, and came to it
