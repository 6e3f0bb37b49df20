"""Models by what a user writes after --model: a name, a place and a name, or code of the user's own.

    vit_shapes10                        the embedded model
    vit_tiny_patch16_224[.TAG]          a timm name: the file of --checkpoint, or timm's pretrained weights
    hf-hub:OWNER/NAME[@REVISION]        a repository in timm's form (config.json and weights)
    local-dir:FOLDER                    a folder in timm's form
    torchvision:NAME[:WEIGHTS]          torchvision's weights
    transformers:OWNER/NAME, or FOLDER  an image classifier of transformers
    robustbench:NAME[:THREAT]           RobustBench's zoo
    package.module:FUNCTION             the user's own code, or ./file.py:FUNCTION
    NAME                                of an installed package's entry point in the group nsbench.models

What is not on disk is downloaded to the cache of the library whose place it is, unless HF_HUB_OFFLINE forbids it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import timm
import torch

from nsbench.errors import UnknownName, UsageError
from nsbench.models.architecture import Architecture
from nsbench.models.catalogue import EMBEDDED, PLACES, known_models
from nsbench.models.loading import NORMALISATIONS, WEIGHTS, load_timm, with_normalisation
from nsbench.models.model import Model
from nsbench.models.preparation import Preparation
from nsbench.models.request import Request
from nsbench.types import Origin

ENTRY_POINTS = "nsbench.models"  # group of names that packages give to functions of theirs


def load_model(
    name: str,
    *,
    checkpoint: Path | None = None,
    normalisation: str = "own",
    device: str | torch.device = "cpu",
    asked: Preparation | None = None,
    which: str = "ema",
    crop_pct: float | None = None,
) -> Model:
    """The model that `name` stands for: see this module. `model.origin` says where its weights come from.

    Images are prepared as the caller `asked`, else as the checkpoint declares (see `declared`), else as timm says of
    that name; `model.said` tells which. `normalisation` "imagenet" and "half" stand for such a mean and std. `which`
    weights, "ema" or "raw", where the file has both. `crop_pct`: of code of one's own that says none.

    Raises UnknownName, UsageError, or ModelError where checkpoint and
    architecture do not fit, or weights are neither on disk nor to be downloaded.
    """
    if normalisation not in NORMALISATIONS:
        raise UsageError(f"normalisation '{normalisation}' is none of {', '.join(NORMALISATIONS)}")
    asked = with_normalisation(asked or Preparation(), normalisation)
    place, _, rest = name.partition(":")
    file = None if checkpoint is None else Path(checkpoint)
    request = Request(name, rest, file, normalisation, asked, which, crop_pct)
    return _loader(place, rest)(request).to(device)


def _loader(place: str, rest: str) -> Callable[[Request], Model]:
    if place in PLACES:
        load: Callable[[Request], Model] = import_module(PLACES[place].module).load
        return load
    if rest:
        from nsbench.models.own_code import load as load_code

        return load_code
    return _by_name


def _by_name(request: Request) -> Model:
    """The embedded model, or one that timm knows by name."""
    name = request.name
    if name == EMBEDDED:
        shipped = WEIGHTS / f"{EMBEDDED}.safetensors"
        origin = Origin("embedded" if request.checkpoint is None else "file")
        return _from_file(request, request.checkpoint or shipped, origin)
    if installed := entry_points(group=ENTRY_POINTS, name=name):
        from nsbench.models.own_code import load as load_code

        if len(codes := sorted({one.value for one in installed})) > 1:
            raise UsageError(f"model '{name}': two packages have it, {' and '.join(codes)}; name the function instead")
        return load_code(replace(request, name=codes[0]))
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=6)
        known = [model for model in known_models() if ":" not in model]
        raise UnknownName(
            "model", name, [*known, *(c for c in close if c not in known), *(f"{p}:NAME" for p in PLACES)]
        )
    if request.checkpoint is not None:
        return _from_file(request, request.checkpoint, Origin("file"))
    from nsbench.models.timm_pretrained import pretrained_file

    return _from_file(request, *pretrained_file(name))


def _from_file(request: Request, path: Path, origin: Origin) -> Model:
    return load_timm(
        Architecture(request.name),
        path,
        origin,
        normalisation=request.normalisation,
        asked=request.asked,
        which=request.which,
    )
