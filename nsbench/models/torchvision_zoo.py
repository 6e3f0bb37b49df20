"""torchvision's classifiers: `torchvision:NAME[:WEIGHTS]`, such as `torchvision:resnet50:IMAGENET1K_V2`.

The network is torchvision's own and has no tokens. Images are prepared as torchvision says of these weights. With
--checkpoint the weights are those of the file, and the preparation that of torchvision's own weights of that name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from nsbench.errors import UnknownName
from nsbench.models.checkpoint import check_fit, read_checkpoint, stored_types
from nsbench.models.loading import normalisation_word
from nsbench.models.model import Model
from nsbench.models.names import without_prefixes
from nsbench.models.origin import of_file
from nsbench.models.preparation import Preparation, share
from nsbench.models.preprocessing import Preprocessing
from nsbench.models.request import Request
from nsbench.models.torch_hub import fetch_address
from nsbench.types import Origin

PREPARES_INPUT = ("googlenet", "inception_v3")  # built with weights, they normalise anew for those
AUXILIARY = ("aux1", "aux2", "AuxLogits")  # classifiers of theirs, for training from nothing


def load(request: Request) -> Model:
    """The model. Raises UnknownName, or ModelError where weights are neither on disk nor to be downloaded."""
    name, _, tag = request.rest.partition(":")
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UnknownName("torchvision model", name, known)
    weights = _weights(name, tag)
    if request.checkpoint is None:
        path, origin = fetch_address(str(weights.url), request.name), Origin("torchvision", f"{name}:{weights.name}")
    else:
        path, origin = request.checkpoint, Origin("file")
    network, cast_from = _network(name, path, request.which)
    prepared, asked = weights.transforms(), request.asked
    model = Model(
        network,
        name=request.name,
        preprocessing=_preprocessing(prepared, asked),
        mean=asked.mean or tuple(prepared.mean),
        std=asked.std or tuple(prepared.std),
        normalisation=normalisation_word(request.normalisation, asked),
    )
    model.own_preparation = model.preprocessing == _preprocessing(prepared, Preparation())
    model.cast_from, model.origin = cast_from, of_file(path, origin)
    return model


def _weights(name: str, tag: str) -> Any:
    """torchvision's record of weights: the ones of this tag, or its default."""
    known = {one.name: one for one in torchvision.models.get_model_weights(name)}
    default = torchvision.models.get_model_weights(name).DEFAULT
    if tag not in ("", "DEFAULT", *known):
        raise UnknownName(f"torchvision weights of {name}", tag, known)
    return known.get(tag, default)


def _network(name: str, path: Path, which: str) -> tuple[nn.Module, str]:
    """The network with the file's weights, and the types of floats that were cast."""
    options: dict[str, Any] = {"transform_input": True, "init_weights": False} if name in PREPARES_INPUT else {}
    network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    own = network.state_dict()
    state = without_prefixes(read_checkpoint(path, which).state, own)
    head = [key for key, value in own.items() if value.ndim > 1][-1]  # the last layer with weights
    classes = state[head].shape[0] if head in state else own[head].shape[0]
    if classes != own[head].shape[0]:
        network = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    check_fit(state, network.state_dict(), f"torchvision:{name}", path)
    cast_from = stored_types(state, network.state_dict())
    network.load_state_dict(state)
    for part in AUXILIARY:
        if hasattr(network, part):
            setattr(network, part, None)
            setattr(network, "aux_logits", False)  # noqa: B010
    setattr(network, "num_classes", classes)  # noqa: B010
    return network, cast_from


def _preprocessing(prepared: Any, asked: Preparation) -> Preprocessing:
    """torchvision's own resize and crop, or what was asked for."""
    size, resized = int(prepared.crop_size[0]), int(prepared.resize_size[0])
    return Preprocessing(
        asked.size or size,
        asked.crop_pct or share(size, resized),
        asked.interpolation or str(prepared.interpolation.value),
        asked.crop_mode or "center",
    )
