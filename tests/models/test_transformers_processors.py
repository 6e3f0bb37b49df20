"""Images prepared as a preprocessor_config.json says are those that transformers' own processors give.

Where as many pixels lie left and right of a crop but one, timm takes the one side and transformers may take the other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from nsbench.models import load_model

HALF = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
EDGE, SQUARE = "shortest_edge", ("height", "width")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViT", {"size": {"height": 64, "width": 64}}),
    "ViT, as old files say it": ("ViT", {"size": 64, "resample": 3}),
    "DeiT": ("DeiT", {"size": {"height": 73, "width": 73}, "crop_size": {"height": 64, "width": 64}}),
    "DeiT, without a crop": ("DeiT", {"size": {"height": 64, "width": 64}, "do_center_crop": False, "resample": 2}),
    "BEiT": ("Beit", {"size": {"height": 64, "width": 64}, "do_center_crop": False}),
    "BEiT, cropped": ("Beit", {"size": {"height": 80, "width": 80}, "crop_size": 64, "do_center_crop": True}),
    "ConvNeXt": ("ConvNext", {"size": {EDGE: 64}}),
    "ConvNeXt, its share": ("ConvNext", {"size": {EDGE: 64}, "crop_pct": 0.95, "resample": 2}),
    "ConvNeXt, large": ("ConvNext", {"size": {EDGE: 384}}),
    "LeViT": ("Levit", {"size": {EDGE: 64}, "crop_size": {"height": 64, "width": 64}}),
    "BiT": ("Bit", {"size": {EDGE: 72}, "crop_size": {"height": 64, "width": 64}}),
    "CLIP": ("CLIP", {"size": {EDGE: 64}, "crop_size": {"height": 64, "width": 64}}),
    "a share that rounding would miss": ("CLIP", {"size": {EDGE: 93}, "crop_size": {"height": 64, "width": 64}}),
}


def pictures() -> list[Image.Image]:
    """Of several shapes, smooth and with edges."""
    made = []
    for k, (width, height) in enumerate([(90, 70), (300, 200), (101, 173), (64, 64), (500, 333)]):
        rng = np.random.default_rng(k)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
        smooth[height // 3 : height // 2, width // 4 :] = (255, 0, 128)
        made.append(Image.fromarray(smooth))
    return made


@pytest.mark.parametrize("case", CASES)
def test_the_preparation_is_that_of_transformers(tmp_path: Path, case: str) -> None:
    transformers = pytest.importorskip("transformers")
    kind, record = CASES[case]
    side = 384 if "large" in case else 64
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=side, depth=1, embed_dim=24)
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    model_args = {"img_size": side, "depth": 1, "embed_dim": 24}
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "model_args": model_args, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = {"image_processor_type": f"{kind}ImageProcessor"} | HALF | record
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    model = load_model(f"local-dir:{tmp_path}")
    theirs = getattr(transformers, f"{kind}ImageProcessorPil").from_pretrained(tmp_path)
    transform = model.preprocessing.transform()
    for picture in pictures():
        expected = torch.as_tensor(np.asarray(theirs(picture, return_tensors="np")["pixel_values"][0]))
        found = model.normalise(transform(picture)[None].float() / 255)[0]
        assert found.shape == expected.shape == (3, side, side)
        assert any(is_moved(found, expected, down, right) for down in (0, 1) for right in (0, 1))


def is_moved(found: torch.Tensor, expected: torch.Tensor, down: int, right: int) -> bool:
    """Whether the two are the same (3, H, W) crop but for so many pixels."""
    theirs, ours = expected[:, down:, right:], found[:, : found.shape[1] - down, : found.shape[2] - right]
    return torch.allclose(ours, theirs, atol=1e-5)
