"""Readers of checkpoints, of what trainings keep, and of settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import TEXTS, Draws

from nsbench.models import load_model
from nsbench.models.checkpoint import read_checkpoint
from nsbench.run.kept_fits import stored
from nsbench.training import load_recipe
from nsbench.training.state import State

Figure = Any


def shipped() -> dict[str, torch.Tensor]:
    return load_model("vit_shapes10").timm_state_dict()


def pth(folder: Path) -> Path:
    torch.save({"state_dict": {f"module.{name}": value for name, value in shipped().items()}}, folder / "w.pth")
    return folder / "w.pth"


def safetensors(folder: Path) -> Path:
    from nsbench.models import save_weights

    save_weights(load_model("vit_shapes10"), folder / "w.safetensors")
    return folder / "w.safetensors"


def npz_weights(folder: Path) -> Path:
    np.savez(folder / "w.npz", **{name: value.numpy() for name, value in shipped().items()})
    return folder / "w.npz"


def read_tensors(path: Path) -> Figure:
    read_checkpoint(path)


def read_weights(path: Path) -> Figure:
    read_checkpoint(path)
    load_model("vit_shapes10", checkpoint=path)


def training_state(folder: Path) -> Path:
    from training_reference import recipe, tiny_model

    State.fresh(tiny_model(), recipe()).save(folder / "k.training")
    return folder / "k.training"


def read_state(path: Path) -> Figure:
    from training_reference import recipe, tiny_model

    from nsbench.models import weights_digest

    state = State.fresh(tiny_model(), recipe())
    return state.load(path) or (weights_digest(state.model), state.round, state.step)


def fitted(folder: Path) -> Path:
    from nsbench.models import weights_digest
    from nsbench.run.kept_fits import FitCard, Fitted, store

    model = load_model("vit_shapes10")
    card = FitCard("ns", 1, model.name, "p", weights_digest(model), None, seconds=3.5, forward_equivalents=77)
    store(folder / "k.safetensors", Fitted(model, "k", card))
    return folder / "k.json"


def read_fitted(path: Path) -> Figure:
    kept = stored(path.with_suffix(".safetensors"), load_model("vit_shapes10"), "k")
    return kept and kept.card


def settings(folder: Path) -> Path:
    values = load_recipe("plain").model_dump(exclude={"name"})
    plain = {field: str(value) for field, value in values.items() if not isinstance(value, tuple)}
    (folder / "s.json").write_text(json.dumps(plain))
    return folder / "s.json"


def odd_setting(content: bytes, draws: Draws) -> bytes:
    fields = json.loads(content)
    chosen = draws.choice(sorted(fields), size=int(draws.integers(1, 3)), replace=False)
    return json.dumps({str(field): TEXTS[int(draws.integers(len(TEXTS)))] for field in chosen}).encode()


def read_settings(path: Path) -> Figure:
    from training_reference import Pictures, tiny_model

    from nsbench.training.augment import Augmented

    made_of = load_recipe("plain", json.loads(path.read_text()))
    Augmented(Pictures(4), made_of, tiny_model(), stream="training", length=4).load(0)
