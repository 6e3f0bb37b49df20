"""shapes10: the same pictures everywhere, splits that mean what they say, a cache that survives everything."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from nsbench.errors import DataError, MissingSplit
from nsbench.progress import SILENT
from nsbench.shapes10 import Shapes10, cache, make, splits
from nsbench.shapes10.scenes import draw
from nsbench.shapes10.shapes import CLASS_NAMES, SHAPES
from nsbench.shapes10.surrogate import load_network, predict

ROOT = Path(__file__).parents[2]
FEW = 60  # images per split in these tests
SIZES = {**{name: drawn.count for name, drawn in splits.DRAWN.items()}, "a": make.HARD, "c": make.CORRUPTED}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shapes10]:
    """shapes10 with few images per split and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, drawn in splits.DRAWN.items():
            patch.setitem(splits.DRAWN, name, replace(drawn, count=FEW))
        patch.setattr(make, "HARD", 18)
        patch.setattr(make, "MOST", 3)
        patch.setattr(make, "CORRUPTED", 4)
        make._recipe_digest.cache_clear()
        yield Shapes10()
    make._recipe_digest.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path))
    return tmp_path / "shapes10"


def few_records(n: int = 5) -> np.ndarray:
    indices = np.arange(n)
    return cache.records_of(make.image_ids("clean", indices), indices % 10, splits.render("clean", indices))


# --- pictures ---------------------------------------------------------------------------------------------------


def test_a_picture_depends_on_its_split_and_index_alone() -> None:
    together = splits.render("clean", np.array([3, 7, 5, 120]))
    assert np.array_equal(together[1], splits.render("clean", np.array([7]))[0])
    assert not np.array_equal(together[1], splits.render("train", np.array([7]))[0])


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        ("train", "66a1e10991f52ca0"),
        ("v2", "190553fbd8d3c516"),
        ("a", "83c4670997c6d61f"),
        ("r", "0a99fb8ae7a0c3a7"),
        ("sketch", "a8d3a43957d14a25"),
        ("stylized", "2d594bc46699f344"),
    ],
)
def test_every_machine_draws_the_same_bytes(split: str, digest: str) -> None:
    images = splits.render(split, np.arange(54))
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_distances_have_slope_one_and_a_shape_of_fair_size(label: int) -> None:
    axis = np.linspace(-1.5, 1.5, 301)
    x, y = np.broadcast_to(axis, (2, 301, 301)), np.broadcast_to(axis[:, None], (2, 301, 301))
    away = SHAPES[label](x, y, np.array([0.0, 1.0])[:, None, None])
    inside = (away < 0).mean(axis=(1, 2)) * 9.0  # area in squared radii
    assert ((inside > 0.7) & (inside < 3.0)).all()
    down, across = np.gradient(away, axis[1] - axis[0], axis=(1, 2))
    slope = np.hypot(down, across)
    assert slope.max() < 1.42  # a distance never changes faster; kinks seen across one step allow sqrt(2)
    assert np.median(slope) == pytest.approx(1.0, abs=0.01)


# --- splits -----------------------------------------------------------------------------------------------------


def test_every_split_of_the_vocabulary_is_there(source: Shapes10) -> None:
    names = source.splits()
    assert set(make.PLAIN_SPLITS) <= set(names)
    assert len([name for name in names if name.startswith("c/")]) == 75


def test_sizes_of_the_real_splits() -> None:
    assert SIZES == {
        "train": 20_000, "clean": 1000, "v2": 1000, "a": 500, "r": 600, "sketch": 1000, "stylized": 1000, "c": 500,
    }  # fmt: skip


def test_a_and_r_have_six_classes_four_in_common(source: Shapes10) -> None:
    a, r = source.split("a"), source.split("r")
    assert a.classes is not None
    assert r.classes is not None
    assert (len(a.classes), len(r.classes), len(set(a.classes) & set(r.classes))) == (6, 6, 4)
    assert set(a.labels) == set(a.classes)
    assert set(r.labels) == set(r.classes)


def test_every_image_of_a_fools_the_reference(source: Shapes10) -> None:
    a = source.split("a")
    assert (predict(load_network("reference"), a.images, splits.A_CLASSES) != a.labels).all()
    assert len(a) == 18
    assert np.bincount(a.labels, minlength=10).max() == 3


def test_reference_and_surrogate_know_clean_images() -> None:
    indices = np.arange(200)
    images, labels = splits.render("clean", indices), splits.labels_of(splits.DRAWN["clean"], indices)
    for name in ("reference", "surrogate"):
        assert (predict(load_network(name), images, splits.ALL) == labels).mean() >= 0.95


