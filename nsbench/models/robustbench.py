"""Robust models to compare with: RobustBench's ImageNet zoo (Croce et al. 2021, arXiv:2010.09670).

    nsbench run --model robustbench:Salman2020Do_R50 ...          threat Linf
    nsbench run --model robustbench:Hendrycks2020AugMix:corruptions ...

robustbench 1.1.1 imports `autoattack`, which its own dependency `pyautoattack` installs under another name; the alias
is put in place from outside. Each model is prepared as RobustBench's table says and normalises inside. Weights that
are not on disk are downloaded by RobustBench itself, from where their authors keep them.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any

import torch
from torch import nn

from nsbench.errors import ModelError, UnknownName, UsageError
from nsbench.files import cache_folder
from nsbench.models.catalogue import ROBUSTBENCH, known_robustbench
from nsbench.models.model import Model, Triple
from nsbench.models.origin import of_file
from nsbench.models.preprocessing import Preprocessing, Transform
from nsbench.models.request import Request
from nsbench.types import Origin

DATASET = "imagenet"
CLASSES = 1000
THREATS = ("Linf", "L2", "corruptions")
AS_IT_IS: tuple[Triple, Triple] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std of a model that normalises inside


@dataclass(frozen=True)
class CentreCrop(Preprocessing):
    """A crop of the original image, without any resizing: what "Crop288" of RobustBench's table is."""

    def transform(self, mode: str = "checkpoint") -> Transform:
        if mode != "checkpoint":
            return super().transform(mode)
        from timm.data.transforms import MaybePILToTensor
        from torchvision.transforms import CenterCrop, Compose

        crop: Transform = Compose([CenterCrop(self.size), MaybePILToTensor()])
        return crop

    def describe(self) -> str:
        return f"no resize, crop {self.size}"


PREPARED: dict[str, Preprocessing] = {  # robustbench.data.PREPROCESSINGS
    "Res256Crop224": Preprocessing(224, 0.875, "bilinear"),
    "BicubicRes256Crop224": Preprocessing(224, 0.875, "bicubic"),
    "Res224": Preprocessing(224, 1.0, "bilinear", "squash"),
    "Crop288": CentreCrop(288, 1.0),
}


def load(request: Request) -> Model:
    """The model `robustbench:NAME[:THREAT]`; THREAT is Linf where it is not given.

    Raises UsageError, UnknownName, and ModelError where RobustBench cannot be imported or the weights are absent and
    cannot be downloaded: the message names the file that is missing.
    """
    request.unprepared("a RobustBench model")
    request.without_checkpoint()
    entry, threat = parse(request.name)
    zoo = import_robustbench()
    files = weight_files(entry, threat)
    network = _load(zoo, request.name, entry, threat, files)
    inner, (mean, std) = _unwrap(network)
    if not hasattr(inner, "num_classes"):  # of other libraries than timm
        setattr(inner, "num_classes", CLASSES)  # noqa: B010
    model = Model(inner, name=request.name, preprocessing=preprocessing(entry, threat), mean=mean, std=std)
    origin = Origin(ROBUSTBENCH, request.rest)
    model.origin = of_file(files[0], origin) if len(files) == 1 and files[0].is_file() else origin
    return model


def parse(name: str) -> tuple[str, str]:
    """(name in the zoo, threat model) of `robustbench:NAME[:THREAT]`. Raises UsageError or UnknownName."""
    entry, _, threat = name.removeprefix(f"{ROBUSTBENCH}:").partition(":")
    threats = {known.lower(): known for known in THREATS}
    if (threat or "Linf").lower() not in threats:
        raise UsageError(f"model '{name}': threat model '{threat}' is none of {', '.join(THREATS)}")
    threat = threats[(threat or "Linf").lower()]
    known = [one for one, group in known_robustbench() if group == threat]
    if entry not in known:
        raise UnknownName(f"RobustBench model for {threat}", entry, known)
    return entry, threat


