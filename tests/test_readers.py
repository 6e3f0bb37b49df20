"""One set in every container: the same ids, labels and pixels, read in place; archives are not trusted."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from nsbench.data import open_source, wnids
from nsbench.data.archives import index_of, open_archive
from nsbench.data.decode import decode
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.loading import batches
from nsbench.data.source import Split
from nsbench.errors import CorruptImage, DataError, UnknownName, UsageError

Pictures = dict[str, bytes]  # "n01440764/ILSVRC2012_val_00000293.JPEG" -> encoded picture
LABELS = (3, 0, 7, 999, 400)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def jpeg(seed: int, size: tuple[int, int] = (40, 36), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture
def pictures() -> Pictures:
    """Three pictures of five classes that are no neighbours."""
    return {f"{wnids.wnids()[label]}/ILSVRC2012_val_{10 * label + k:08}.JPEG": jpeg(10 * label + k)
            for label in LABELS for k in range(3)}


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
    write_tar(root / "val.tar", {f"./{'long/' * 30}{name}": content for name, content in pictures.items()},
              tarfile.PAX_FORMAT)


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
    number = [order.index(name.split("/")[0]) if names is None or name.split("/")[0] in order else label_of(name)
              for name in pictures]
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
    return {stem(image_id): (int(label), split.load(k).tobytes())
            for k, (image_id, label) in enumerate(zip(split.ids, split.labels, strict=True))}


# --- the same set in every container ---------------------------------------------------------------------------------


@pytest.mark.parametrize("write", CONTAINERS)
def test_every_container_gives_the_same_images_and_labels(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    write(tmp_path, pictures)
    split = open_source(str(tmp_path)).split("clean")
    assert len(split) == len(set(split.ids.tolist())) == 15
    expected = {stem(name): (label_of(name), decode(io.BytesIO(content)).tobytes())
                for name, content in pictures.items()}
    assert found(split) == expected
    assert split.labels.dtype == np.int64
    assert split.classes is None
    again = open_source(str(tmp_path)).split("clean")  # from the cached index
    assert again.digest == split.digest
    assert found(again) == expected


@pytest.mark.parametrize("write", CONTAINERS)
def test_every_container_in_any_order_pickled_and_in_workers(tmp_path: Path, pictures: Pictures,
                                                             write: Callable) -> None:
    write(tmp_path, pictures)
    split = open_source(str(tmp_path)).split("clean")
    straight = [split.load(k).tobytes() for k in range(15)]
    order = np.random.default_rng(0).permutation(15)
    copy = pickle.loads(pickle.dumps(split))
    assert [copy.load(int(k)).tobytes() for k in order] == [straight[k] for k in order]
    from_workers = [batch.images for batch in batches(split, pil_to_tensor, batch_size=4, workers=2)]
    here = [batch.images for batch in batches(copy, pil_to_tensor, batch_size=4)]
    assert torch.equal(torch.cat(from_workers), torch.cat(here))


@pytest.mark.parametrize("write", IN_FOLDERS)
def test_the_container_does_not_move_ids_or_digest(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    """A result from val.zip and one from the unpacked folder are results on the same data."""
    write(tmp_path / "there", pictures) if write is as_folder else (tmp_path / "there").mkdir()
    if write is not as_folder:
        write(tmp_path / "there", pictures)
    as_folder(tmp_path / "plain", pictures)
    split, plain = (ImageNetTree(tmp_path / name).split("clean") for name in ("there", "plain"))
    assert split.ids.tolist() == plain.ids.tolist() == sorted(pictures)
    assert split.digest == plain.digest


def test_real_images_in_every_container(tmp_path: Path, shared_data: Path) -> None:
    files = sorted((shared_data / "imagenet" / "val").glob("*/*.JPEG"))[::40]
    pictures = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    expected = {stem(name): (label_of(name), decode(io.BytesIO(content)).tobytes())
                for name, content in pictures.items()}
    for number, write in enumerate(CONTAINERS):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number), pictures)
        assert found(open_source(str(tmp_path / str(number))).split("clean")) == expected, write.__name__


def test_real_tar_of_200_classes(shared_data: Path) -> None:
    split = ImageNetTree(shared_data / "tiny-imagenet").split("clean")
    assert len(split) == 2000
    assert np.unique(split.labels).size == 200
    assert set(np.bincount(split.labels)) == {0, 10}
    assert split.classes is None, "200 classes are no declaration"
    assert split.load(0).size == (64, 64)


def test_folder_before_archive(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, dict(list(pictures.items())[:6]))
    as_tar(tmp_path, pictures)
    assert len(ImageNetTree(tmp_path).split("clean")) == 6


def test_v2_and_its_sisters_in_archives(tmp_path: Path) -> None:
    for name in ("imagenetv2-matched-frequency-format-val", "imagenetv2-threshold0.7-format-val",
                 "imagenetv2-top-images-format-val"):
        write_tar(tmp_path / f"{name}.tar", {f"{name}/{number}/a.jpeg": jpeg(number) for number in (0, 2, 10, 999)})
    source = ImageNetTree(tmp_path)
    assert source.splits() == ["v2", "v2-threshold-0.7", "v2-top-images"]
    for name in source.splits():
        assert source.split(name).labels.tolist() == [0, 2, 10, 999]


# --- ImageNet-C ------------------------------------------------------------------------------------------------------


def c_files(corruptions: tuple[str, ...], top: str = "") -> Pictures:
    wnid = wnids.wnids()[5]
    return {f"{top}{name}/{severity}/{wnid}/a.JPEG": jpeg(severity, (224, 224))
            for name in corruptions for severity in (1, 5)}


@pytest.mark.parametrize("layout", ["plain", "grouped", "group archives", "corruption archives", "one archive"])
def test_c_in_every_layout(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "ImageNet-C"
    if layout in ("plain", "grouped"):
        files = c_files(("fog",), "weather/" if layout == "grouped" else "")
        files |= c_files(("defocus_blur", "speckle_noise"), "blur/" if layout == "grouped" else "")
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    elif layout == "group archives":
        write_tar(root / "weather.tar", c_files(("fog",)))
        write_tar(root / "blur.tar", c_files(("defocus_blur", "speckle_noise"), "blur/"))
    elif layout == "corruption archives":
        write_tar(root / "fog.tar", {n.removeprefix("fog/"): c for n, c in c_files(("fog",)).items()})
        write_tar(root / "defocus_blur.tar", c_files(("defocus_blur",)))
        write_tar(root / "speckle_noise.tar", c_files(("speckle_noise",)))
    else:
        write_tar(tmp_path / "imagenet-c.tar", c_files(("fog", "defocus_blur", "speckle_noise"), "imagenet-c/"))
    source = ImageNetTree(tmp_path)
    assert source.splits() == [f"c/{name}/{s}" for name in ("defocus_blur", "fog", "speckle_noise") for s in (1, 5)]
    split = source.split("c/fog/5")
    assert split.ids.tolist() == [f"{wnids.wnids()[5]}/a.JPEG"]
    assert split.labels.tolist() == [5]
    assert split.load(0).tobytes() == decode(io.BytesIO(jpeg(5, (224, 224)))).tobytes()


# --- archives are not trusted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "n01440764/../../evil.png", "C:/evil.png",
                                  "..\\evil.png"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_out(tmp_path: Path, pictures: Pictures, name: str, kind: str) -> None:
    path = tmp_path / f"val.{kind}"
    (write_tar if kind == "tar" else write_zip)(path, pictures | {name: b"x"})
    with pytest.raises(DataError, match="leads out of the archive; do not trust"):
        ImageNetTree(tmp_path).split("clean")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar(tmp_path: Path, pictures: Pictures, kind: bytes) -> None:
    path = write_tar(tmp_path / "val.tar", pictures)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo(f"{wnids.wnids()[0]}/link.JPEG")
        link.type, link.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else next(iter(pictures))
        tar.addfile(link)
    with pytest.raises(DataError, match=r"link\.JPEG' is a link, and links in archives are not followed"):
        ImageNetTree(tmp_path).split("clean")


def test_links_in_a_zip(tmp_path: Path, pictures: Pictures) -> None:
    path = write_zip(tmp_path / "val.zip", pictures)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo(f"{wnids.wnids()[0]}/link.JPEG")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="links in archives are not followed"):
        ImageNetTree(tmp_path).split("clean")


@pytest.mark.parametrize("cut", [700, 0.5, -10240 - 512, -10240])
def test_half_copied_archives(tmp_path: Path, pictures: Pictures, cut: float) -> None:
    """Cut inside a picture or at the end mark: never a smaller set in silence."""
    for path in (write_tar(tmp_path / "val.tar", pictures), write_zip(tmp_path / "sketch.zip", pictures)):
        content = path.read_bytes()
        path.write_bytes(content[: int(cut * len(content)) if isinstance(cut, float) else cut])
        with pytest.raises(DataError, match=r"cannot be read as .*half copied"):
            ImageNetTree(tmp_path).split("clean" if path.suffix == ".tar" else "sketch")


def test_a_tar_that_ends_after_a_whole_member(tmp_path: Path, pictures: Pictures) -> None:
    path = write_tar(tmp_path / "val.tar", pictures)
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(DataError, match="without the end mark"):
        ImageNetTree(tmp_path).split("clean")


def test_an_archive_that_shrinks_later(tmp_path: Path, pictures: Pictures) -> None:
    as_tar(tmp_path, pictures)
    split = ImageNetTree(tmp_path).split("clean")
    (tmp_path / "val.tar").write_bytes((tmp_path / "val.tar").read_bytes()[:5000])
    with pytest.raises(CorruptImage, match=r"val\.tar/n.*JPEG: the archive ends inside this file"):
        split.load(14)


def test_an_archive_that_is_replaced_is_indexed_anew(tmp_path: Path, pictures: Pictures) -> None:
    as_tar(tmp_path, pictures)
    assert len(ImageNetTree(tmp_path).split("clean")) == 15
    as_tar(tmp_path, dict(list(pictures.items())[:6]))
    assert len(ImageNetTree(tmp_path).split("clean")) == 6


def test_the_index_is_kept_and_a_damaged_one_is_built_again(tmp_path: Path, pictures: Pictures, monkeypatch) -> None:
    from nsbench.data import archives
    from nsbench.files import cache_folder

    as_tar(tmp_path, pictures)
    built: list[Path] = []
    monkeypatch.setattr(archives, "index_of", lambda path: built.append(path) or index_of(path))
    for _ in range(3):
        assert len(ImageNetTree(tmp_path).split("clean")) == 15
    assert len(built) == 1
    (kept,) = (cache_folder() / "archives").iterdir()
    kept.write_bytes(kept.read_bytes()[:90])
    assert len(ImageNetTree(tmp_path).split("clean")) == 15
    assert len(built) == 2


def test_zip_contents_are_checked(tmp_path: Path, pictures: Pictures) -> None:
    as_zip(tmp_path, pictures)
    content = bytearray((tmp_path / "val.zip").read_bytes())
    content[200] ^= 1  # inside the first picture
    (tmp_path / "val.zip").write_bytes(content)
    split = ImageNetTree(tmp_path).split("clean")
    with pytest.raises(CorruptImage, match="checksum"):
        [split.load(k) for k in range(15)]


def test_zip_bombs_are_not_inflated(tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that declares 100 bytes and inflates to 50 MB is cut after 101 bytes."""
    name = next(iter(pictures))
    write_zip(tmp_path / "val.zip", {name: bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    index = np.array(open_archive(tmp_path / "val.zip").index)
    index["size"] = 100
    from nsbench.data import archives

    monkeypatch.setattr(archives, "index_of", lambda path: index)
    monkeypatch.setattr(archives, "INDEX_VERSION", -1)
    with pytest.raises(CorruptImage, match="not what the archive declares"):
        ImageNetTree(tmp_path).split("clean").load(0)


def test_huge_members_are_not_read(tmp_path: Path, pictures: Pictures) -> None:
    """300 MB of zeros, sparse on disk, under the name of a picture."""
    name = next(iter(pictures))
    member = tarfile.TarInfo(name)
    member.size = 300 << 20
    with (tmp_path / "val.tar").open("wb") as file:
        file.write(member.tobuf())
        file.truncate(512 + member.size + 1024)
    split = ImageNetTree(tmp_path).split("clean")
    with pytest.raises(CorruptImage, match="larger than 256 MiB and no picture"):
        split.load(0)


def test_decompression_bombs_are_corrupt_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow only warns up to twice its limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(CorruptImage, match="40 x 36 pixels are more"):
        decode(io.BytesIO(jpeg(0)), "bomb.JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(CorruptImage, match="bomb"):
        decode(io.BytesIO(jpeg(0)), "bomb.JPEG")


def test_compressed_tars(tmp_path: Path, pictures: Pictures) -> None:
    write_tar(tmp_path / "x.tar", pictures)
    (tmp_path / "imagenetv2-matched-frequency.tar.gz").write_bytes(gzip.compress((tmp_path / "x.tar").read_bytes()))
    with pytest.raises(DataError, match=r"uncompress it to \.tar once"):
        ImageNetTree(tmp_path).split("v2")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100])
@pytest.mark.parametrize("name", ["val.tar", "val.zip"])
def test_what_is_no_archive(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"val\.(tar|zip)"):
        ImageNetTree(tmp_path).split("clean")


def test_a_name_twice(tmp_path: Path, pictures: Pictures) -> None:
    path = write_tar(tmp_path / "val.tar", pictures)
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo(next(iter(pictures))))
    with pytest.raises(DataError, match="twice"):
        ImageNetTree(tmp_path).split("clean")


