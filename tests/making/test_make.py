"""Making ImageNet-C on disk: the official layout, the same bytes however it is made, nothing half written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_corruptions import picture

from nsbench.corruptions import corrupt
from nsbench.data import wnids
from nsbench.data.corrupted import resize_and_crop
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.made import MARKER, marker_of
from nsbench.data.trees import FolderTree
from nsbench.errors import DataError, UnknownName, UsageError
from nsbench.making import imagenet_c as make
from nsbench.making.folder import Made
from nsbench.making.imagenet_c import make_imagenet_c

CHOICE = {"corruptions": ("fog", "shot_noise"), "severities": (1, 4)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An ImageNet tree of five images in three classes, not square, one of them a PNG."""
    for k in range(5):
        folder = tmp_path / "source" / "val" / wnids.wnids()[k % 3 * 7]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"ILSVRC2012_val_{k:08d}" + (".png" if k == 4 else ".JPEG")
        Image.fromarray(picture(300, k)[: 300 - 10 * k]).save(folder / name)
    return tmp_path / "source"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".lock"}  # fmt: skip


def test_official_layout_and_pixels(source: Path, tmp_path: Path) -> None:
    made = make_imagenet_c(source, tmp_path / "out", workers=1, **CHOICE)
    assert (made.images, made.written, made.kept, made.unreadable) == (5, 20, 0, {})
    assert {path.parent.relative_to(made.folder).as_posix() for path in made.folder.rglob("*.JPEG")} == {
        f"{name}/{severity}/{wnids.wnids()[k]}" for name in CHOICE["corruptions"] for severity in (1, 4)
        for k in (0, 7, 14)}  # fmt: skip
    split = ImageNetTree(source).split("clean")
    for index, (image_id, name) in enumerate(zip(split.ids, split.names, strict=True)):
        image = np.asarray(resize_and_crop(split.load(index)))
        path = (made.folder / "fog" / "4" / name).with_suffix(".JPEG")
        written = np.asarray(Image.open(path))
        assert written.shape == (224, 224, 3)
        expected = corrupt(image, "fog", 4, seed=0, image_id=str(image_id), engine="nsbench")
        assert np.abs(written.astype(float) - expected).mean() < 3  # JPEG of quality 85
        Image.fromarray(expected).save(tmp_path / "expected.JPEG", quality=85)
        assert path.read_bytes() == (tmp_path / "expected.JPEG").read_bytes()


def test_the_same_bytes_at_any_number_of_workers(source: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(make, "PIECE", 4)  # several pieces of work
    folders = [make_imagenet_c(source, tmp_path / str(workers), workers=workers, **CHOICE).folder for workers in (1, 2)]
    assert files(folders[0]) == files(folders[1])
    assert len(files(folders[0])) == 20 + 4


def test_a_second_run_makes_what_is_missing_or_spoiled(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_imagenet_c(source, out, workers=1, **CHOICE)
    expected = files(out)
    images = sorted(out.rglob("*.JPEG"))
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:500])
    images[2].write_bytes(b"")
    again = make_imagenet_c(source, out, workers=1, **CHOICE)
    assert (again.written, again.kept) == (3, 17)
    assert files(out) == expected
    further = make_imagenet_c(source, out, corruptions=("fog",), severities=(1, 2), workers=1)
    assert (further.written, further.kept) == (5, 5)


