"""Image classifiers of transformers: `transformers:OWNER/NAME[@REVISION]` and `transformers:FOLDER`.

ViT and DeiT are read into timm's networks, which have `embed`, `encode` and `head`, and need no transformers. Every other
family is built by AutoModelForImageClassification (`pip install 'transformers>=4.56'`) and gives logits alone; code
that lies in a repository is never executed. Images are prepared as preprocessor_config.json says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from nsbench.errors import ModelError
from nsbench.files import expanded
from nsbench.models.architecture import Architecture
from nsbench.models.checkpoint import check_fit, read_checkpoint, stored_types
from nsbench.models.declared import beside, first_said, together, without_contradiction
from nsbench.models.hub import fetch, fetch_first, parse_repository
from nsbench.models.loading import normalisation_word, preprocessing_of, wrap
from nsbench.models.model import Model
from nsbench.models.names import timm_names
from nsbench.models.origin import of_file
from nsbench.models.request import Request
from nsbench.models.timm_folders import CONFIG, config_digest, read_config
from nsbench.types import Origin

FILES = ("model.safetensors", "pytorch_model.bin")
PREPROCESSOR = "preprocessor_config.json"
FAMILIES = ("ViTForImageClassification", "DeiTForImageClassification", "DeiTForImageClassificationWithTeacher")
BASE = "vit_tiny_patch16_224"  # whatever timm name: the arguments decide
DEFAULT_SIZE = 224  # of transformers, where config.json does not say it
REWRITTEN = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")  # by whoever saves: they decide no logit
TIMMS_EPS = 1e-6  # of layer norms, which no configuration of timm's states


def load(request: Request) -> Model:
    """The model of a folder or of a repository. Raises UsageError or ModelError in one line."""
    request.without_checkpoint()
    weights, name, origin = _found(request)
    config = read_config(weights.with_name(CONFIG), request.name)
    asked = request.asked
    found = beside(weights, name)
    own, declared = first_said(found), together(without_contradiction(found, asked), weights)
    wanted = replace(declared.preparation, **asked.said())
    wanted = replace(wanted, size=wanted.size or DEFAULT_SIZE)
    if wanted.mean is None or wanted.std is None:
        raise ModelError(
            f"model '{request.name}': there is no {PREPROCESSOR} that says how images are normalised; give --mean and --std"
        )
    of_timm = any(one in FAMILIES for one in config.get("architectures") or ()) and config.get("hidden_act") == "gelu"
    if of_timm:
        architecture, network, cast_from = _as_timm(config, weights, request, wanted.size)
    else:
        architecture, network, cast_from = None, _by_transformers(weights.parent, request), ""
    setattr(network, "pretrained_cfg", {"input_size": (3, wanted.size, wanted.size)})  # noqa: B010
    model = wrap(network, name=name, normalisation=normalisation_word(request.normalisation, asked), wanted=wanted)
    model.architecture, model.origin, model.cast_from = architecture, of_file(weights, origin), cast_from
    model.config_digest = config_digest({key: value for key, value in config.items() if key not in REWRITTEN})
    model.own_preparation = model.preprocessing == preprocessing_of(
        network, replace(own, size=own.size or DEFAULT_SIZE)
    )
    given = ", ".join(one for one in asked.said() if request.normalisation == "own" or one not in ("mean", "std"))
    model.said = (*declared.words(), *([f"{given} as asked for"] if given else []))
    return model


def _found(request: Request) -> tuple[Path, str, Origin]:
    """The file of the weights, the model's name, and where it comes from."""
    folder = expanded(request.rest)
    if os.path.isdir(folder):
        for file in FILES:
            if (folder / file).is_file():
                name = folder.absolute().name
                return folder / file, f"transformers:{name}", Origin("transformers", name)
        raise ModelError(f"model '{request.name}': {folder} has none of {', '.join(FILES)}")
    repository, revision = parse_repository(request.rest, request.name)
    for file in (CONFIG, PREPROCESSOR):
        if fetch(repository, revision, file, request.name) is None and file == CONFIG:
            raise ModelError(f"model '{request.name}': {repository} has no {CONFIG}, so transformers cannot build it")
    weights = fetch_first(repository, revision, FILES, request.name)
    return weights, request.name, Origin("transformers", repository)


def _as_timm(
    config: Mapping[str, Any], weights: Path, request: Request, size: int | None
) -> tuple[Architecture | None, nn.Module, str]:
    """timm's network of the same arithmetic with these weights, and the types of floats that were cast."""
    try:
        args = _arguments(config, size)
        eps = float(config.get("layer_norm_eps", 1e-12))
        norm = partial(nn.LayerNorm, eps=eps)
        distilled = "DeiTForImageClassificationWithTeacher" in config["architectures"]
        network: Any = (VisionTransformerDistilled if distilled else VisionTransformer)(**args, norm_layer=norm)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise ModelError(
            f"model '{request.name}': no network can be built from its {CONFIG} ({type(error).__name__}: {error})"
        ) from error
    read = read_checkpoint(weights, request.which)
    state = {key: value for key, value in read.state.items() if ".pooler." not in f".{key}"}
    resample = request.asked.size is not None
    state = timm_names(state, network, request.name, weights, resample)
    if "dist_token" in state and not distilled:  # a token beside the class token that no classifier reads
        state["reg_token"] = state.pop("dist_token")
    check_fit(state, network.state_dict(), request.name, weights)
    cast_from = stored_types(state, network.state_dict())
    network.load_state_dict(state)
    plain = eps == TIMMS_EPS and not distilled
    return (Architecture(BASE, args) if plain else None), network, cast_from


def _arguments(config: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """Of timm's vision transformer, in its words."""
    labels = config.get("id2label") or config.get("num_labels") or 2  # transformers writes no labels where there are 2
    width = int(config.get("hidden_size", 768))
    return {
        "img_size": size or int(config.get("image_size", 224)),
        "patch_size": int(config.get("patch_size", 16)),
        "embed_dim": width,
        "depth": int(config.get("num_hidden_layers", 12)),
        "num_heads": int(config.get("num_attention_heads", 12)),
        "mlp_ratio": int(config.get("intermediate_size", 3072)) / width,
        "qkv_bias": bool(config.get("qkv_bias", True)),
        "num_classes": len(labels) if isinstance(labels, Mapping) else int(labels),
        **({"reg_tokens": 1} if "DeiTForImageClassification" in config["architectures"] else {}),
    }


class Classifier(nn.Module):
    """A model of transformers, from normalised images (B, 3, H, W) to logits (B, K)."""

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        logits_BK: torch.Tensor = self.network(pixel_values=images_BCHW).logits
        return logits_BK


def _by_transformers(folder: Path, request: Request) -> nn.Module:
    try:
        from transformers import AutoModelForImageClassification
    except ImportError as error:
        raise ModelError(
            f"model '{request.name}': this family is built by transformers, which is not installed ({error}); "
            "pip install 'transformers>=4.56'"
        ) from error
    try:
        network = AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    except Exception as error:  # of whatever a config.json makes transformers do
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
        raise ModelError(f"model '{request.name}': transformers cannot load {folder} ({why})") from error
    return Classifier(network.eval(), int(network.config.num_labels))
