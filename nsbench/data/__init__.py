"""Data sources: `shapes10` (embedded) and ImageNet trees."""

from __future__ import annotations

from pathlib import Path

from nsbench.data.source import DataSource, Split
from nsbench.errors import DataError

__all__ = ["DataSource", "Split", "open_source"]

EMBEDDED = "shapes10"


def open_source(spec: str, corruption_engine: str = "nsbench", surrogate: str | None = None) -> DataSource:
    """`shapes10`, the path of an ImageNet tree (a folder with val, imagenet-a, ...), or a config file (.toml).

    `corruption_engine` makes ImageNet-C where it is not on disk; shapes10 always takes the reference engine.
    `surrogate`, NAME or NAME:CHECKPOINT, is what transfer sets are made on, in place of the one that the source names.
    """
    source = _source(spec, corruption_engine)
    if surrogate:
        from nsbench.data.transfer import Surrogate

        source.surrogate = Surrogate(surrogate)
    return source


def _source(spec: str, corruption_engine: str) -> DataSource:
    if spec == EMBEDDED:
        from nsbench.data.shapes10 import Shapes10

        return Shapes10()
    path = Path(spec).expanduser()
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".toml"):
        what = "is neither a folder nor a .toml file" if path.exists() else "does not exist"
        raise DataError(f"--data {spec}: {what}; give '{EMBEDDED}', the folder of an ImageNet tree, or a config file "
                        "that names the sets")
    from nsbench.data.imagenet import ImageNetTree

    return ImageNetTree(path, corruption_engine)