def test_killed_and_run_again(source: Path, tmp_path: Path) -> None:
    """kill -9 in the middle: every file is whole, no process stays behind, and the second run gives the same bytes."""
    for k in range(5, 40):
        Image.fromarray(picture(300, k)).save(source / "val" / wnids.wnids()[0] / f"ILSVRC2012_val_{k:08d}.JPEG")
    out, severities = tmp_path / "out", (1, 2, 3, 4, 5)
    code = (
        f"from nsbench.making import imagenet_c as make\nif __name__ == '__main__':\n"
        f"    make.make_imagenet_c({str(source)!r}, {str(out)!r}, workers=2, severities={severities},"
        f" corruptions=('fog', 'elastic_transform', 'glass_blur'))\n"
    )
    (tmp_path / "run.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], env=environment)
    try:
        while len(list(out.rglob("*.JPEG"))) < 40:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(2.5)  # the workers see within a second that they are alone
    done = sorted(out.rglob("*.JPEG"))
    assert 40 <= len(done) < 600
    for path in done:
        Image.open(path).load()
    with pytest.raises(DataError, match=r"fog.1: was not finished"):
        marker_of(FolderTree(out / "fog" / "1"))
    rest = make_imagenet_c(source, out, workers=1, corruptions=("fog", "elastic_transform", "glass_blur"))
    assert rest.kept == len(done), "workers went on after the kill"
    assert not list(out.rglob("*.part"))
    fresh = make_imagenet_c(
        source, tmp_path / "fresh", workers=1, corruptions=("fog", "elastic_transform", "glass_blur")
    )
    assert files(fresh.folder) == files(out)


def test_the_marker_tells_how_the_set_was_made(source: Path, tmp_path: Path) -> None:
    out = make_imagenet_c(source, tmp_path / "imagenet-c", workers=1, **CHOICE).folder
    marker = json.loads((out / "fog" / "4" / MARKER).read_text())
    assert (
        marker["origin"],
        marker["corruption"],
        marker["severity"],
        marker["seed"],
        marker["jpeg_quality"],
        marker["images"],
        marker["complete"],
    ) == ("generated-jpeg", "fog", 4, 0, 85, 5, True)
    assert marker["engine"].startswith("nsbench corruptions")
    assert marker["source"] == ImageNetTree(source).split("clean").digest


def test_readers_tell_made_from_official(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    make_imagenet_c(source, root / "imagenet-c", workers=1, **CHOICE)
    split = ImageNetTree(root).split("c/fog/4")
    assert len(split) == 5
    assert split.origin == split.limited(2).origin == "generated-jpeg"
    archived = tmp_path / "archived" / "imagenet-c"
    archived.mkdir(parents=True)
    with tarfile.open(archived / "fog.tar", "w") as archive:
        archive.add(root / "imagenet-c" / "fog", "fog")
    assert ImageNetTree(archived.parent).split("c/fog/4").origin == "generated-jpeg"
    for marker in root.rglob(MARKER):
        marker.unlink()
    assert ImageNetTree(root).split("c/fog/4").origin == "official"


def test_unreadable_images_are_named_and_the_rest_is_made(source: Path, tmp_path: Path) -> None:
    broken = next((source / "val").rglob("*00000002.JPEG"))
    broken.write_bytes(broken.read_bytes()[:200])
    made = make_imagenet_c(source, tmp_path / "out", workers=1, **CHOICE)
    assert made.written == 16
    assert list(made.unreadable) == [broken.stem]
    assert str(broken) in str(made)
    assert json.loads((made.folder / "fog" / "1" / MARKER).read_text())["unreadable"] == list(made.unreadable)


def test_other_peoples_images_are_not_mixed_in(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "fog" / "1" / "n01440764").mkdir(parents=True)
    with pytest.raises(DataError, match=r"fog.1: holds files that nsbench did not make"):
        make_imagenet_c(source, out, workers=1, **CHOICE)
    made = make_imagenet_c(source, tmp_path / "made", workers=1, **CHOICE).folder
    with pytest.raises(DataError, match="was made with another engine"):
        make_imagenet_c(source, made, workers=1, engine="imagecorruptions", **CHOICE)
    next((source / "val").rglob("*00000003.JPEG")).unlink()
    with pytest.raises(DataError, match="was made with another source"):
        make_imagenet_c(source, made, workers=1, **CHOICE)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_cannot_be_written(source: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"out: cannot be written"):
        make_imagenet_c(source, tmp_path / "file" / "out", workers=workers, **CHOICE)
    folder = make_imagenet_c(source, tmp_path / "out", workers=1, **CHOICE).folder / "fog" / "1" / wnids.wnids()[0]
    shutil.rmtree(folder)
    folder.write_text("a file where a folder belongs")
    with pytest.raises(DataError, match=r"out: cannot be written .*what is done is kept"):
        make_imagenet_c(source, tmp_path / "out", workers=workers, **CHOICE)


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch) -> None:
    write_bytes, left = Path.write_bytes, iter(range(7))

    def write_until_full(path: Path, content: bytes) -> int:
        if path.suffix == ".part" and next(left, None) is None:
            write_bytes(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_until_full)
        with pytest.raises(
            DataError, match=r"out: cannot be written \(No space left on device\); make room .* is kept"
        ):
            make_imagenet_c(source, tmp_path / "out", workers=1, **CHOICE)
    assert len(list((tmp_path / "out").rglob("*.JPEG"))) == 7
    assert not list((tmp_path / "out").rglob("*.part"))
    made = make_imagenet_c(source, tmp_path / "out", workers=1, **CHOICE)
    assert (made.written, made.kept) == (13, 7)


def test_wrong_use(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="corruption 'rain'"):
        make_imagenet_c(source, tmp_path / "out", corruptions=("rain",))
    with pytest.raises(UsageError, match="severity 6"):
        make_imagenet_c(source, tmp_path / "out", severities=(6,))
    with pytest.raises(UsageError, match="0 workers"):
        make_imagenet_c(source, tmp_path / "out", workers=0, **CHOICE)
    copy = next((source / "val").rglob("*00000004.png"))
    copy.with_suffix(".JPEG").write_bytes(copy.read_bytes())
    with pytest.raises(DataError, match="would be written to the same file"):
        make_imagenet_c(source, tmp_path / "out", workers=1, **CHOICE)
    assert not (tmp_path / "out").exists()


def test_the_summary_is_one_line() -> None:
    assert "\n" not in str(Made(Path("out"), 5, 20, 0, {"a": "a: cannot be decoded"}, 1.0))
