"""The one place that opens what a run works on: data source, model, device."""

from __future__ import annotations

from pathlib import Path

import torch

from nsbench.data import DataSource, SurrogateName
from nsbench.errors import DataError, UsageError

EMBEDDED = "shapes10"


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
    path = Path(spec).expanduser()
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".toml"):
        what = "is neither a folder nor a .toml file" if path.exists() else "does not exist"
        raise DataError(
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
        torch.zeros(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {wanted}: is not here ({str(error).splitlines()[0]}); use auto or cpu") from error
    return wanted
