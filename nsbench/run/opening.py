"""The one place that opens what a run works on: data source, model, device."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nsbench import processes
from nsbench.data import DataSource, SurrogateName
from nsbench.data.source import require_its_classes
from nsbench.errors import UsageError
from nsbench.files import expanded
from nsbench.progress import SILENT, Progress
from nsbench.run.options import EMBEDDED

if TYPE_CHECKING:
    from nsbench.models import Model
    from nsbench.models.preparation import Preparation


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
    follow_links: bool = False,
    progress: Progress = SILENT,
    class_map: str | None = None,
    class_map_by: str = "sum",
    network: Model | None = None,
) -> Opened:
    """Data source, model (by default the source's own) and device, as the command line names them.

    For `asked` and `which` see `models.load_model`, for `follow_links` `open_source`. `untrained`: a seed; the
    architecture is taken as timm initialises it, with the source's number of classes. `network`: one that is there already,
    instead of all that. `class_map`: what the outputs of
    the model mean, see `class_maps`. Raises an nsbench error where the
    source or the model is not there, or the two do not belong together.
    """
    from nsbench import models

    source = open_source(data, corruption_engine, surrogate, follow_links, progress)
    name = network.name if network else model or source.default_model
    if name is None:
        raise UsageError(f"--data {data}: say which model to take: --model NAME, see docs/models.md")
    place = resolve_device(device)
    if network is not None:
        network = network.to(place)
    elif untrained is not None:
        if checkpoint or class_map:
            other = f"--checkpoint {checkpoint}" if checkpoint else f"--class-map {class_map}"
            raise UsageError(f"--untrained and {other}: give one of the two")
        from nsbench.models.untrained import untrained_model

        classes = len(source.class_names)
        network = untrained_model(name, seed=untrained, normalisation=normalisation, num_classes=classes).to(place)
    else:
        network = models.load_model(
            name, checkpoint=checkpoint, normalisation=normalisation, device=place, asked=asked, which=which,
            crop_pct=source.crop_pct,
        )  # fmt: skip
    if class_map:
        from nsbench.run.class_maps import mapped

        network = mapped(network, class_map, class_map_by, source)
    mapped_by = ", or say with --class-map what the model's outputs mean"
    require_its_classes(source, name, network.num_classes, mapped_by)
    return Opened(source, network, place)


def open_source(
    spec: str,
    corruption_engine: str = "nsbench",
    surrogate: str | None = None,
    follow_links: bool = False,
    progress: Progress = SILENT,
) -> DataSource:
    """`shapes10`, the path of an ImageNet tree (a folder with val, imagenet-a, ...), images of other classes, or a config
    file (.toml). `folder:PATH` has its own classes even where these are called like ImageNet's. `hf:owner/name[@revision]`
    is a data set of the Hugging Face hub, `torchvision:NAME:ROOT` one that torchvision reads.

    `corruption_engine` makes ImageNet-C where it is not on disk; shapes10 always takes the reference engine.
    `surrogate`, NAME or NAME:CHECKPOINT, is what transfer sets are made on, in place of the one that the source names.
    `follow_links`: links in the data may lead out of their set.
    """
    from nsbench.making.transfer import Surrogate, TransferSource

    given = Surrogate(SurrogateName.parse(surrogate)) if surrogate else None
    return TransferSource(_source(spec, corruption_engine, follow_links, progress), given)


def _source(spec: str, corruption_engine: str, follow_links: bool, progress: Progress) -> DataSource:
    if spec == EMBEDDED:
        from nsbench.shapes10 import Shapes10

        return Shapes10()
    from nsbench.data.own_parts import OWN

    kind, _, place = spec.partition(":")
    if kind == OWN and place:
        return _own(expanded(place), corruption_engine, follow_links)
    if kind == "torchvision":
        return _torchvision(place, corruption_engine)
    if kind == "hf":
        from nsbench.data.hf import dataset_folder

        path, follow_links = dataset_folder(place, progress), True
    else:
        path = expanded(spec)
    if _is_own(path, follow_links):
        return _own(path, corruption_engine, follow_links)
    if not os.path.isdir(path) and not (os.path.isfile(path) and path.suffix.lower() == ".toml"):
        what = "is neither a folder nor a .toml file" if os.path.exists(path) else "does not exist"
        raise UsageError(
            f"--data {spec}: {what}; give '{EMBEDDED}', the folder of an ImageNet tree or of images of your own "
            "classes, or a config file that names the sets"
        )
    from nsbench.data.imagenet import ImageNetTree
    from nsbench.data.own import OwnSource
    from nsbench.data.own_config import read_own_config

    if path.suffix.lower() == ".toml" and (own := read_own_config(path)):
        return OwnSource(
            own.root, name=own.name, order=own.class_names, engine=corruption_engine, follow_links=follow_links,
            surrogate=own.surrogate, sets=own.sets, config=path,
        )  # fmt: skip
    return ImageNetTree(path, corruption_engine, follow_links)


def _torchvision(spec: str, corruption_engine: str) -> DataSource:
    from nsbench.data.torchvision_sets import TorchvisionSource

    name, _, root = spec.partition(":")
    if not root:
        raise UsageError(f"--data torchvision:{spec}: give torchvision:NAME:ROOT, such as torchvision:CIFAR10:data")
    return TorchvisionSource(name, expanded(root), corruption_engine)


def _is_own(path: Path, follow_links: bool) -> bool:
    from nsbench.data.own_parts import has_own_classes

    return path.suffix.lower() != ".toml" and has_own_classes(path, follow_links)


def _own(path: Path, corruption_engine: str, follow_links: bool) -> DataSource:
    from nsbench.data.own import OwnSource

    return OwnSource(path, engine=corruption_engine, follow_links=follow_links)


def resolve_device(wanted: str) -> str:
    """`auto` is the GPU, where there is one: one for each of several processes. Raises UsageError for what is not here."""
    found = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    found = processes.own_device(found)
    try:
        torch.zeros(1, device=found).item()  # a device without values, such as meta, gives none back
    except (RuntimeError, AssertionError, ImportError, AttributeError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"--device {wanted}: is not here ({why}); use auto or cpu") from error
    if found.startswith("cuda"):
        torch.cuda.set_device(found)  # for what is asked of "the" GPU: to wait for it, to pin memory for it
        torch.backends.cudnn.allow_tf32 = False  # else float32 is convolved with ten bits of mantissa
    return found
