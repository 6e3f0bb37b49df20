"""Models in timm's form, a config.json beside the weights: `local-dir:FOLDER` and `hf-hub:OWNER/NAME[@REVISION]`.

They mean what timm means by them: the architecture, its arguments and how images are prepared come from config.json.
Nothing of such a folder is executed, and weights are read as every other checkpoint is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg

from nsbench.errors import ModelError
from nsbench.files import expanded, read_regular
from nsbench.models.architecture import Architecture
from nsbench.models.declared import LARGEST
from nsbench.models.hub import fetch, fetch_first, parse_repository
from nsbench.models.loading import EMBEDDED_ARGS, load_timm
from nsbench.models.model import Model
from nsbench.models.request import Request
from nsbench.models.timm_pretrained import FILES
from nsbench.types import Origin

CONFIG = "config.json"
OF_WEIGHTS = ("num_classes", "img_size")  # arguments that the weights decide, or the preparation of images
NOT_ARGS = frozenset(signature(timm.create_model).parameters)  # where weights lie, say: no config.json decides that


def load(request: Request) -> Model:
    """The model of a folder or of a repository. Raises UsageError or ModelError in one line."""
    request.without_checkpoint()
    if request.name.startswith("local-dir:"):
        folder = expanded(request.rest)
        config, weights = folder / CONFIG, _weights_in(folder, request.name)
        name, origin = f"local-dir:{folder.absolute().name}", Origin("local-dir", folder.absolute().name)
    else:
        repository, revision = parse_repository(request.rest, request.name)
        found = fetch(repository, revision, CONFIG, request.name)
        if found is None:
            raise ModelError(f"model '{request.name}': {repository} has no {CONFIG}, so it is not in timm's form")
        config, weights = found, fetch_first(repository, revision, FILES, request.name)
        name, origin = request.name, Origin("hf-hub", repository)
    architecture = read_architecture(config, request.name)
    model = load_timm(
        architecture,
        weights,
        origin,
        name=name,
        normalisation=request.normalisation,
        asked=request.asked,
        which=request.which,
    )
    model.config_digest = _digest_of_arguments(architecture)
    return model


def _digest_of_arguments(architecture: Architecture) -> str:
    """Of those that the weights do not decide; "" for none, and for the embedded architecture's: such a model that was
    exported keeps the digest that it has in results."""
    args, embedded = (
        {name: value for name, value in given.items() if name not in OF_WEIGHTS}
        for given in (architecture.args, EMBEDDED_ARGS)
    )
    return config_digest(args) if args and args != embedded else ""


def config_digest(config: Mapping[str, Any]) -> str:
    """16 hex digits over what a config.json says."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _weights_in(folder: Path, written: str) -> Path:
    if not folder.is_dir():
        raise ModelError(f"model '{written}': {folder} is not a folder; give the one that holds {CONFIG} and weights")
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"model '{written}': {folder} has none of {', '.join(FILES)}")


def read_config(path: Path, written: str) -> dict[str, Any]:
    """A config.json. Raises ModelError where it cannot be read or is no JSON object."""
    try:
        content = read_regular(path)
        record = json.loads(content) if len(content) <= LARGEST else None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model '{written}': {path} cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(record, dict):
        raise ModelError(f"model '{written}': {path} is no JSON object, or too long")
    return record


def read_architecture(path: Path, written: str) -> Architecture:
    """What a config.json in timm's form says to build. Raises ModelError."""
    record = read_config(path, written)
    name = record.get("architecture")
    if not isinstance(name, str):
        hint = f"; write transformers:{written.partition(':')[2]}" if "model_type" in record else ""
        raise ModelError(f"model '{written}': {path} names no architecture, so it is not in timm's form{hint}")
    if not timm.is_model(name):
        raise ModelError(f"model '{written}': {path} names '{name[:80]}', which timm {timm.__version__} does not have")
    args, config = record.get("model_args") or {}, record.get("pretrained_cfg", record)
    if not isinstance(args, Mapping) or not isinstance(config, Mapping):
        raise ModelError(f"model '{written}': in {path}, model_args and pretrained_cfg must be JSON objects")
    if taken := [arg for arg in args if arg in NOT_ARGS]:
        raise ModelError(f"model '{written}': {path} sets {', '.join(taken)}, which no file decides; remove it there")
    return Architecture(name, dict(args), _known_fields(config, record.get("num_classes")))


def _known_fields(config: Mapping[str, Any], classes: Any) -> dict[str, Any]:
    """What timm's configuration has, without where weights would lie; lists as tuples, as timm has them."""
    known = {one.name for one in fields(PretrainedCfg)} - {"url", "file", "state_dict", "hf_hub_id", "source"}
    kept = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items() if key in known and v is not None}
    return kept | ({"num_classes": classes} if isinstance(classes, int) else {})
