"""Checkpoints of strangers: what is no set of weights is refused in one line, and what is cast is said."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from nsbench.cli import main
from nsbench.errors import ModelError
from nsbench.models import load_model
from nsbench.models.checkpoint import read_checkpoint
from nsbench.models.loading import build_vit_shapes10

WEIGHTS = build_vit_shapes10().state_dict()


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        load_model("vit_shapes10", checkpoint=path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (torch.int8, "norm.bias int8 instead of float32"),
        (torch.int64, "norm.bias int64 instead of float32"),
        (torch.uint8, "norm.bias uint8 instead of float32"),
        (torch.bool, "norm.bias bool instead of float32"),
        (torch.complex64, "'norm.bias' is of type complex64, and weights are not made of that"),
        (torch.float8_e4m3fn, "'norm.bias' is of type float8_e4m3fn, and weights are not made of that"),
    ],
    ids=str,
)
def test_types_that_are_no_weights_are_refused(tmp_path: Path, dtype: torch.dtype, words: str) -> None:
    path = tmp_path / "w.pth"
    torch.save(WEIGHTS | {"norm.bias": WEIGHTS["norm.bias"].to(dtype)}, path)
    assert words in refused(path)
    if not dtype.is_complex:
        save_file({name: value.contiguous() for name, value in torch.load(path).items()}, tmp_path / "w.safetensors")
        assert words in refused(tmp_path / "w.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_floats_are_cast_and_named(tmp_path: Path, dtype: torch.dtype) -> None:
    path, results = tmp_path / "w.pth", tmp_path / "results"
    torch.save({name: value.to(dtype) for name, value in WEIGHTS.items()}, path)
    model = load_model("vit_shapes10", checkpoint=path)
    assert model.cast_from == str(dtype).removeprefix("torch.")
    assert torch.equal(model.vit.norm.weight, WEIGHTS["norm.weight"].to(dtype).float())
    arguments = ["--method", "pretrained", "--suite", "clean", "--limit", "2", "--results", str(results)]
    done = CliRunner().invoke(main, ["run", *arguments, "--checkpoint", str(path)])
    assert f"; weights cast from {model.cast_from})" in done.output
    assert load_model("vit_shapes10").cast_from == ""


def test_float64_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    torch.save(WEIGHTS | {"norm.bias": WEIGHTS["norm.bias"].double() + 1e300}, tmp_path / "w.pth")
    assert "'norm.bias' holds NaN or infinite values" in refused(tmp_path / "w.pth")


def contains_itself() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["model"] = content
    return content


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (contains_itself, "holds no weights"),
        (lambda: {0: torch.zeros(2), 1: torch.zeros(2)}, "'0' (int) is no name of a tensor"),
        (lambda: {"a": torch.zeros(2), ("b", 1): torch.zeros(2)}, "(tuple) is no name of a tensor"),
        (lambda: {"a": torch.eye(3).to_sparse()}, "'a' is stored as a sparse tensor"),
        (lambda: {"a": torch.eye(3).to_sparse_csr()}, "'a' is stored as a sparse tensor"),
        (lambda: {"a": torch.zeros(3, device="meta")}, "'a' has no values (device 'meta')"),
        (
            lambda: {"a": torch.zeros(1).expand(1 << 40)},
            "'a' has 1,099,511,627,776 values, of which its file holds fewer",
        ),
        (lambda: {"a": torch.zeros(3, dtype=torch.uint16)}, "'a' is of type uint16"),
        (lambda: [torch.zeros(2)], "holds no weights"),
        (lambda: {}, "holds no weights"),
        (lambda: torch.zeros(2), "holds no weights"),
        (lambda: {"model": 3, "epoch": 2}, "holds no weights"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content(), tmp_path / "w.pth")
    assert words in refused(tmp_path / "w.pth")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".tar"])
def test_pipes_sockets_devices_and_folders_are_no_checkpoints(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / f"socket{suffix}"))
        for path in sorted(tmp_path.iterdir()):
            assert "is not a file" in refused(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_named_in_one_line(tmp_path: Path, suffix: str) -> None:
    path, draws = tmp_path / f"w{suffix}", np.random.default_rng(0)
    (torch.save if suffix == ".pth" else save_file)({"a": torch.arange(9.0), "b": torch.ones(2, 3)}, path)
    content = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(content)
        for at in draws.integers(len(content), size=draws.integers(1, 9)):
            damaged[at] = draws.integers(256)
        path.write_bytes(damaged[: draws.integers(1, 2 * len(content))])
        assert len((message_of(path) or "").splitlines()) <= 1


def message_of(path: Path) -> str | None:
    try:
        read_checkpoint(path)
    except ModelError as error:
        return str(error)
    return None
