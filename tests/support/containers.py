"""One small set of pictures, and a writer for each container that it may lie in."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsbench.data import wnids
from nsbench.data.source import Split

Pictures = dict[str, bytes]  # "n01440764/ILSVRC2012_val_00000293.JPEG" -> encoded picture
LABELS = (3, 0, 7, 999, 400)


def jpeg(seed: int, size: tuple[int, int] = (40, 36), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


def some_pictures() -> Pictures:
    """Three pictures of five classes that are no neighbours."""
    return {
        f"{wnids.wnids()[label]}/ILSVRC2012_val_{10 * label + k:08}.JPEG": jpeg(10 * label + k)
        for label in LABELS
        for k in range(3)
    }


def label_of(name: str) -> int:
    return wnids.label_of()[name.split("/")[0]]


# --- writers, one for each container ---------------------------------------------------------------------------------


def as_folder(root: Path, pictures: Pictures) -> None:
    for name, content in pictures.items():
        path = root / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_tar(path: Path, files: Pictures, kind: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Pictures, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def wrapped(pictures: Pictures, top: str) -> Pictures:
    return {"__MACOSX/._val": b"x", f"{top}README.txt": b"about"} | {top + name: pictures[name] for name in pictures}


def as_tar(root: Path, pictures: Pictures) -> None:
    write_tar(root / "val.tar", pictures)


def as_wrapped_tar(root: Path, pictures: Pictures) -> None:
    """As unpacked downloads often are: everything in folders of one's own, a long name, hidden litter."""
    write_tar(
        root / "val.tar", {f"./{'long/' * 30}{name}": content for name, content in pictures.items()}, tarfile.PAX_FORMAT
    )


def as_zip(root: Path, pictures: Pictures) -> None:
    write_zip(root / "val.zip", pictures)


def as_deflated_zip(root: Path, pictures: Pictures) -> None:
    files = {"__MACOSX/val/._x.JPEG": b"x"} | {f"val/{name}": content for name, content in pictures.items()}
    write_zip(root / "val.zip", files, zipfile.ZIP_DEFLATED)


def as_shards(root: Path, pictures: Pictures, label: Callable[[str], dict[str, bytes]] | None = None) -> None:
    """Two WebDataset shards whose keys are the names without their ending."""
    label = label or (lambda name: {".cls": str(label_of(name)).encode()})
    for number in range(2):
        files: Pictures = {}
        for name in list(pictures)[number::2]:
            key = name.split("/")[1].split(".")[0]
            files |= {key + ending: content for ending, content in label(name).items()}
            files[f"{key}.jpg"] = pictures[name]
        write_tar(root / "val" / f"imagenet-val-{number:06}.tar", files)


def as_json_shards(root: Path, pictures: Pictures) -> None:
    as_shards(root, pictures, lambda name: {".json": json.dumps({"label": label_of(name)}).encode()})


def as_wnid_shards(root: Path, pictures: Pictures) -> None:
    as_shards(root, pictures, lambda name: {".cls": name.split("/")[0].encode() + b"\n", ".json": b"{}"})


def table(pictures: Pictures, names: list[str] | None = None):
    """A table as the `datasets` library makes it, class names in its metadata."""
    pa = pytest.importorskip("pyarrow")
    order = names or list(wnids.wnids())
    images = [{"bytes": content, "path": name.split("/")[1]} for name, content in pictures.items()]
    number = [
        order.index(name.split("/")[0]) if names is None or name.split("/")[0] in order else label_of(name)
        for name in pictures
    ]
    features = {"image": {"_type": "Image"}, "label": {"names": order, "_type": "ClassLabel"}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"image": pa.array(images, kind), "label": pa.array(number, pa.int64())})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def as_parquet(root: Path, pictures: Pictures) -> None:
    made = table(pictures)
    import pyarrow.parquet as pq

    (root / "data").mkdir()
    for number, start in enumerate((0, 7)):
        rows = made.slice(start, 7 if number == 0 else None)
        pq.write_table(rows, root / "data" / f"validation-{number:05}-of-00002.parquet", row_group_size=3)


def as_saved(root: Path, pictures: Pictures) -> None:
    made = table(pictures)
    import pyarrow as pa

    (root / "validation").mkdir()
    files = [f"data-{number:05}-of-00002.arrow" for number in range(2)]
    for number, file in enumerate(files):
        rows = made.slice(5 * number, 5 if number == 0 else None)
        with pa.OSFile(str(root / "validation" / file), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as stream:
            stream.write_table(rows, max_chunksize=4)
    (root / "validation" / "state.json").write_text(json.dumps({"_data_files": [{"filename": f} for f in files]}))


def as_flat(root: Path, pictures: Pictures) -> None:
    (root / "val").mkdir()
    for name, content in pictures.items():
        (root / "val" / name.split("/")[1]).write_bytes(content)
    (root / "val" / "val.txt").write_text("".join(f"{n.split('/')[1]} {label_of(n)}\n" for n in pictures))


def as_flat_tar(root: Path, pictures: Pictures) -> None:
    write_tar(root / "ILSVRC2012_img_val.tar", {name.split("/")[1]: content for name, content in pictures.items()})
    lines = (f"{name.split('/')[1]},{name.split('/')[0]}\n" for name in pictures)
    (root / "ILSVRC2012_img_val.txt").write_text("".join(lines))


IN_FOLDERS = [as_folder, as_tar, as_wrapped_tar, as_zip, as_deflated_zip]
CONTAINERS = [*IN_FOLDERS, as_shards, as_json_shards, as_wnid_shards, as_parquet, as_saved, as_flat, as_flat_tar]


def stem(image_id: str) -> str:
    return Path(image_id).stem


def found(split: Split) -> dict[str, tuple[int, bytes]]:
    return {
        stem(image_id): (int(label), split.load(k).tobytes())
        for k, (image_id, label) in enumerate(zip(split.ids, split.labels, strict=True))
    }
