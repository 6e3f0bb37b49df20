"""Sets in the layouts that people have, written for the tests of readers."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow.parquet as pq
from containers import Pictures, jpeg, label_of, stem, table, write_tar

from nsbench.data import wnids
from nsbench.data.source import Split

WNIDS = wnids.wnids()


def put(root: Path, files: Pictures) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def under(folder: str, pictures: Pictures) -> Pictures:
    return {f"{folder}/{name}": content for name, content in pictures.items()}


def labels(split: Split) -> dict[str, int]:
    return {stem(image_id): int(label) for image_id, label in zip(split.ids, split.labels, strict=True)}


def wanted(pictures: Pictures) -> dict[str, int]:
    return {stem(name): label_of(name) for name in pictures}


def others(pictures: Pictures) -> Pictures:
    """The same classes, other pictures: those of a part that must not be read."""
    return {f"{name.split('/')[0]}/other_{k}.JPEG": jpeg(900 + k) for k, name in enumerate(pictures)}


def put_table(path: Path, pictures: Pictures) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(pictures), path)


def put_shard(path: Path, pictures: Pictures) -> None:
    files = {}
    for name, content in pictures.items():
        files |= {f"{stem(name)}.jpg": content, f"{stem(name)}.cls": str(label_of(name)).encode()}
    write_tar(path, files, tarfile.PAX_FORMAT)


def put_tiny(root: Path, pictures: Pictures) -> dict[str, int]:
    """The tree of tiny-imagenet-200.zip; returns the labels of val."""
    order = list(pictures)
    put(root, {f"val/images/val_{k}.JPEG": pictures[name] for k, name in enumerate(order)})
    lines = (f"val_{k}.JPEG\t{name.split('/')[0]}\t0\t32\t44\t62\n" for k, name in enumerate(order))
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    for name in pictures:
        wnid, file = name.split("/")
        put(root, {f"train/{wnid}/images/{file}": jpeg(1), f"train/{wnid}/{wnid}_boxes.txt": b"x.JPEG\t0\t1\t2\t3\n"})
    put(
        root,
        {f"test/images/test_{k}.JPEG": jpeg(k) for k in range(3)} | {"wnids.txt": b"n01443537\n", "words.txt": b""},
    )
    return {f"val_{k}": label_of(name) for k, name in enumerate(order)}