def test_damagenet_is_clean_within_its_bound_and_fools_the_surrogate(source: Shapes10) -> None:
    clean, damaged = source.split("clean"), source.split("damagenet")
    assert np.array_equal(clean.labels, damaged.labels)
    change = np.abs(damaged.images.astype(int) - clean.images.astype(int))
    assert 20 <= change.max() <= 25
    assert (predict(load_network("surrogate"), damaged.images, splits.ALL) == damaged.labels).mean() < 0.1


def test_sketches_are_black_on_white(source: Shapes10) -> None:
    images = source.split("sketch").images
    assert (images[..., 0] == images[..., 1]).all()
    assert (images[..., 0] == images[..., 2]).all()
    assert np.median(images) == 255
    assert (images.min(axis=(1, 2, 3)) < 128).all()


def test_stylized_never_wears_the_pattern_of_its_class() -> None:
    indices = np.arange(300)
    drawn = splits.DRAWN["stylized"]
    labels = splits.labels_of(drawn, indices)
    scene = draw("stylized", indices, labels, drawn.style)
    assert (scene.fill_pattern != labels).all()
    assert (scene.fill_pattern < 10).all()


def test_v2_is_not_clean(source: Shapes10) -> None:
    assert not np.array_equal(source.split("v2").images, source.split("clean").images)


def test_corrupted_splits_keep_the_ids_of_clean(source: Shapes10) -> None:
    clean, chosen = source.split("clean"), source.split("clean").limited(4)
    mild, strong = source.split("c/gaussian_noise/1"), source.split("c/gaussian_noise/5")
    assert list(mild.ids) == list(chosen.ids) == list(strong.ids)
    assert list(mild.labels) == list(chosen.labels)
    rows = [list(clean.ids).index(image_id) for image_id in mild.ids]
    error = [np.abs(split.images.astype(int) - clean.images[rows]).mean() for split in (mild, strong)]
    assert 0 < error[0] < error[1]
    assert all(make.path_of(name).exists() for name in source.splits() if name.startswith("c/"))  # made together


def test_split_loads_rgb_and_travels_light(source: Shapes10) -> None:
    split = source.split("clean")
    packed = pickle.dumps(split)
    assert len(packed) < 20_000
    copy = pickle.loads(packed)
    image = copy.load(3)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size, split.origin) == ("RGB", (48, 48), "embedded")
    assert np.array_equal(np.asarray(image), splits.render("clean", np.array([3]))[0])
    assert copy.digest == split.digest


def test_unknown_split_lists_the_known_ones(source: Shapes10) -> None:
    with pytest.raises(MissingSplit, match=r"no split 'val'; known: train, clean, v2.*fog"):
        source.split("val")


# --- cache ------------------------------------------------------------------------------------------------------


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
    assert not list(folder.glob("*.draft"))


def test_unwritable_cache_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set NSBENCH_CACHE"):
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
    assert not list(folder.glob(".*draft"))


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


# --- what is shipped ----------------------------------------------------------------------------------------------


def test_the_shipped_transformer_reaches_97_percent_on_clean() -> None:
    from nsbench.models import load_model

    model = load_model("vit_shapes10").eval()
    indices = np.arange(1000)
    images = torch.from_numpy(splits.render("clean", indices)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        predictions = torch.cat([model(part).argmax(dim=1) for part in images.split(250)]).numpy()
    assert (predictions == splits.labels_of(splits.DRAWN["clean"], indices)).mean() >= 0.97


def test_weights_are_small() -> None:
    weights = ROOT / "nsbench" / "models" / "weights"
    assert (weights / "vit_shapes10.safetensors").stat().st_size < 4_000_000
    for name in ("reference", "surrogate"):
        assert (weights / f"shapes10_{name}.safetensors").stat().st_size < 150_000


def test_pretraining_writes_a_network_that_loads(source: Shapes10, tmp_path: Path) -> None:
    from safetensors import safe_open

    from nsbench.shapes10.pretrain import main

    splits.DRAWN["train"] = replace(splits.DRAWN["train"], count=256)
    make._recipe_digest.cache_clear()
    arguments = ["--out", str(tmp_path), "--epochs", "1", "--only", "vit"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    from nsbench.models import load_model

    load_model("vit_shapes10", checkpoint=tmp_path / "vit_shapes10.safetensors")
    with safe_open(tmp_path / "vit_shapes10.safetensors", "pt") as file:
        assert float(file.metadata()["clean_top1"]) <= 100
        assert file.metadata()["train"] == source.split("train").digest


def test_sheet_shows_every_split(source: Shapes10, tmp_path: Path) -> None:
    from nsbench.shapes10.sheet import write_sheet

    write_sheet(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1700
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 10_000
