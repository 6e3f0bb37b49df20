"""What a checkpoint says of how its images are prepared, and what the caller says instead.

A declaration may stand in a config.json or preprocessor_config.json beside the file (timm's and Hugging Face's forms),
in the arguments that a training script kept (`args`), or in the weights themselves as a first layer that normalises.
Two that contradict each other are refused, because either would give a figure that looks right.
"""

from __future__ import annotations

import json
import math
import re
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsbench.errors import ModelError, UsageError
from nsbench.files import read_regular
from nsbench.models.preparation import INTERPOLATIONS, Preparation, Triple, share

OPTIONS = {  # of `nsbench run` that decide a field
    "mean": "--mean",
    "std": "--std",
    "size": "--img-size",
    "crop_pct": "--crop-pct",
    "interpolation": "--interpolation",
}
# Image processors of transformers whose preparation timm's transform repeats, and the resize that each has by default
PROCESSORS = {"ViT": 2, "DeiT": 3, "Beit": 3, "ConvNext": 3, "Levit": 3, "MobileViT": 3, "Bit": 3, "CLIP": 3}
SQUARE = ("ViT", "DeiT", "Beit")  # which read a plain number as height and width, others as the shorter side
CROPPING = ("DeiT", "Levit", "MobileViT", "Bit", "CLIP")  # unless do_center_crop says otherwise
LARGEST = 1 << 22  # bytes of a config file: a thousand label names take 60,000


@dataclass(frozen=True)
class Declared:
    """What a checkpoint declares, and where it stood."""

    preparation: Preparation = field(default_factory=Preparation)
    sources: Mapping[str, str] = field(default_factory=dict)  # field of `preparation` -> "config.json"
    classes: int | None = None

    def words(self) -> tuple[str, ...]:
        """ "mean, std from config.json"."""
        places = dict.fromkeys(self.sources.values())
        return tuple(f"{', '.join(f for f, p in self.sources.items() if p == place)} from {place}" for place in places)


def together(found: Iterable[tuple[str, Preparation, int | None]], checkpoint: Path) -> Declared:
    """One declaration of several (place, what, classes). Raises ModelError where two contradict each other."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    classes = None
    for place, preparation, count in found:
        for name, value in preparation.said().items():
            if name in values and not _same(values[name], value):
                raise ModelError(
                    f"checkpoint '{checkpoint}': {name} is {_shown(values[name])} in {sources[name]} and {_shown(value)} "
                    f"in {place}; {_decided(name)}"
                )
            values.setdefault(name, value)
            sources.setdefault(name, place)
        classes = classes or count
    return Declared(Preparation(**values), sources, classes)


def _decided(name: str) -> str:
    """What to do where declarations differ in a field."""
    return f"say which holds, with {OPTIONS[name]}" if name in OPTIONS else "correct one of the two"


def without_contradiction(found: Iterable[tuple[str, Preparation, int | None]], asked: Preparation) -> list[Any]:
    """The declarations without what the caller has decided, so that it cannot be contradicted."""
    decided = dict.fromkeys(asked.said())
    return [(place, replace(what, **decided), count) for place, what, count in found]


def first_said(found: Iterable[tuple[str, Preparation, int | None]]) -> Preparation:
    """What the declarations say; of two that contradict each other, the first."""
    values: dict[str, Any] = {}
    for _place, preparation, _count in found:
        values = preparation.said() | values
    return Preparation(**values)


def beside(checkpoint: Path, model: str) -> list[tuple[str, Preparation, int | None]]:
    """What the config files in the checkpoint's folder declare, unless they name another architecture than `model`.

    Raises ModelError for one that cannot be read.
    """
    found = []
    for name, read in (("config.json", _config), ("preprocessor_config.json", _preprocessor)):
        path = checkpoint.with_name(name)
        if not path.exists():
            continue
        try:
            content = read_regular(path)
            record = json.loads(content) if len(content) <= LARGEST else None
            if not isinstance(record, dict):
                raise ValueError("it is no JSON object, or too long")
            if str(record.get("architecture", model)).partition(".")[0] == model.partition(".")[0]:
                found.append((name, *read(record)))
        except (OSError, ValueError, TypeError, RecursionError, UsageError) as error:
            raise ModelError(
                f"{path}: says how the images of {checkpoint.name} are prepared, and cannot be read "
                f"({str(error).splitlines()[0]}); correct it, or move it away"
            ) from error
    return found


def of_training(args: Any) -> tuple[str, Preparation, int | None] | None:
    """What the arguments of a training script declare: timm's names."""
    if isinstance(args, Namespace):
        args = vars(args)
    if not isinstance(args, Mapping):
        return None
    size = args.get("img_size") or args.get("input_size")
    return "the file's args", _preparation({**args, "input_size": size}), _count(args.get("num_classes"))