# --- shards, tables and label files that are wrong -------------------------------------------------------------------


@pytest.mark.parametrize(("sidecar", "message"), [
    ({}, "has neither"), ({".cls": b"1000"}, "is neither a label from 0 to 999 nor a wnid"),
    ({".cls": b"-1"}, "is neither a label"), ({".json": b"[]"}, "is neither a label"), ({".json": b"{"}, "is no JSON"),
])  # fmt: skip
def test_shards_without_labels(tmp_path: Path, pictures: Pictures, sidecar: dict[str, bytes], message: str) -> None:
    last = list(pictures)[-1]
    as_shards(tmp_path, pictures, lambda name: sidecar if name == last else {".cls": b"3"})
    with pytest.raises(DataError, match=message):
        ImageNetTree(tmp_path).split("clean")


def test_shards_whose_keys_start_again(tmp_path: Path) -> None:
    for number in range(2):
        files = {"0.jpg": jpeg(number), "0.cls": str(number).encode()}
        write_tar(tmp_path / "val" / f"{number}.tar", files)
    split = ImageNetTree(tmp_path).split("clean")
    assert split.ids.tolist() == ["0/0.jpg", "1/0.jpg"]
    assert split.labels.tolist() == [0, 1]


def test_class_names_of_a_table_are_mapped(tmp_path: Path, pictures: Pictures) -> None:
    """A table of five classes numbers them 0 to 4; its wnids say which labels these are."""
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    names = [wnids.wnids()[label] for label in LABELS]
    (tmp_path / "val").mkdir()
    pq.write_table(table(pictures, names), tmp_path / "val" / "0000.parquet")
    split = ImageNetTree(tmp_path).split("clean")
    assert split.labels.tolist() == [label_of(name) for name in pictures]


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.replace_schema_metadata({"huggingface": json.dumps(
        {"info": {"features": {"label": {"names": [f"class {k}" for k in range(1000)]}}}})}), "neither wnids nor"),
    (lambda t: t.drop_columns(["label"]), "expected a picture column"),
    (lambda t: t.set_column(1, "label", [[-1] * len(t)]), "has no label"),
    (lambda t: t.set_column(1, "label", [[1000] * len(t)]), "is no class"),
    (lambda t: t.set_column(0, "image", [["a.jpg"] * len(t)]), "not encoded pictures"),
])  # fmt: skip
def test_tables_that_are_wrong(tmp_path: Path, pictures: Pictures, change: Callable, message: str) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "val").mkdir()
    pq.write_table(change(table(pictures)), tmp_path / "val" / "0000.parquet")
    with pytest.raises(DataError, match=message):
        ImageNetTree(tmp_path).split("clean")


