"""timm's architectures, and the embedded one, with the weights of a file. Nothing is downloaded here: see `places`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from nsbench.errors import ModelError, UsageError
from nsbench.models.architecture import Architecture
from nsbench.models.catalogue import EMBEDDED
from nsbench.models.checkpoint import Checkpoint, check_fit, read_checkpoint, stored_types
from nsbench.models.declared import (
    Declared,
    beside,
    first_said,
    of_first_layer,
    of_training,
    together,
    without_contradiction,
)
from nsbench.models.model import Model, Triple
from nsbench.models.names import from_big_vision, timm_names
from nsbench.models.origin import of_file
from nsbench.models.preparation import Preparation
from nsbench.models.preprocessing import Preprocessing
from nsbench.types import Origin

HALF: Triple = (0.5, 0.5, 0.5)
NORMALISATIONS: dict[str, tuple[Triple, Triple] | None] = {
    "own": None,  # the checkpoint's own mean and std
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": (HALF, HALF),
}
CLASSIFIERS = ("head", "head.fc", "classifier", "cls_classifier")  # of files under other names than timm's
EMBEDDED_AS = "vit_tiny_patch16_224"  # what timm builds the embedded architecture from, with these arguments
EMBEDDED_ARGS = {
    "img_size": 48,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "mlp_ratio": 2,
    "num_classes": 10,
}
WEIGHTS = Path(__file__).parent.parent / "shapes10" / "weights"  # of the embedded model


def load_timm(
    architecture: Architecture,
    path: Path,
    origin: Origin,
    *,
    name: str = "",
    normalisation: str = "own",
    asked: Preparation,
    which: str = "ema",
) -> Model:
    """A timm architecture, or the embedded one, with the weights of a file, under this name; see `places.load_model`.

    `origin` says where the file comes from; its name and digest are filled in. Raises UsageError, or ModelError where
    checkpoint and architecture do not fit.
    """
    name = name or architecture.name
    read = read_checkpoint(path, which)
    weights, first_layer = of_first_layer(read.state)
    found = _found(architecture.name, path, read, first_layer)
    declared = together(without_contradiction(found, asked), path)
    wanted = replace(declared.preparation, **asked.said())
    built, network, state = _network(architecture, weights, path, wanted.size, resample=asked.size is not None)
    if not getattr(network, "num_classes", 1):
        raise ModelError(
            f"checkpoint '{path}' has no classifier, and neither has timm's '{name}': it gives features, and a "
            "benchmark of predictions needs logits. Give a checkpoint with a head, of a linear probe or a finetuned model"
        )
    check_fit(state, network.state_dict(), architecture.name, path)
    if declared.classes not in (None, network.num_classes):
        raise ModelError(
            f"checkpoint '{path}' has {network.num_classes} classes, and its config.json says {declared.classes}"
        )
    cast_from = stored_types(state, network.state_dict())
    network.load_state_dict(state)
    model = wrap(network, name=name, normalisation=normalisation_word(normalisation, asked), wanted=wanted)
    model.architecture, model.origin = built, of_file(path, origin)
    model.cast_from = cast_from
    model.own_preparation = model.preprocessing == preprocessing_of(network, first_said(found))
    model.said = (*_said(declared, asked, read, normalisation), *_resampled(weights, state))
    return model


def normalisation_word(normalisation: str, asked: Preparation) -> str:
    """What a result calls the mean and std inside the model: "own", "imagenet", "half", or "given"."""
    return normalisation if normalisation != "own" or not (asked.mean or asked.std) else "given"


def with_normalisation(asked: Preparation, normalisation: str) -> Preparation:
    """A named normalisation as the mean and std that it stands for. Raises UsageError where both are given."""
    named = NORMALISATIONS[normalisation]
    if named is None:
        return asked
    if asked.mean or asked.std:
        raise UsageError(f"--normalisation {normalisation} stands for a mean and std; leave out --mean and --std")
    return replace(asked, mean=named[0], std=named[1])


def _found(
    name: str, path: Path, read: Checkpoint, first_layer: Preparation | None
) -> list[tuple[str, Preparation, int | None]]:
    """What the checkpoint says, and where."""
    found = [] if path.parent == WEIGHTS else beside(path, name)
    try:
        found += [one] if (one := of_training(read.args)) else []
    except (UsageError, ValueError, TypeError) as error:
        raise ModelError(f"checkpoint '{path}': its args cannot be understood ({error})") from error
    found += [("its first layer", first_layer, None)] if first_layer else []
    return found


def _said(declared: Declared, asked: Preparation, read: Checkpoint, normalisation: str) -> tuple[str, ...]:
    """Where the preparation and the weights come from, as far as it is not timm's configuration of the name."""
    words = [*declared.words()]
    given = [field for field in asked.said() if normalisation == "own" or field not in ("mean", "std")]
    if given:
        words.append(f"{', '.join(given)} as asked for")
    if read.taken:
        words.append(f"weights: {read.taken} of a file that has averaged and raw ones")
    return tuple(words)