def of_first_layer(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Preparation | None]:
    """The weights without a first layer that normalises (`normalize.mean`, `0.std`, ...), and what it does."""
    for mean in [name for name in state if name.rpartition(".")[2] == "mean"]:
        std = mean.removesuffix("mean") + "std"
        layer = mean.rpartition(".")[0]
        if std in state and state[mean].numel() == state[std].numel() == 3:
            rest = {name: value for name, value in state.items() if name not in (mean, std)}
            before, _, last = layer.rpartition(".")
            if last.isdigit():  # nn.Sequential(normalise, network)
                network = f"{before}{'.' if before else ''}{int(last) + 1}."
                rest = {name.removeprefix(network): value for name, value in rest.items()}
            return rest, Preparation(mean=_triple(state[mean].tolist()), std=_triple(state[std].tolist()))
    return state, None


# --- forms of config files ----------------------------------------------------------------------------------------


def _config(record: Mapping[str, Any]) -> tuple[Preparation, int | None]:
    """timm's, whose `pretrained_cfg` is nested or, in old files, the file itself; or transformers' config.json."""
    nested = record.get("pretrained_cfg")
    own = {**record, **nested} if isinstance(nested, Mapping) else dict(record)
    own.setdefault("input_size", own.get("image_size"))
    labels = record.get("id2label") or record.get("label_names")
    return _preparation(own), _count(
        record.get("num_classes") or record.get("num_labels") or (len(labels) if labels else None)
    )


def _preprocessor(record: Mapping[str, Any]) -> tuple[Preparation, int | None]:
    """Hugging Face's preprocessor_config.json. Raises UsageError for what is known to be prepared in another way."""
    kind = str(record.get("image_processor_type") or record.get("feature_extractor_type") or "")
    kind = re.sub("(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", kind)
    _require_known(kind, record)
    plain = record.get("do_normalize", kind != "MobileViT")
    if not plain:
        record = {**record, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    crop, size = record.get("crop_size"), record.get("size")
    cropped = record.get("do_center_crop", kind in CROPPING or (kind not in PROCESSORS and "crop_size" in record))
    side, resized = _side(crop) if cropped else None, _side(size)
    square = "height" in size if isinstance(size, Mapping) else size is not None and kind in SQUARE
    crop_pct: Any = (share(side, resized) if side and resized else record.get("crop_pct")) if cropped else 1.0
    if kind == "ConvNext" and resized:
        square, crop_pct = resized >= 384, (1.0 if resized >= 384 else record.get("crop_pct") or 224 / 256)
    elif kind == "Levit" and side and resized and not square:
        crop_pct = share(side, int(256 / 224 * resized))
    elif kind in PROCESSORS and resized and not square and not cropped:
        raise UsageError(f"size {size} without a crop gives images that are not square")
    resample = record.get("resample", PROCESSORS.get(kind))
    return _preparation(
        {
            "mean": record.get("image_mean"),
            "std": record.get("image_std"),
            "input_size": side or resized,
            "crop_pct": crop_pct,
            "interpolation": INTERPOLATIONS.get(resample) if resample is not None else None,
            "crop_mode": "squash" if square else None,
        }
    ), None


def _require_known(kind: str, record: Mapping[str, Any]) -> None:
    """Raises UsageError for a processor, or a switch of one, that does something that is not done here."""
    if kind and kind not in PROCESSORS:
        raise UsageError(f"'{kind}' is none of the image processors that are known: {', '.join(PROCESSORS)}")
    if record.get("do_flip_channel_order", kind == "MobileViT"):
        raise UsageError("do_flip_channel_order: images of blue, green and red are not supported")
    for name, usual in (("do_resize", True), ("do_rescale", True), ("rescale_offset", False), ("do_pad", False)):
        if record.get(name, usual) not in (usual, None):
            raise UsageError(f"{name} {record[name]}: is not supported")
    if not math.isclose(record.get("rescale_factor") or 1 / 255, 1 / 255, rel_tol=1e-6):
        raise UsageError(f"rescale_factor {record['rescale_factor']}: only 1/255 is supported")


def _preparation(found: Mapping[str, Any]) -> Preparation:
    crop = found.get("crop_pct")
    return Preparation(
        mean=_triple(found.get("mean")),
        std=_triple(found.get("std")),
        size=_side(found.get("input_size")),
        crop_pct=None if crop is None else float(crop),
        interpolation=None if found.get("interpolation") in (None, "", "random") else str(found["interpolation"]),
        crop_mode=None if found.get("crop_mode") is None else str(found["crop_mode"]),
    )


def _triple(value: Any) -> Triple | None:
    """Of a number, of three, or of an array of three in any shape."""
    if value is None:
        return None
    flat = np.asarray(value, dtype=np.float64).ravel()
    if flat.size not in (1, 3):
        raise UsageError(f"{flat[:4].tolist()}: give three numbers, for red, green and blue")
    red, green, blue = np.broadcast_to(flat, 3).tolist()
    return red, green, blue


def _side(value: Any) -> int | None:
    """Of a square: 224, (3, 224, 224), {"height": 224, "width": 224} or {"shortest_edge": 256}."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        sides = [value[key] for key in ("height", "width", "shortest_edge") if key in value]
    else:
        sides = list(value)[-2:] if isinstance(value, list | tuple) else [value]
    if not sides or len({int(one) for one in sides}) != 1:
        raise UsageError(f"input size {value}: only square images are supported")
    return int(sides[0])


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return math.isclose(one, other, abs_tol=1e-3)
    return bool(one == other)


def _shown(value: Any) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)
