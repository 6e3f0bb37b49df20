"""Networks of one's own: what computes other logits is another model, and an equal one is the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nsbench.models import Preprocessing, load_model, weights_digest
from nsbench.models.own_code import wrap_in_memory
from nsbench.models.request import Request

SCALE = {"by": 0.5}


class Base(nn.Module):
    body: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images - 0.5)
        return logits


class Net(Base):
    def __init__(self, act: nn.Module | None = None, hook: Callable[..., object] | None = None, **settings: object):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 8, 8), act or nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
        self.own = self.body[1].register_forward_hook(hook) if hook else None
        for name, value in settings.items():
            setattr(self, name, value)


class Buffered(Net):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(value), persistent=False)


class OtherBase(nn.Module):
    body: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images + 0.5)
        return logits


class Scaled(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * SCALE["by"]


def doubled(images: Tensor) -> Tensor:
    return 2 * images


class Config:
    def __init__(self, mean: float) -> None:
        self.mean, self.lock = mean, object()


def identity(network: nn.Module) -> str:
    return weights_digest(wrap_in_memory(network, Preprocessing(16), Request("mine", "mine")))


@pytest.mark.parametrize(
    "build",
    [
        Net,
        partial(Net, nn.Sigmoid()),
        partial(Net, nn.LeakyReLU(0.1)),
        partial(Net, nn.LeakyReLU(0.2)),
        partial(Net, mean=0.5),
        partial(Net, mean=-3.0),
        partial(Net, mean=torch.zeros(3)),
        partial(Net, mean=torch.ones(3)),
        partial(Net, mean=np.ones(3)),
        partial(Net, names={"x", "yy", "zzz"}),
        partial(Net, names={"x": (1, "2")}),
        lambda: Net(config=Config(0.5)),
        lambda: Net(config=Config(0.4)),
        lambda: Net(change=torch.relu),
        lambda: Net(change=torch.tanh),
        lambda: Net(change=doubled),
        lambda: Net(change=lambda images: images + 1),
        lambda: Net(change=lambda images: images + 2),
        lambda: Net(hidden=[nn.Identity()]),
        lambda: Net(hidden=[nn.Flatten()]),
        lambda: Net(hook=lambda module, inputs, output: output + 1),
        lambda: Net(hook=lambda module, inputs, output: output + 2),
        partial(Buffered, 1.0),
        partial(Buffered, 2.0),
        Scaled,
    ],
)
def test_equal_networks_are_one_and_others_are_not(build: Callable[[], nn.Module]) -> None:
    own = identity(build())
    assert identity(build()) == own
    KNOWN.setdefault(own, build)
    assert KNOWN[own] is build, "another network has this identity"


KNOWN: dict[str, object] = {}


def test_a_base_class_and_a_value_of_the_module_are_part_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before, plain = identity(Scaled()), identity(Net())
    monkeypatch.setitem(SCALE, "by", 0.25)
    assert identity(Scaled()) != before
    assert identity(Net()) == plain, "it does not read the value"
    monkeypatch.setattr(Base, "forward", OtherBase.forward)
    assert identity(Net()) != plain


SCRIPT = "from test_own_code_identity import *; print(identity(Net(names={'x', 'yy', 'z'}, change=doubled)))"


def test_every_process_finds_the_same() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=Path(__file__).parent, check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_a_file_that_the_named_one_imports_is_part_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    layers = (
        "from torch import nn\n\nclass Net(nn.Flatten):\n    def forward(self, x):\n"
        "        return super().forward(x)[:, :4]{}\n"
    )
    (tmp_path / "own_models.py").write_text(
        "from own_layers import Net\n\ndef build():\n    net = Net()\n    net.input_size = 16\n    return net\n"
    )
    found = []
    for tail in ("", "", " * 2.0"):
        (tmp_path / "own_layers.py").write_text(layers.format(tail))
        sys.modules.pop("own_layers", None)
        found.append(weights_digest(load_model(f"{tmp_path}/own_models.py:build")))
    assert found[0] == found[1] != found[2]
