"""The one place that opens what a run works on: data source, model, device."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nsbench.data import DataSource, SurrogateName
from nsbench.errors import ModelError, UsageError
from nsbench.files import expanded

if TYPE_CHECKING:
    from nsbench.models import Model
    from nsbench.models.preparation import Preparation

EMBEDDED = "shapes10"


@dataclass(frozen=True)
class Opened:
    """A data source, a model that knows its classes, and the device that the model is on."""

    source: DataSource
    model: Model
    device: str


def open_all(
    data: str,
    model: str | None = None,
    *,
    checkpoint: Path | None = None,
    normalisation: str = "own",
    device: str = "auto",
    corruption_engine: str = "nsbench",
    surrogate: str | None = None,
    untrained: int | None = None,
    asked: Preparation | None = None,
    which: str = "ema",
) -> Opened:
    """Data source, model (by default the source's own) and device, as the command line names them.

    For `asked` and `which` see `models.load_model`. `untrained`: a seed; the architecture is taken as timm initialises it,
    with the source's number of classes. Raises an nsbench error where the source or the model is not there, or the two do
    not belong together.
    """
    from nsbench import models

    source = open_source(data, corruption_engine, surrogate)
    name = model or source.default_model
    if name is None:
        raise UsageError(f"--data {data}: say which model to take, --model NAME with --checkpoint FILE")
    place = resolve_device(device)
    if untrained is not None:
        if checkpoint:
            raise UsageError(f"--untrained and --checkpoint {checkpoint}: give one of the two")
        from nsbench.models.untrained import untrained_model

        classes = len(source.class_names)
        network = untrained_model(name, seed=untrained, normalisation=normalisation, num_classes=classes).to(place)
    else:
        network = models.load_model(
            name, checkpoint=checkpoint, normalisation=normalisation, device=place, asked=asked, which=which
        )
    if network.num_classes != len(source.class_names):
        raise ModelError(
            f"model '{name}' has {network.num_classes} classes, {source.title} has "
            f"{len(source.class_names)}; choose a model and a data source that belong together"
        )
    return Opened(source, network, place)


def open_source(spec: str, corruption_engine: str = "nsbench", surrogate: str | None = None) -> DataSource:
    """`shapes10`, the path of an ImageNet tree (a folder with val, imagenet-a, ...), or a config file (.toml).

    `corruption_engine` makes ImageNet-C where it is not on disk; shapes10 always takes the reference engine.
    `surrogate`, NAME or NAME:CHECKPOINT, is what transfer sets are made on, in place of the one that the source names.
    """
    from nsbench.making.transfer import Surrogate, TransferSource

    given = Surrogate(SurrogateName.parse(surrogate)) if surrogate else None
    return TransferSource(_source(spec, corruption_engine), given)


def _source(spec: str, corruption_engine: str) -> DataSource:
    if spec == EMBEDDED:
        from nsbench.shapes10 import Shapes10

        return Shapes10()
    path = expanded(spec)
    if not os.path.isdir(path) and not (os.path.isfile(path) and path.suffix.lower() == ".toml"):
        what = "is neither a folder nor a .toml file" if os.path.exists(path) else "does not exist"
        raise UsageError(
            f"--data {spec}: {what}; give '{EMBEDDED}', the folder of an ImageNet tree, or a config file "
            "that names the sets"
        )
    from nsbench.data.imagenet import ImageNetTree

    return ImageNetTree(path, corruption_engine)


def resolve_device(wanted: str) -> str:
    """`auto` is the GPU where there is one. Raises UsageError for a device that is not here."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted).item()  # a device without values, such as meta, gives none back
    except (RuntimeError, AssertionError, ImportError, AttributeError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"--device {wanted}: is not here ({why}); use auto or cpu") from error
    return wanted
