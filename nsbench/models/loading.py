"""Models by name: the embedded `vit_shapes10`, and any timm model with a checkpoint file. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from nsbench.errors import ModelError, UnknownName, UsageError
from nsbench.models.catalogue import EMBEDDED, ROBUSTBENCH, known_models
from nsbench.models.checkpoint import check_fit, read_checkpoint, stored_types
from nsbench.models.model import Model, Triple
from nsbench.models.preprocessing import Preprocessing

HALF: Triple = (0.5, 0.5, 0.5)
NORMALISATIONS: dict[str, tuple[Triple, Triple] | None] = {
    "own": None,  # the checkpoint's own mean and std
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": (HALF, HALF),
}
WEIGHTS = Path(__file__).parent.parent / "shapes10" / "weights"  # of the embedded model


def load_model(
    name: str, *, checkpoint: Path | None = None, normalisation: str = "own", device: str | torch.device = "cpu"
) -> Model:
    """`vit_shapes10` with its shipped weights, a timm model by name with the weights of `checkpoint`, or a model of
    RobustBench's zoo, `robustbench:NAME[:THREAT]`, with its own weights.

    `normalisation` "own" takes mean and std from timm's configuration of that name; "imagenet" and "half" override
    it. Raises UnknownName, UsageError, or ModelError where checkpoint and architecture do not fit.
    """
    if normalisation not in NORMALISATIONS:
        raise UsageError(f"normalisation '{normalisation}' is none of {', '.join(NORMALISATIONS)}")
    if name.startswith(f"{ROBUSTBENCH}:"):
        return _load_robustbench(name, checkpoint, normalisation, device)
    if name != EMBEDDED and not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=6)
        known = [model for model in known_models() if not model.startswith(f"{ROBUSTBENCH}:")]
        raise UnknownName("model", name, [*known, *(c for c in close if c not in known), f"{ROBUSTBENCH}:NAME"])
    if name == EMBEDDED and checkpoint is None:
        checkpoint = WEIGHTS / f"{EMBEDDED}.safetensors"
    if checkpoint is None:
        raise ModelError(
            f"model '{name}' comes without weights and none are downloaded: give --checkpoint FILE "
            "(.safetensors or .pth)"
        )
    state = read_checkpoint(Path(checkpoint))
    vit = build_vit_shapes10() if name == EMBEDDED else _build_timm(name, state)
    check_fit(state, vit.state_dict(), name, Path(checkpoint))
    cast = stored_types(state, vit.state_dict())
    vit.load_state_dict(state)
    model = wrap(vit, name=name, normalisation=normalisation).to(device)
    model.cast_from = cast
    return model


def _load_robustbench(name: str, checkpoint: Path | None, normalisation: str, device: str | torch.device) -> Model:
    from nsbench.models.robustbench import load_robustbench

    if normalisation != "own":
        raise UsageError(f"normalisation '{normalisation}': a RobustBench model normalises inside; leave it 'own'")
    if checkpoint is not None:
        raise UsageError(f"--checkpoint {checkpoint}: a RobustBench model comes with its own weights; leave it out")
    return load_robustbench(name, device=device)


def with_weights(model: Model, path: Path) -> Model:
    """A copy of `model`, same normalisation and device, with the weights of a file that `save_weights` wrote."""
    state = read_checkpoint(Path(path))
    check_fit(state, model.timm_state_dict(), model.name, Path(path))
    copy = deepcopy(model)
    copy.load_timm_state_dict(state)
    return copy


def build_vit_shapes10() -> VisionTransformer:
    """The embedded architecture, untrained. 3 x 8 x 8 = 192 pixel values meet a width of 128: a nullspace of 64."""
    vit = VisionTransformer(img_size=48, patch_size=8, embed_dim=128, depth=6, num_heads=4, mlp_ratio=2, num_classes=10)
    vit.pretrained_cfg = {
        "input_size": (3, 48, 48),
        "mean": HALF,
        "std": HALF,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "crop_mode": "center",
    }
    return vit


def wrap(vit: nn.Module, *, name: str, normalisation: str = "own") -> Model:
    """A timm model as a Model, prepared as its `pretrained_cfg` says."""
    config = resolve_data_config(pretrained_cfg=vit.pretrained_cfg)
    height, width = config["input_size"][1:]
    if height != width:
        raise ModelError(f"model '{name}' takes images of {width}x{height} pixels; only square ones are supported")
    mean, std = NORMALISATIONS[normalisation] or (tuple(config["mean"]), tuple(config["std"]))
    preprocessing = Preprocessing(
        size=int(width),
        crop_pct=float(config["crop_pct"]),
        interpolation=str(config["interpolation"]),
        crop_mode=str(config["crop_mode"]),
    )
    return Model(vit, name=name, preprocessing=preprocessing, mean=mean, std=std, normalisation=normalisation)


def _build_timm(name: str, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """timm's architecture with as many classes as the checkpoint's classifier has."""
    with named_failure(name):  # of an architecture that timm knows with a tag that it does not
        classifier = timm.get_pretrained_cfg(name).classifier
    head = f"{classifier[0] if isinstance(classifier, tuple | list) else classifier}.weight"
    with named_failure(name):
        network: nn.Module = timm.create_model(
            name, pretrained=False, **({"num_classes": len(state[head])} if head in state else {})
        )
    return network


@contextmanager
def named_failure(name: str) -> Iterator[None]:
    """ModelError, which names the model, for whatever timm raises when it cannot build one."""
    try:
        yield
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(
            f"model '{name}' cannot be built by timm {timm.__version__}: {str(error).splitlines()[0]}"
        ) from error
