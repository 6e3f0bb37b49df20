"""An own DAmageNet: the official layout within the official bound, the same bytes however it is made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from test_corruptions import picture

from nsbench.cli import main
from nsbench.data import wnids
from nsbench.data.corrupted import resize_and_crop
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.made import MARKER
from nsbench.errors import DataError, ModelError
from nsbench.making import damagenet, damagenet_attack
from nsbench.making.damagenet import make_damagenet
from nsbench.making.damagenet_attack import EPS, attends, perturb
from nsbench.models import Model, load_model

SMALL = "mobilenetv3_small_050"  # 224 pixels, 1000 classes, 0.02 G multiplications
N = 10  # two batches


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An ImageNet tree of ten images in three classes, not square."""
    for k in range(N):
        folder = tmp_path / "source" / "val" / wnids.wnids()[k % 3 * 7]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(260, k)[: 250 - 2 * k]).save(folder / f"ILSVRC2012_val_{k + 1:08d}.JPEG")
    return tmp_path / "source"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(timm.create_model(SMALL).state_dict(), path)
    return path


@pytest.fixture
def surrogate(checkpoint: Path) -> dict:
    return {"surrogate": SMALL, "checkpoint": checkpoint}


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_official_layout_within_the_bound(source: Path, tmp_path: Path, surrogate: dict) -> None:
    out = tmp_path / "set" / "DAmageNet"
    made = make_damagenet(source, out, workers=1, **surrogate)
    assert (made.images, made.written, made.kept, made.unreadable) == (N, N, 0, {})
    lines = (out / "val.txt").read_text().splitlines()
    assert lines[:2] == ["ILSVRC2012_val_00000001.JPEG 0", "ILSVRC2012_val_00000002.JPEG 7"]
    clean, split = ImageNetTree(source).split("clean"), ImageNetTree(tmp_path / "set").split("damagenet")
    assert split.origin == "generated-png"
    assert split.ids.tolist() == [f"ILSVRC2012_val_{k + 1:08d}" for k in range(N)]
    labels = dict(zip(clean.ids, clean.labels, strict=True))
    assert [labels[image_id] for image_id in split.ids] == split.labels.tolist()
    where = {image_id: k for k, image_id in enumerate(clean.ids)}
    for k, image_id in enumerate(split.ids):
        before = np.asarray(resize_and_crop(clean.load(where[image_id]))).astype(int)
        after = np.asarray(split.load(k)).astype(int)
        assert after.shape == (224, 224, 3)
        assert np.abs(after - before).max() <= 25
        assert np.abs(after - before).mean() > 5  # most pixels are moved far


def test_the_same_bytes_for_any_number_of_workers_and_after_an_interruption(
    source: Path, tmp_path: Path, surrogate: dict
) -> None:
    one = make_damagenet(source, tmp_path / "1", workers=1, **surrogate).folder
    two = make_damagenet(source, tmp_path / "2", workers=2, **surrogate).folder
    assert pictures(one) == pictures(two)
    assert len(pictures(one)) == N
    expected = pictures(one)
    spoiled = sorted(one.glob("*.png"))[1:9:3]
    spoiled[0].unlink()
    spoiled[1].write_bytes(b"")
    spoiled[2].write_bytes(expected[spoiled[2].name][:-5])
    again = make_damagenet(source, tmp_path / "1", workers=1, **surrogate)
    assert (again.written, again.kept) == (3, N - 3)
    assert pictures(one) == expected


def test_an_unfinished_or_foreign_set_is_refused(source: Path, tmp_path: Path, surrogate: dict, monkeypatch) -> None:
    out = tmp_path / "set" / "damagenet"

    def stopped(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(damagenet, "_run", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_damagenet(source, out, **surrogate)
    assert not json.loads((out / MARKER).read_text())["complete"]
    Image.fromarray(picture(224, 0)).save(out / "ILSVRC2012_val_00000001.png")
    with pytest.raises(DataError, match="was not finished"):
        ImageNetTree(tmp_path / "set").split("damagenet")
    monkeypatch.setattr(damagenet, "STEPS", 3)
    with pytest.raises(DataError, match=r"another steps \(10, now 3\)"):
        make_damagenet(source, out, **surrogate)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "val.txt").write_text("")
    with pytest.raises(DataError, match="did not make"):
        make_damagenet(source, foreign, **surrogate)


def test_a_torn_image_is_named_and_a_wrong_surrogate_refused(source: Path, tmp_path: Path, checkpoint: Path) -> None:
    torn = next((source / "val").rglob("*00000004.JPEG"))
    torn.write_bytes(torn.read_bytes()[:200])
    command = [
        "data",
        "make",
        "damagenet",
        "--surrogate",
        SMALL,
        "--checkpoint",
        str(checkpoint),
        "--data",
        str(source),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "9 files written" in result.output
    assert "00000004.JPEG" in result.output
    assert json.loads((tmp_path / "out" / MARKER).read_text())["unreadable"]
    with pytest.raises(ModelError, match="takes 48 pixels and has 10 classes"):
        make_damagenet(source, tmp_path / "other", surrogate="vit_shapes10")


def patches() -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(picture(224, k))) for k in range(2)])


@pytest.fixture
def transformer() -> Model:
    """A small transformer with attention that prefers some patches."""
    from timm.models.vision_transformer import VisionTransformer

    from nsbench.models import Preprocessing

    torch.manual_seed(1)
    vit = VisionTransformer(img_size=224, patch_size=32, embed_dim=32, depth=3, num_heads=2, num_classes=1000)
    for block in vit.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.3)
    return Model(vit, name="small", preprocessing=Preprocessing(224), mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_transformers_attention_and_decision_are_attacked(transformer: Model, checkpoint: Path) -> None:
    assert attends(transformer)
    assert not attends(load_model(SMALL, checkpoint=checkpoint))
    images, labels = patches(), np.array([3, 4])
    clean = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    changed = perturb(transformer, images, labels)
    assert np.abs(changed.astype(int) - images).max() <= EPS
    after = torch.from_numpy(changed).permute(0, 3, 1, 2).float() / 255
    watch = damagenet_attack._Attention(transformer, clean)
    with torch.no_grad():
        (before_BK, attended_B), (after_BK, attended_after_B) = watch(clean), watch(after)
    assert (attended_after_B > attended_B).all()  # minus the log of what the leading patches get
    truth = torch.from_numpy(labels)
    loss_before, loss_after = (
        torch.nn.functional.cross_entropy(one, truth, reduction="none") for one in (before_BK, after_BK)
    )
    assert (loss_after > loss_before).all()
    assert all(block.attn.fused_attn for block in transformer.vit.blocks)
    assert not any(parameter.grad is not None for parameter in transformer.parameters())


def test_rollout_by_hand(transformer: Model) -> None:
    """One token passes on half of its own and half of what it attends to, layer by layer."""
    images = torch.rand(1, 3, 224, 224)
    watch = damagenet_attack._Attention(transformer, images)
    with torch.no_grad(), damagenet_attack.recorded_attention(watch.modules) as maps:
        transformer(images)
        rollout_N = watch._look(images)[1][0]
        expected = torch.eye(50)
        for attention_BHNN in [one.clone() for one in maps]:
            expected = (0.5 * attention_BHNN[0].mean(dim=0) + 0.5 * torch.eye(50)) @ expected
    torch.testing.assert_close(rollout_N, expected[0, 1:])