def import_robustbench() -> ModuleType:
    """The module robustbench.utils. Raises ModelError, which says what to install."""
    try:
        import pyautoattack
        import pyautoattack.state

        sys.modules.setdefault("autoattack", pyautoattack)
        sys.modules.setdefault("autoattack.state", pyautoattack.state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources and old timm paths announce their end
            import robustbench.data
            import robustbench.utils
    except ImportError as error:
        raise ModelError(
            f"RobustBench cannot be imported ({error}); install robustbench, pyautoattack and "
            "'setuptools<81', which still has pkg_resources"
        ) from error
    utils: ModuleType = robustbench.utils
    return utils


def preprocessing(entry: str, threat: str) -> Preprocessing:
    """How RobustBench prepares images for this model."""
    import timm

    registered = _timm_name(entry, threat)
    if timm.is_model(registered):
        config = timm.get_pretrained_cfg(registered)
        return Preprocessing(int(config.input_size[1]), float(config.crop_pct), str(config.interpolation))
    return PREPARED[_zoo_entry(entry, threat)["preprocessing"]]


def weight_files(entry: str, threat: str) -> list[Path]:
    """Where the weights of a model lie, or will lie once they are downloaded."""
    import timm

    registered = _timm_name(entry, threat)
    if timm.is_model(registered):
        return [_hub() / str(timm.get_pretrained_cfg(registered).url).rsplit("/", 1)[-1]]
    drive = _zoo_entry(entry, threat)["gdrive_id"]
    if not drive:
        from torchvision.models import ResNet50_Weights

        return [_hub() / ResNet50_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]]
    path = model_folder() / DATASET / threat / f"{entry}.pt"
    return [path.with_name(f"{path.name}_m{k}.pt") for k in range(len(drive))] if isinstance(drive, list) else [path]


def model_folder() -> Path:
    """RobustBench's `model_dir`."""
    return cache_folder() / "robustbench"


def _hub() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _timm_name(entry: str, threat: str) -> str:
    """What RobustBench calls a model that it registers with timm."""
    return f"{entry.lower().replace('-', '_')}_{DATASET}_{threat.lower()}"


def _zoo_entry(entry: str, threat: str) -> dict[str, Any]:
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    found: dict[str, Any] = model_dicts[BenchmarkDataset(DATASET)][ThreatModel(threat)][entry]
    return found


def _load(zoo: ModuleType, name: str, entry: str, threat: str, files: list[Path]) -> nn.Module:
    """RobustBench's own loading, silent, with every failure as one line."""
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            model: nn.Module = zoo.load_model(entry, model_dir=model_folder(), dataset=DATASET, threat_model=threat)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"model '{name}': {files[0]} is damaged, or holds Python objects other than tensors, which "
            "are not loaded because they could run code; save its state_dict under the same name"
        ) from error
    except Exception as error:  # downloaders and loaders of three libraries raise errors of many kinds
        missing = [path for path in files if not path.is_file()]
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = shorten(": ".join([type(error).__name__, *lines[:1]]), 100, placeholder=" ...")
        if missing:
            raise ModelError(
                f"model '{name}': its weights are not at {missing[0]} and cannot be downloaded ({why}); "
                f"go online, or copy the file there{_source(entry, threat)}"
            ) from error
        raise ModelError(
            f"model '{name}': {files[0]} cannot be loaded ({why}); delete it to have it downloaded again"
        ) from error
    return model


def _source(entry: str, threat: str) -> str:
    drive = _zoo_entry(entry, threat)["gdrive_id"]
    identifiers = drive if isinstance(drive, list) else [drive] if drive else []
    return f" (Google Drive {', '.join(identifiers)})" if identifiers else ""


def _unwrap(network: nn.Module) -> tuple[nn.Module, tuple[Triple, Triple]]:
    """The network inside RobustBench's normalisation and its mean and std, so that a transformer shows its patches."""
    inner, normalise = getattr(network, "model", None), getattr(network, "normalize", None)
    if not isinstance(network, nn.Sequential) or len(network) != 2 or inner is None or normalise is None:
        return network, AS_IT_IS
    return inner, (_triple(normalise.mean), _triple(normalise.std))


def _triple(values: torch.Tensor) -> Triple:
    red, green, blue = values.flatten().tolist()
    return red, green, blue
