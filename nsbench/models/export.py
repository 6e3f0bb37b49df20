"""A model as a folder in timm's form: model.safetensors, config.json and a card.

`timm.create_model("local-dir:FOLDER", pretrained=True)` and `--model local-dir:FOLDER` build it again; the latter is
tried on the spot, and its logits must be equal to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch

from nsbench.errors import ModelError, UsageError
from nsbench.files import write_atomically, writing
from nsbench.models.architecture import Architecture
from nsbench.models.checkpoint import save_weights
from nsbench.models.model import Model, frozen
from nsbench.models.places import load_model

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
ELSEWHERE = (
    "url",
    "file",
    "state_dict",
    "hf_hub_id",
    "hf_hub_filename",
    "source",
    "custom_load",
    "architecture",
    "tag",
)


def require_exportable(model: Model, out: Path) -> Architecture:
    """What timm builds the model from. Raises ModelError where it does not, and UsageError for a folder with files."""
    if model.architecture is None:
        raise ModelError(
            f"model '{model.name}': is not one that timm builds from a name and its arguments, so it cannot be written in "
            "timm's form"
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"--out {out}: is there already and not an empty folder; name another one")
    return model.architecture


def write_folder(model: Model, out: Path, card: str, class_names: Sequence[str] = ()) -> tuple[Path, ...]:
    """Write the folder and build the model from it again. `class_names`: of the outputs, where they are known.

    Raises UsageError where a file cannot be written, and ModelError where the folder would give other logits.
    """
    architecture = require_exportable(model, out)
    paths = out / WEIGHTS, out / CARD, out / CONFIG
    with writing(out, UsageError, "free some space or choose another folder with --out"):
        save_weights(model, paths[0], {"format": "pt"})
        write_atomically(paths[1], card.encode())
        config = timm_config(model, architecture, class_names)
        write_atomically(paths[2], (json.dumps(config, indent=2) + "\n").encode())
    _require_equal(model, out)
    return paths


def timm_config(model: Model, architecture: Architecture, class_names: Sequence[str] = ()) -> dict[str, Any]:
    """config.json as timm writes it: what to build, and how images are prepared for it."""
    outputs, how = int(model.vit.num_classes), model.preprocessing
    known = model.vit.pretrained_cfg
    known = asdict(known) if is_dataclass(known) and not isinstance(known, type) else dict(known)
    size = (3, how.size, how.size)
    return {
        "architecture": architecture.name.partition(".")[0],
        "num_classes": outputs,
        "num_features": int(model.vit.num_features),
        **({"label_names": list(class_names)} if len(class_names) == outputs else {}),
        "model_args": {name: value for name, value in architecture.args.items() if name != "num_classes"},
        "pretrained_cfg": {
            **{name: value for name, value in known.items() if value is not None and name not in ELSEWHERE},
            "custom_load": False,
            "input_size": size,
            "interpolation": how.interpolation,
            "crop_pct": how.crop_pct,
            "crop_mode": how.crop_mode,
            "mean": model.mean,
            "std": model.std,
            "num_classes": outputs,
        },
    }


def _require_equal(model: Model, out: Path) -> None:
    """Raises ModelError where the folder gives another model."""
    size = model.input_size
    images_2CHW = torch.linspace(0, 1, 2 * 3 * size * size).view(2, 3, size, size).to(model.device)
    again = load_model(f"local-dir:{out}", device=model.device)
    again.class_map = model.class_map
    with torch.no_grad(), frozen(model):
        equal = torch.equal(again(images_2CHW), model(images_2CHW))
    if not equal or again.preprocessing != model.preprocessing:
        raise ModelError(f"{out}: gives other logits than model '{model.name}' when it is read again; do not use it")