@pytest.mark.parametrize("write", [as_parquet, as_saved])
def test_truncated_tables(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    write(tmp_path, pictures)
    path = max(file for file in tmp_path.rglob("*-of-00002.*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="half copied"):
        ImageNetTree(tmp_path).split("clean")
    path.unlink()
    if write is as_saved:
        with pytest.raises(DataError, match="is not there; copy the folder again"):
            ImageNetTree(tmp_path).split("clean")


def test_without_pyarrow(tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    as_parquet(tmp_path, pictures)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow; install it: pip install 'nsbench\[parquet\]'"):
        ImageNetTree(tmp_path).split("clean")


def test_flat_without_labels_and_with_two(tmp_path: Path, pictures: Pictures) -> None:
    as_flat_tar(tmp_path, pictures)
    lines = tmp_path / "ILSVRC2012_img_val.txt"
    lines.write_text(lines.read_text() + "ILSVRC2012_val_00000000.JPEG,5\n")
    with pytest.raises(DataError, match="a second label, 5 after 0"):
        ImageNetTree(tmp_path).split("clean")
    lines.unlink()
    with pytest.raises(DataError, match="holds 15 images in no folder: put a label file beside them"):
        ImageNetTree(tmp_path).split("clean")


# --- config files ----------------------------------------------------------------------------------------------------


def config(tmp_path: Path, text: str) -> ImageNetTree:
    (tmp_path / "data.toml").write_text(text)
    return open_source(str(tmp_path / "data.toml"))  # type: ignore[return-value]


def test_config_names_every_place(tmp_path: Path, pictures: Pictures) -> None:
    as_shards(tmp_path / "shards", pictures)
    write_tar(tmp_path / "flat.tar", {name.split("/")[1]: content for name, content in pictures.items()})
    (tmp_path / "list.txt").write_text("".join(f"{n.split('/')[1]} {label_of(n)}\n" for n in pictures))
    source = config(tmp_path, 'name = "mine"\nclean = "flat.tar"\nsketch = "shards/val/imagenet-val-*.tar"\n'
                              'v2-threshold-0.7 = "flat.tar"\n[labels]\nclean = "list.txt"\n'
                              '"v2-threshold-0.7" = "list.txt"\n')
    assert (source.name, source.title) == ("mine", "mine")
    assert source.splits()[:3] == ["clean", "v2-threshold-0.7", "sketch"]
    for name in ("clean", "sketch", "v2-threshold-0.7"):
        assert len(source.split(name)) == 15


def test_config_over_a_root(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path / "tree", pictures)
    write_tar(tmp_path / "other.tar", dict(list(pictures.items())[:3]))
    source = config(tmp_path, 'root = "tree"\nsketch = "other.tar"\n')
    assert (source.name, len(source.split("clean")), len(source.split("sketch"))) == ("imagenet", 15, 3)


def test_fewer_classes_only_when_declared(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    whole = ImageNetTree(tmp_path).split("clean")
    assert whole.classes is None
    split = config(tmp_path, 'clean = "val"\n[classes]\nclean = "present"\n').split("clean")
    assert split.classes == tuple(sorted(LABELS))
    assert split.digest != whole.digest, "results over 5 and over 1000 classes are not the same results"
    source = config(tmp_path, 'clean = "val"\n[classes]\nclean = "present"\n')
    assert source.split("c/fog/3").classes == tuple(sorted(LABELS))
    more = [wnids.wnids()[label] for label in (*LABELS, 500)]
    assert config(tmp_path, f'clean = "val"\n[classes]\nclean = {more}\n').split("clean").classes == \
        tuple(sorted((*LABELS, 500)))
    with pytest.raises(DataError, match=r"holds 1 class\(es\) that \[classes\] does not list"):
        config(tmp_path, 'clean = "val"\n[classes]\nclean = [0, 3, 7, 400]\n').split("clean")


@pytest.mark.parametrize(("text", "error", "message"), [
    ("clean = ", DataError, "cannot be read as a config file"),
    ("", DataError, "names no set"),
    ('klean = "val"', UnknownName, "Did you mean 'clean'"),
    ("clean = 5", DataError, "must be a path or a list of paths"),
    ('clean = "x-*.tar"', DataError, "nothing is called"),
    ('clean = "val"\n[classes]\nclean = "all"', DataError, 'must be "present"'),
    ('clean = "val"\n[classes]\nclean = [0, 1000]', DataError, 'must be "present"'),
    ('clean = "val"\n[classes]\nsketch = "present"', DataError, "has no path"),
    ('clean = "val"\nname = "../x"', DataError, "must consist of letters"),
])  # fmt: skip
def test_config_files_that_are_wrong(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        config(tmp_path, text)


def test_config_that_names_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; correct the path of 'clean'"):
        config(tmp_path, 'clean = "absent.tar"').split("clean")


# --- corrupt images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [as_folder, as_tar, as_deflated_zip, as_shards, as_parquet, as_saved])
@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_left_out_and_named(tmp_path: Path, pictures: Pictures, write: Callable,
                                               workers: int) -> None:
    names = sorted(pictures)
    bad = {names[0], names[1], names[7]}
    for name in bad:
        pictures[name] = pictures[name][:600]
    write(tmp_path, pictures)
    split = ImageNetTree(tmp_path).split("clean")
    corrupt: dict[str, str] = {}
    kept = [batch for batch in batches(split, pil_to_tensor, batch_size=2, workers=workers, corrupt=corrupt)]
    assert {stem(image_id) for image_id in corrupt} == {stem(name) for name in bad}
    for image_id, why in corrupt.items():
        assert stem(image_id) in why
        assert str(tmp_path) in why
        assert "\n" not in why
    ids = [image_id for batch in kept for image_id in batch.ids]
    assert len(ids) == 12
    assert not set(ids) & set(corrupt)
    labels = dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True))
    assert torch.cat([batch.labels for batch in kept]).tolist() == [labels[image_id] for image_id in ids]
    for batch in kept:
        assert split.ids[batch.indices].tolist() == batch.ids
        assert batch.images.shape[1:] == (3, 36, 40)
    with pytest.raises(CorruptImage):
        list(batches(split, pil_to_tensor, batch_size=2, workers=workers))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_in_a_tar(tmp_path: Path, mode: str) -> None:
    write_tar(tmp_path / "val.tar", {f"{wnids.wnids()[0]}/a.JPEG": jpeg(0, mode=mode)})
    image = ImageNetTree(tmp_path).split("clean").load(0)
    assert image.mode == "RGB"
    reference = np.asarray(decode(io.BytesIO(jpeg(0, mode=mode)))).astype(int)
    assert np.abs(np.asarray(image) - reference).max() == 0
