"""What the commands on pictures share: files and folders as a bench's images, and pictures written to files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.data.decode import decode
from nsbench.data.source import DataSource, Split, digest_of
from nsbench.errors import CorruptImage, DataError, MissingSplit, UsageError
from nsbench.files import read_regular, write_atomically
from nsbench.laboratory import Bench, Images, open_bench
from nsbench.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from nsbench.nullspace.exact import PatchNullspace

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class _Files(Split):
    """Files without labels, in the order given."""

    name, origin = "clean", "files"

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.ids = np.array([str(path) for path in paths], dtype=str)
        self.labels = np.zeros(len(paths), dtype=np.int64)

    def load(self, index: int) -> Image.Image:
        return decode(self.paths[index])

    @property
    def digest(self) -> str:
        return digest_of(*(hashlib.sha256(read_regular(path)).hexdigest() for path in self.paths))


class PictureFiles(DataSource):
    """A data source of one split, "clean": picture files of no known class."""

    name, title = "files", "picture files"

    def __init__(self, paths: Sequence[Path], classes: int) -> None:
        self.paths = list(paths)
        self.class_names = [f"class {index}" for index in range(classes)]

    def splits(self) -> list[str]:
        return ["clean"]

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        if name != "clean":
            raise MissingSplit(f"picture files have no split '{name}'; give --data a source that has it")
        return _Files(self.paths)


def picture_paths(given: Sequence[Path]) -> list[Path]:
    """Files as they are, and of each folder every picture below it by its suffix, sorted. Raises DataError for a path
    that is not there and a folder without pictures."""
    paths: list[Path] = []
    for path in given:
        if os.path.isdir(path):
            inside = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and os.path.isfile(file)
            )
            if not inside:
                raise DataError(f"{path}: this folder holds no pictures ({', '.join(sorted(SUFFIXES))})")
            paths += inside
        elif os.path.isfile(path):
            paths.append(path)
        else:
            raise DataError(f"{path}: no such picture file or folder")
    return paths


def open_pictures(
    given: Sequence[Path], *, model: str | None, needs_data: bool = True, data: str = "shapes10", **options: Any
) -> Bench:
    """A bench on picture files where some are given, otherwise on a data source, as `open_bench` does.

    A model alone (`needs_data` False) is opened without any images, whatever its classes are.
    """
    paths = picture_paths(given)
    if not model or (needs_data and not paths):
        bench = open_bench(model=model, data=data, **options)
        return bench if not paths else _with_files(bench, paths)
    from nsbench.models import load_model
    from nsbench.results import ensure_writable
    from nsbench.run.opening import resolve_device

    ensure_writable(options["out"])
    device = resolve_device(options["device"])
    how = {name: options[name] for name in ("checkpoint", "normalisation", "asked", "which")}
    network = load_model(model, device=device, **how)
    return Bench(network, PictureFiles(paths, network.num_classes), options["seed"], device, options["out"])


def _with_files(bench: Bench, paths: Sequence[Path]) -> Bench:
    source = PictureFiles(paths, bench.model.num_classes)
    return Bench(bench.model, source, bench.seed, bench.device, bench.out)


def read_images(bench: Bench, n: int, *, ready: bool = False, split: str = "clean") -> Images:
    """The first n pictures of a bench (files in their order, a split class-balanced).

    `ready`: they have the model's input size already and are never resized; DataError where one has not.
    """
    import torch

    chosen = bench.source.split(split)
    chosen = _Files(chosen.paths[:n]) if isinstance(chosen, _Files) else chosen.limited(n)
    transform = bench.model.preprocessing.transform("none" if ready else "checkpoint")
    parts = []
    for index, image_id in enumerate(chosen.ids):
        try:
            parts.append(transform(chosen.load(index)))
        except CorruptImage:
            raise
        except DataError as error:
            raise DataError(f"{image_id}: {error}") from error
    pixels_BCHW = torch.stack(parts).to(bench.device).float() / 255
    return Images(pixels_BCHW, torch.from_numpy(chosen.labels), [str(one) for one in chosen.ids])


def open_picture(path: Path) -> Image.Image:
    """A picture with its transparency (RGBA), as a mark needs it. Raises CorruptImage, which names the file."""
    from PIL import Image

    from nsbench.data.decode import BROKEN, FORMATS

    decode(path)  # every error of a broken file, in one line
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.convert("RGBA")
    except BROKEN as error:
        raise CorruptImage(f"{path}: cannot be decoded ({error}); give another picture") from error


def space_facts(space: PatchNullspace, bounded: bool) -> dict[str, Any]:
    """What a sheet says of the nullspace that pictures were changed in."""
    return {
        "nullspace dimension": space.dimension,
        "patch length": space.patch_length,
        "per channel": space.per_channel,
        "tolerance": space.tolerance,
        "pixels bounded to [0, 1]": bounded,
    }


def save_pictures(images_BCHW: torch.Tensor, ids: Sequence[str], folder: Path) -> list[Path]:
    """Write images in [0, 1] as 8-bit PNGs, named after the file name of their id; returns the paths.

    Raises UsageError where two would have one name.
    """
    import io

    from torchvision.transforms.functional import to_pil_image

    names = [Path(image_id).stem for image_id in ids]
    if len(set(names)) < len(names):
        names = ["_".join(Path(image_id).with_suffix("").parts[-2:]) for image_id in ids]
    if len(set(names)) < len(names):
        raise UsageError(f"two of the pictures would be written under one name in {folder}; give them in two runs")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for image_CHW, name in zip(images_BCHW, names, strict=True):
        content = io.BytesIO()
        to_pil_image((image_CHW.clamp(0, 1) * 255).round().byte().cpu()).save(content, "PNG")
        written.append(folder / f"{name}.png")
        write_atomically(written[-1], content.getvalue())
    return written
