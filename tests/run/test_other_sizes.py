"""Models of another input size than the ready-made sets: refused, or resized and labelled; C in memory is made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from torchvision.transforms.functional import center_crop, resize

from nsbench import report
from nsbench.cli import main
from nsbench.corruptions import corrupt
from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.sized import ResizedSplit, for_model
from nsbench.errors import DataError
from nsbench.leaderboard import build
from nsbench.making.imagenet_c import make_imagenet_c
from nsbench.report.numbers import average_column
from nsbench.results import Result, read_results

pytestmark = pytest.mark.usefixtures("own_cache")
CLASSES = [wnids.wnids()[k] for k in (0, 5)]


def picture(seed: int, side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures of val, and the same two in a ready-made set of 224 pixels."""
    for folder, side in (("val", 90), ("stylized", 224)):
        for k, wnid in enumerate(CLASSES):
            (tmp_path / "data" / folder / wnid).mkdir(parents=True)
            picture(k, side).save(tmp_path / "data" / folder / wnid / f"ILSVRC2012_val_0000000{k}.png")
    return tmp_path / "data"


def test_ready_images_of_the_model_s_size_are_left_alone(root: Path) -> None:
    split = ImageNetTree(root).split("stylized")
    assert for_model(split, "none", 224, False) is split
    assert for_model(split, "checkpoint", 64, False) is split, "it is not ready, and gets the checkpoint's own resize"


def test_ready_images_are_resized_only_when_it_is_asked_for(root: Path) -> None:
    split = ImageNetTree(root).split("stylized")
    with pytest.raises(
        DataError, match=r"'stylized' holds ready images of 224x224 pixels.* takes 64x64.*--resize-ready"
    ):
        for_model(split, "none", 64, False)
    resized = for_model(split, "none", 64, True)
    assert (resized.resized_from, resized.origin, resized.ids.tolist()) == (224, "official", split.ids.tolist())
    assert resized.limited(1).resized_from == 224
    expected = picture(0, 224).resize((64, 64), Image.Resampling.BICUBIC)
    assert resized.load(0).tobytes() == expected.tobytes()
    assert len({split.digest, resized.digest, for_model(split, "none", 96, True).digest}) == 3


def test_one_picture_of_another_size_among_ready_ones(root: Path) -> None:
    picture(5, 200).save(root / "stylized" / CLASSES[1] / "ILSVRC2012_val_00000001.png")
    resized = for_model(ImageNetTree(root).split("stylized"), "none", 64, True)
    assert isinstance(resized, ResizedSplit)
    with pytest.raises(DataError, match="00000001: is 200x200 pixels among images of 224x224"):
        resized.load(1)


def test_c_in_memory_is_made_at_the_model_s_size(root: Path) -> None:
    source = ImageNetTree(root)
    official = source.split("c/fog/3")
    assert for_model(official, "none", 224, False).digest == official.digest
    made = for_model(official, "none", 64, False)
    assert (made.made_at, made.resized_from, made.origin) == (64, None, "generated-memory")
    by_hand = np.asarray(center_crop(resize(picture(0, 90), [73]), [64]))  # 256 x 64 / 224
    expected = corrupt(by_hand, "fog", 3, seed=0, image_id="ILSVRC2012_val_00000000", engine="nsbench")
    assert np.array_equal(np.asarray(made.load(0)), expected)
    assert made.digest != official.digest


def test_c_on_disk_at_another_size(root: Path, tmp_path: Path) -> None:
    make_imagenet_c(root, tmp_path / "sets" / "imagenet-c", corruptions=("fog",), severities=(3,), side=64, workers=1)
    split = ImageNetTree(tmp_path / "sets").split("c/fog/3")
    assert (split.load(0).size, split.made_at, split.origin) == ((64, 64), 64, "generated-jpeg")
    assert for_model(split, "none", 64, False) is split
    official = make_imagenet_c(root, tmp_path / "224" / "imagenet-c", corruptions=("fog",), severities=(3,), workers=1)
    assert official.written == 2
    assert ImageNetTree(tmp_path / "224").split("c/fog/3").made_at is None


def test_run_says_so_in_result_column_and_average(root: Path, tmp_path: Path, shared_data: Path) -> None:
    weights = next((shared_data / "weights").glob("vit_tiny*.safetensors"))
    command = ["run", "--method", "pretrained", "--suite", "clean,stylized", "--data", str(root), "--model",
               "vit_tiny_patch16_224", "--checkpoint", str(weights), "--img-size", "64",
               "--results", str(tmp_path / "results")]  # fmt: skip
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "--resize-ready" in " ".join(refused.output.split())
    assert [one.suite for one in _stored(tmp_path)] == ["clean"]
    taken = CliRunner().invoke(main, [*command, "--resize-ready"])
    assert taken.exit_code == 0, taken.output
    clean, stylized = _stored(tmp_path)
    assert (clean.conditions[0].resized_from, stylized.conditions[0].resized_from) == (None, 224)
    (table,) = build([clean, stylized], partial=True).tables
    assert [column.title for column in table.columns] == ["Clean", "Stylized (resized from 224 px)"]
    assert average_column(table).title == "Average of 2 (1 resized from 224 px)"
    assert "no average of the benchmark as published" in average_column(table).summary
    page = report.render(tmp_path / "results", tmp_path / "index.html").read_text()
    assert "official, resized from 224 px" in page


def _stored(folder: Path) -> list[Result]:
    return read_results(folder / "results")[0]