def _resampled(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """That the position embedding is not the checkpoint's own."""
    counts = [value.shape[1] for key, value in before.items() if key.endswith("pos_embed") and value.ndim == 3]
    now = after["pos_embed"].shape[1] if "pos_embed" in after else None
    if not counts or now in (None, counts[0]):
        return ()
    return (f"position embedding resampled from {counts[0]} to {now} tokens",)


def _network(
    architecture: Architecture, weights: Mapping[str, torch.Tensor], path: Path, size: int | None, resample: bool
) -> tuple[Architecture, nn.Module, dict[str, torch.Tensor]]:
    """The architecture as it was built, the network, and the weights under its names.

    `resample`: a position embedding may be of another size.
    """
    network: nn.Module
    if architecture.name == EMBEDDED:
        if size not in (None, 48):
            raise UsageError(f"image size {size}: {EMBEDDED} takes 48 pixels")
        built, network = Architecture(EMBEDDED_AS, EMBEDDED_ARGS), build_vit_shapes10()
    else:
        built, network = _build_timm(architecture, weights, size)
    if path.suffix == ".npz":
        return built, network, from_big_vision(path, network)
    return built, network, timm_names(dict(weights), network, architecture.name, path, resample)


def with_weights(model: Model, path: Path) -> Model:
    """A copy of `model`, same normalisation and device, with the weights of a file that `save_weights` wrote."""
    state = read_checkpoint(Path(path)).state
    check_fit(state, model.timm_state_dict(), model.name, Path(path))
    copy = deepcopy(model)
    copy.load_timm_state_dict(state)
    return copy


def build_vit_shapes10() -> VisionTransformer:
    """The embedded architecture, untrained. 3 x 8 x 8 = 192 pixel values meet a width of 128: a nullspace of 64."""
    vit = VisionTransformer(**EMBEDDED_ARGS)
    vit.pretrained_cfg = {
        "input_size": (3, 48, 48),
        "mean": HALF,
        "std": HALF,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "crop_mode": "center",
    }
    return vit


def wrap(vit: nn.Module, *, name: str, normalisation: str = "own", wanted: Preparation | None = None) -> Model:
    """A timm model as a Model, prepared as is `wanted`, and where that says nothing as its `pretrained_cfg` says."""
    wanted = wanted or with_normalisation(Preparation(), normalisation)
    config = resolve_data_config(pretrained_cfg=vit.pretrained_cfg)
    height, width = config["input_size"][1:]
    if height != width and not wanted.size:
        raise ModelError(f"model '{name}' takes images of {width}x{height} pixels; only square ones are supported")
    preprocessing = preprocessing_of(vit, wanted)
    mean, std = wanted.mean or tuple(config["mean"]), wanted.std or tuple(config["std"])
    return Model(vit, name=name, preprocessing=preprocessing, mean=mean, std=std, normalisation=normalisation)


def preprocessing_of(vit: nn.Module, wanted: Preparation) -> Preprocessing:
    """How images are prepared for a timm model: as is `wanted`, and else as its `pretrained_cfg` says."""
    config = resolve_data_config(pretrained_cfg=vit.pretrained_cfg)
    return Preprocessing(
        size=int(wanted.size or config["input_size"][2]),
        crop_pct=float(wanted.crop_pct or config["crop_pct"]),
        interpolation=str(wanted.interpolation or config["interpolation"]),
        crop_mode=str(wanted.crop_mode or config["crop_mode"]),
    )


def _build_timm(
    architecture: Architecture, state: Mapping[str, torch.Tensor], size: int | None = None
) -> tuple[Architecture, nn.Module]:
    """timm's network with as many classes as the checkpoint's classifier has, for images of this side; and what it is."""
    name, args = architecture.name, dict(architecture.args)
    with named_failure(name):  # of an architecture that timm knows with a tag that it does not
        config = timm.get_pretrained_cfg(name) if architecture.config is None else PretrainedCfg(**architecture.config)
    classifier = config.classifier[0] if isinstance(config.classifier, tuple | list) else config.classifier
    if (classes := _classes(state, str(classifier))) is not None:
        args["num_classes"] = classes
    given = {} if architecture.config is None else {"pretrained_cfg": dict(architecture.config)}
    with named_failure(name):
        if size is not None and size != config.input_size[-1]:
            try:
                sized = args | {"img_size": size}
                resized: nn.Module = timm.create_model(name, pretrained=False, **sized, **given)
                return replace(architecture, args=sized), resized
            except TypeError:  # a convolutional network takes any size
                pass
        network: nn.Module = timm.create_model(name, pretrained=False, **args, **given)
    return replace(architecture, args=args), network


def _classes(state: Mapping[str, torch.Tensor], classifier: str) -> int | None:
    """Of the checkpoint's classifier, under whatever prefix and name; None where it has none."""
    for name in (classifier, *CLASSIFIERS):
        for key, value in state.items():
            if value.ndim == 2 and (key == f"{name}.weight" or key.endswith(f".{name}.weight")):
                return int(value.shape[0])
    return int(state["head/kernel"].shape[-1]) if "head/kernel" in state else None


@contextmanager
def named_failure(name: str) -> Iterator[None]:
    """ModelError, which names the model, for whatever timm raises when it cannot build one."""
    try:
        yield
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(
            f"model '{name}' cannot be built by timm {timm.__version__}: {str(error).splitlines()[0]}"
        ) from error
