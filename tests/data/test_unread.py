"""Pictures inside a set that are not read are counted and named, by `run` and by `data check`, in the same words."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from containers import jpeg, write_tar, write_zip
from PIL import Image

from nsbench.cli import main
from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.unread import unread_words

CLASSES = [wnids.wnids()[label] for label in (3, 400, 999)]


def encoded(kind: str, seed: int = 0) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def val(root: Path, extra: dict[str, bytes]) -> Path:
    files = {f"{wnid}/{k}.JPEG": jpeg(k) for k, wnid in enumerate(CLASSES)} | extra
    for name, content in files.items():
        path = root / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


UNREAD = {
    "loose in the root": {f"ILSVRC2012_val_{k:08}.JPEG": jpeg(k) for k in range(10)},
    "nested": {f"{CLASSES[0]}/extra/1.JPEG": jpeg(1)},
    "another format": {f"{CLASSES[0]}/1.gif": encoded("GIF")},
    "a picture without its suffix": {f"{CLASSES[0]}/1": encoded("PNG")},
    "a picture that is called a text of no kind": {f"{CLASSES[0]}/1.bak": jpeg(1)},
}
CLUTTER = {
    ".DS_Store": b"x",
    f"{CLASSES[0]}/._0.JPEG": jpeg(0),
    "__MACOSX/0.JPEG": jpeg(0),
    "README.md": b"about",
    "Thumbs.db": b"x",
    f"{CLASSES[0]}/notes": b"no picture",
    f"{CLASSES[0]}/empty": b"",
}


@pytest.mark.parametrize("kind", UNREAD)
def test_they_are_counted_and_named(tmp_path: Path, kind: str) -> None:
    split = ImageNetTree(val(tmp_path, UNREAD[kind])).split("clean")
    assert (len(split), split.unread) == (3, tuple(sorted(UNREAD[kind])))
    words = unread_words(split)
    assert words.startswith(f"{len(UNREAD[kind])} picture")
    assert min(UNREAD[kind]) in words
    assert split.limited(2).unread == split.unread


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_in_archives_too(tmp_path: Path, write: object) -> None:
    files = {f"val/{wnid}/{k}.JPEG": jpeg(k) for k, wnid in enumerate(CLASSES)}
    files |= {"val/loose.JPEG": jpeg(1), f"val/{CLASSES[0]}/more/2": encoded("PNG"), "__MACOSX/val/._x.JPEG": b"x"}
    write(tmp_path / ("val.tar" if write is write_tar else "val.zip"), files)  # type: ignore[operator]
    split = ImageNetTree(tmp_path).split("clean")
    assert split.unread == ("loose.JPEG", f"{CLASSES[0]}/more/2")


def test_clutter_is_passed_over(tmp_path: Path) -> None:
    split = ImageNetTree(val(tmp_path, CLUTTER)).split("clean")
    assert (len(split), split.unread) == (3, ())


@pytest.mark.parametrize(("kind", "suffix"), [("TIFF", "tif"), ("TIFF", "TIFF"), ("WEBP", "webp"), ("BMP", "bmp")])
def test_other_formats_that_are_known_are_read(tmp_path: Path, kind: str, suffix: str) -> None:
    split = ImageNetTree(val(tmp_path, {f"{CLASSES[0]}/9.{suffix}": encoded(kind)})).split("clean")
    assert (len(split), split.unread) == (4, ())
    index = split.names.index(f"{CLASSES[0]}/9.{suffix}")
    assert split.load(index).size == (50, 40)


def test_run_refuses_the_set_and_takes_it_when_told_to(tmp_path: Path, shared_data: Path) -> None:
    val(tmp_path, UNREAD["loose in the root"])
    weights = next((shared_data / "weights").glob("vit_tiny*.safetensors"))
    results = tmp_path / "results"
    command = ["run", "--method", "pretrained", "--suite", "clean", "--data", str(tmp_path), "--model",
               "vit_tiny_patch16_224", "--checkpoint", str(weights), "--results", str(results)]  # fmt: skip
    refused = CliRunner().invoke(main, command)
    words = "10 pictures inside 'clean' not read, such as ILSVRC2012_val_00000000.JPEG"
    assert refused.exit_code == 1
    assert words in " ".join(refused.output.split())
    checked = CliRunner().invoke(main, ["data", "check", str(tmp_path)])
    assert checked.exit_code == 1
    assert words in " ".join(checked.output.split())
    taken = CliRunner().invoke(main, [*command, "--allow-missing"])
    assert taken.exit_code == 0, taken.output
    from nsbench.results import read_results

    (stored,), _ = read_results(results)
    assert (stored.conditions[0].n, stored.conditions[0].unread) == (3, 10)
