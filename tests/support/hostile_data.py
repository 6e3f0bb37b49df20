"""Readers of data sets, config files, pictures, the cache and the laboratory's sheets."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from containers import (
    as_flat_tar,
    as_folder,
    as_shards,
    some_pictures,
)
from PIL import Image

from nsbench.data import wnids
from nsbench.data.decode import decode, probe
from nsbench.data.layouts import devkit_labels
from nsbench.data.manifest import content_digest, manifest
from nsbench.data.stored import StoredSplit
from nsbench.errors import CorruptImage
from nsbench.files import cache_folder
from nsbench.laboratory.page import Sheet, read_sheets, to_page, write_sheet
from nsbench.run.opening import open_source
from nsbench.run.study import load_study
from nsbench.shapes10 import cache

Figure = Any


def a_set(write: Callable[[Path, dict[str, bytes]], None], pattern: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder, some_pictures())
        return sorted(folder.rglob(pattern))[0]

    return make


def root_of(path: Path) -> Path:
    """The folder that the reader was given: it holds what is changed, at some depth."""
    return next(one for one in path.parents if one.name == "given")


def opened(root: Path) -> StoredSplit:
    split = open_source(str(root)).split("clean")
    assert isinstance(split, StoredSplit)
    return split


def read_set(path: Path) -> Figure:
    split = opened(root_of(path))
    for index in range(len(split)):
        try:
            split.load(index)
        except CorruptImage as error:
            assert "\n" not in str(error)  # noqa: PT017  (what it raises is part of what it gives)
    manifest(split)
    return split.digest


def config(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        as_folder(folder, some_pictures())
        as_flat_tar(folder / "flat", some_pictures())
        (folder / "data.toml").write_text(text)
        return folder / "data.toml"

    return make


def read_config(path: Path) -> Figure:
    source = open_source(str(path))
    for name in source.splits()[:3]:
        source.split(name).load(0)


def devkit(folder: Path) -> Path:
    """The meta.mat that says what the numbers of the devkit's list mean."""
    from scipy.io import savemat

    as_flat_tar(folder, some_pictures())
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O")]
    synsets = np.array([(number, wnid) for number, wnid in enumerate(wnids.wnids(), start=1)], dtype=kinds)
    savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)}, do_compression=True)
    (folder / "list.txt").write_text("4\n" * 10_000)
    return folder / "meta.mat"


def read_devkit(path: Path) -> Figure:
    text = path.with_name("list.txt").read_text()
    return sorted(set(devkit_labels(text, path.with_name("list.txt")).values()))


def study(folder: Path) -> Path:
    lines = (
        'title = "t"',
        'methods = ["ns", "finetune"]',
        'suites = ["clean"]',
        "seeds = [0, 1]",
        "[[settings]]",
        "epsilon = 0.03",
    )
    (folder / "s.toml").write_text("\n".join(lines))
    return folder / "s.toml"


def read_study(path: Path) -> Figure:
    load_study(str(path)).texts()


def kept_index(folder: Path) -> Path:
    """The index of an archive, in the cache."""
    as_shards(folder, some_pictures())
    opened(folder)
    return next((cache_folder() / "shards").glob("*.npy"))


def read_kept_index(path: Path) -> Figure:
    split = opened(path.parents[2])
    return split.digest, hashlib.sha256(b"".join(map(split.read, range(len(split))))).hexdigest()


def kept_manifest(folder: Path) -> Path:
    as_folder(folder, some_pictures())
    manifest(opened(folder))
    return next((cache_folder() / "manifests").glob("*.npy"))


def read_kept_manifest(path: Path) -> Figure:
    split = opened(path.parents[2])
    return content_digest(split) or manifest(split).digest


def kept_split(folder: Path) -> Path:
    records = cache.records_of(["a", "b"], np.array([1, 2]), np.zeros((2, 48, 48, 3), np.uint8))
    cache.write(folder / "x.npy", records)
    return folder / "x.npy"


def read_kept_split(path: Path) -> Figure:
    found = cache.read(path)
    return found and (found[0]["id"].tolist(), found[0]["label"].tolist(), found[1])


def transfer_picture(folder: Path) -> Path:
    from nsbench.making.transfer import _keep

    _keep(folder / "x.png", np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    return folder / "x.png"


def read_transfer_picture(path: Path) -> Figure:
    from nsbench.data.decode import BROKEN
    from nsbench.making.transfer import _kept

    try:
        return np.asarray(_kept(path)).tolist()
    except BROKEN:
        return None


def picture(kind: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "a.JPEG", kind)
        return folder / "a.JPEG"

    return make


def read_picture(path: Path) -> Figure:
    for read in (lambda: decode(path), lambda: probe(io.BytesIO(path.read_bytes()), "a.JPEG")):
        try:
            read()
        except CorruptImage as error:
            assert "\n" not in str(error)  # noqa: PT017


def sheet(folder: Path) -> Path:
    write_sheet(Sheet("dims", "subject", "title", "lede", ["a", "b"], [["x", 1.0]]), folder)
    return next(folder.glob("*.json"))


def read_pages(path: Path) -> Figure:
    sheets, problems = read_sheets(path.parent)
    to_page(sheets, path.parent, problems)
