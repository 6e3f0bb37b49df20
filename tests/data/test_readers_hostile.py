"""Files that somebody made to hang, to fill the memory, to end the run, or to pass for something else."""

from __future__ import annotations

import io
import json
import os
import pwd
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from containers import Pictures, as_flat_tar, as_folder, as_shards, as_tar, jpeg, table, write_tar
from PIL import Image

from nsbench.data.archive_index import cached_array
from nsbench.data.decode import decode, probe
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.kept import keep_array, kept_array
from nsbench.data.manifest import content_digest, manifest
from nsbench.data.own import OwnSource
from nsbench.data.stored import StoredSplit
from nsbench.errors import CorruptImage, DataError, UsageError
from nsbench.files import cache_folder, check_regular, open_regular, read_regular
from nsbench.run.opening import open_source, resolve_device

pytestmark = [pytest.mark.usefixtures("own_cache"), pytest.mark.timeout(30)]


def opened(root: Path) -> StoredSplit:
    split = ImageNetTree(root).split("clean")
    assert isinstance(split, StoredSplit)
    return split


# --- what is no file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [open_regular, read_regular, check_regular])
def test_pipes_devices_and_folders_are_not_opened(tmp_path: Path, function: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="is no regular file but a pipe, a socket or a device"):
            function(path)
    with pytest.raises(IsADirectoryError):
        function(tmp_path)
    with pytest.raises(FileNotFoundError):
        function(tmp_path / "absent")


@pytest.mark.parametrize(
    "name", ["val.tar", "val.zip", "data/validation-00000-of-00001.parquet", "val/0.tar", "val/a.parquet"]
)
def test_a_pipe_named_like_a_set_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is no regular file"):
        opened(tmp_path)


def test_a_pipe_in_place_of_a_picture_a_marker_or_a_label_file(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    split = opened(tmp_path)
    os.mkfifo(tmp_path / "val" / "nsbench-made.json")
    first = tmp_path / "val" / split.names[0]
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(CorruptImage, match="is no regular file"):
        split.load(0)
    with pytest.raises(CorruptImage, match="is no regular file"):
        decode(first)
    assert len(opened(tmp_path)) == len(pictures) - 1  # neither is seen
    os.mkfifo(tmp_path / "labels")
    (tmp_path / "data.toml").write_text('clean = "val"\n[labels]\nclean = "labels"\n')
    with pytest.raises(DataError, match="cannot be read as a label file"):
        ImageNetTree(tmp_path / "data.toml").split("clean")


def test_links_to_themselves_are_named(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    (tmp_path / "sketch").symlink_to("sketch")
    folder = (tmp_path / "val" / next(iter(pictures))).parent
    (folder / "loop.txt").symlink_to("loop.txt")
    assert len(opened(tmp_path)) == len(pictures)
    (folder / "loop.JPEG").symlink_to("loop.JPEG")
    with pytest.raises(DataError, match=r"loop\.JPEG: is a link to itself"):
        opened(tmp_path)


def test_names_that_are_no_text_are_named(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    folder = (tmp_path / "val" / next(iter(pictures))).parent
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9.txt")).touch()
    assert len(opened(tmp_path)) == len(pictures)
    picture = Path(os.fsdecode(bytes(folder) + b"/caf\xe9.JPEG"))
    picture.write_bytes(jpeg(1))
    with pytest.raises(DataError, match=r"holds a name that is not UTF-8, 'caf\\udce9.JPEG'; rename it"):
        opened(tmp_path)
    picture.unlink()
    Path(os.fsdecode(bytes(tmp_path) + b"/val/caf\xe9")).mkdir()
    with pytest.raises(DataError, match=r"holds a name that is not UTF-8, 'caf\\udce9'"):
        opened(tmp_path)


# --- pictures --------------------------------------------------------------------------------------------------------


def encoded(size: tuple[int, int], kind: str) -> io.BytesIO:
    file = io.BytesIO()
    Image.new("L", size).save(file, kind)
    file.seek(0)
    return file


@pytest.mark.parametrize("size", [(30000, 1), (1, 30000), (1, 2_000_000), (2, 700)])
@pytest.mark.parametrize("read", [decode, probe])
def test_pictures_that_would_be_huge_once_resized_are_unreadable(
    size: tuple[int, int], read: Callable[[io.BytesIO, str], object]
) -> None:
    with pytest.raises(CorruptImage, match=r"a\.JPEG: cannot be decoded \(.* pixels: resized"):
        read(encoded(size, "PNG"), "a.JPEG")


def test_what_is_let_through_fits_into_memory_once_resized() -> None:
    """The shorter side becomes 256 px, or as many as the largest models take."""
    for size in ((300, 1), (600, 2), (1, 1)):
        assert decode(encoded(size, "PNG")).size == size
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    assert limit > 300 * 512**2


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "EPS", "PDF", "PCX", "TGA", "SGI", "MSP"])
def test_other_formats_are_unreadable_whatever_their_name(kind: str) -> None:
    file = io.BytesIO()
    Image.new("1" if kind == "MSP" else "RGB" if kind != "GIF" else "P", (16, 16)).save(file, kind)
    for read in (decode, probe):
        file.seek(0)
        with pytest.raises(CorruptImage, match=r"a\.JPEG: cannot be decoded \(no image format that is known\)"):
            read(file, "a.JPEG")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_the_formats_of_the_sets_are_read_whatever_their_name(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(file, kind)
    file.seek(0)
    assert decode(file, "a.gif").size == (20, 10)


GREY = np.tile(np.arange(0, 256, 8), (32, 1))
NO_RANGE = {
    "float, 0 to 1": ("F", (GREY / 255).astype("<f4")),
    "float, 0 to 255": ("F", GREY.astype("<f4")),
    "32 bits, 0 to 255": ("I", GREY.astype("<i4")),
    "32 bits": ("I", (GREY.astype("<i8") * (2**31 // 256)).astype("<i4")),
    "16 bits, white is 0": ("I;16", (GREY * 257).astype("<u2")),
    "12 bits": ("I;16", (GREY * 257).astype("<u2")),
}
INVERTED = (struct.pack("<HHIHH", 262, 3, 1, 1, 0), struct.pack("<HHIHH", 262, 3, 1, 0, 0))  # an entry of a TIFF
TWELVE = (struct.pack("<HHIHH", 258, 3, 1, 16, 0), struct.pack("<HHIHH", 258, 3, 1, 12, 0))
CHANGED = {"16 bits, white is 0": INVERTED, "12 bits": TWELVE}


@pytest.mark.parametrize("case", NO_RANGE)
@pytest.mark.parametrize("read", [decode, probe])
def test_grey_values_whose_range_nobody_knows_are_unreadable(
    case: str, read: Callable[[io.BytesIO, str], object]
) -> None:
    """Black, white or inverted pictures would be evaluated as if they were the set's."""
    mode, values = NO_RANGE[case]
    file = io.BytesIO()
    Image.frombytes(mode, (32, 32), values.tobytes()).save(file, "TIFF")
    content = file.getvalue()
    if case in CHANGED:
        assert content.count(CHANGED[case][0]) == 1
        content = content.replace(*CHANGED[case])
    with pytest.raises(CorruptImage, match=r"a\.tif: cannot be decoded \(its grey values are .*; save it with 8 bits"):
        read(io.BytesIO(content), "a.tif")


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF"), ("L", "TIFF")])
def test_grey_of_8_and_16_bits_is_what_it_is(mode: str, kind: str) -> None:
    values = GREY.astype(np.uint8) if mode == "L" else (GREY * 257).astype(">u2" if mode.endswith("B") else "<u2")
    file = io.BytesIO()
    Image.frombytes(mode, (32, 32), values.tobytes()).save(file, kind)
    file.seek(0)
    assert (np.asarray(decode(file, "a"))[..., 1] == GREY).all()


def test_every_picture_is_opened_with_its_formats_named() -> None:
    package = Path(__file__).parents[2] / "nsbench"
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert text.count("Image.open(") == text.count(", formats="), path


# --- tables, shards, config files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[3]] * 15, pa.list_(pa.int64())),
        ([True] * 15, pa.bool_()),
        ([0.5] * 15, pa.float64()),
        ([b"x"] * 15, pa.binary()),
    ],
)
def test_labels_of_a_table_that_are_no_labels(
    tmp_path: Path, pictures: Pictures, values: list, kind: pa.DataType
) -> None:
    (tmp_path / "val").mkdir()
    made = table(pictures).set_column(1, "label", pa.array(values, kind))
    pq.write_table(made, tmp_path / "val" / "0000.parquet")
    with pytest.raises(DataError, match="is no class; expected wnids, or 0 to 999"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "metadata", ["[" * 5000, '{"info": []}', "null", '{"info": {"features": {"label": {"names": 3}}}}']
)
def test_metadata_of_a_table_that_say_nothing(tmp_path: Path, pictures: Pictures, metadata: str) -> None:
    (tmp_path / "val").mkdir()
    pq.write_table(
        table(pictures).replace_schema_metadata({"huggingface": metadata}), tmp_path / "val" / "0000.parquet"
    )
    assert len(opened(tmp_path)) == len(pictures)


def test_columns_of_one_name_and_names_that_are_no_text(tmp_path: Path, pictures: Pictures) -> None:
    (tmp_path / "val").mkdir()
    made = table(pictures)
    twice = pa.table([made["image"], made["label"], made["label"]], names=["image", "label", "label"])
    pq.write_table(twice, tmp_path / "val" / "0000.parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        opened(tmp_path)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.list_(pa.int64()))])
    rows = [{"bytes": content, "path": [k]} for k, content in enumerate(pictures.values())]
    pq.write_table(made.set_column(0, "image", pa.array(rows, kind)), tmp_path / "val" / "0000.parquet")
    assert opened(tmp_path).ids[2] == "0000/2"  # counted instead


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ({".cls": b"7" * 5000}, "'7777777777777777777777777777777777777777' is neither a label"),
        ({".cls": b"0" * 5000 + b"1000"}, "is neither a label"),
        ({".json": b"[" * 100_000}, "is no JSON"),
        ({".json": b'{"label": ' + b"7" * 5000 + b"}"}, "is no JSON"),
        ({".json": b'{"label": {"a": 1}}'}, "is neither a label"),
        ({".json": b'{"label": true}'}, "'True' is neither a label"),
    ],
    ids=["digits", "zeros", "nesting", "number", "object", "bool"],
)
def test_labels_of_shards_that_are_no_labels(
    tmp_path: Path, pictures: Pictures, sidecar: dict[str, bytes], words: str
) -> None:
    last = list(pictures)[-1]
    as_shards(tmp_path, pictures, lambda name: sidecar if name == last else {".cls": b"0003"})
    with pytest.raises(DataError, match=words):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 5000, "cannot be read as a config file"),
        (".".join("a" * 3000) + " = 1", "unknown set|cannot be read as a config file"),
        ('clean = "~nobody-has-this-name/val"', "~nobody-has-this-name/val: there is no such home"),
        ('root = "~nobody-has-this-name"', "there is no such home"),
        ('clean = "val"\nsurrogate = "vit:~nobody-has-this-name/a"', "there is no such home"),
        ('clean = "val"\n[classes]\nclean = [["n01440764"]]', "must be .present., .* or a list of different wnids"),
        ('clean = "val"\n[classes]\nclean = [{a = 1}]', "must be .present., .* or a list of different wnids"),
        ('clean = "val"\n[classes]\nclean = [true]', "must be .present., .* or a list of different wnids"),
        ('clean = "val"\nclasses = [1]', "classes must be a table"),
        ('clean = "/**"', "is no path"),
        ('clean = "a\\u0000b"', "is no path"),
        ('clean = ["val", "val"]', "val: is a folder in the list of 'clean'"),
        ('clean = "val"\n[labels]\nclean = "a\\u0000b"', "clean must be a path"),
        ('root = "a\\u0000b"', "root must be the path of a folder"),
        ('masks = "a\\u0000b"', "masks must be the path of a folder"),
        ('[sets.objects]\npath = "a\\u0000b"', "its path must be that of a folder or file"),
        ('[sets.objects]\npath = "val"\nlabels = "a\\u0000b"', "labels holds control characters"),
        (f'clean = "val"\nname = "{"a" * 101}"', "must consist of letters, .*at most 100"),
        (f'source = "folder"\nroot = "val"\nname = "{"a" * 101}"', "must consist of letters, .*at most 100"),
        ('source = "folder"\nroot = "a\\u0000b"', "needs the folder of the images"),
        ('source = "folder"\nroot = "val"\nclass_names = ["cat", "dog", "cat"]', "class_names holds 'cat' twice"),
        ('source = "folder"\nroot = "val"\nclass_names = ["cat"]', "class_names must be at least two names"),
        ('source = "folder"\nroot = "val"\nclass_names = []', "class_names must be at least two names"),
        ('source = "folder"\nroot = "val"\nclass_names = ["cat", " "]', "class_names holds ' '; give names"),
        ('source = "folder"\nroot = "val"\nclass_names = ["cat", "a\\u001b"]', "class_names holds 'a.x1b'"),
        ('clean = "val"\nname = "shapes10"', "the name 'shapes10' is reserved for another source"),
        ('clean = "val"\nname = "Shapes10"', "the name 'Shapes10' is reserved"),
        ('clean = "val"\nname = "ImageNet"', "the name 'ImageNet' is reserved"),
        ('clean = "val"\nname = "files"', "the name 'files' is reserved"),
        ('clean = "val"\nname = ["a"]', "must consist of letters"),
        ('clean = "val"\nname = "a/../b"', "must consist of letters"),
    ],
)
def test_config_files_that_are_wrong_in_other_ways(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "data.toml").write_text(text)
    with pytest.raises((DataError, UsageError), match=words):
        open_source(str(tmp_path / "data.toml")).split("clean")


def test_a_folder_whose_name_no_result_could_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot name a source of one's own; rename it"):
        OwnSource(tmp_path / ("a" * 101))


def test_a_marker_that_is_nested_beyond_reason(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    (tmp_path / "val" / "nsbench-made.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is damaged; remove this set's folder"):
        opened(tmp_path)


def test_a_saved_folder_whose_state_is_nested_beyond_reason(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for text in ("[" * 100_000, "[]", '{"_data_files": [3]}', json.dumps({"_data_files": [{"filename": "../x"}]})):
        (tmp_path / "val" / "state.json").write_text(text)
        with pytest.raises(DataError, match=r"is no folder of save_to_disk|is not there"):
            opened(tmp_path)


def test_homes_that_are_not_there_and_devices_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there is no such home"):
        open_source("~nobody-has-this-name/imagenet")
    monkeypatch.setenv("NSBENCH_CACHE", "~nobody-has-this-name")
    with pytest.raises(UsageError, match="there is no such home"):
        cache_folder()
    monkeypatch.delenv("NSBENCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # an account that the machine does not know
    with pytest.raises(UsageError, match="there is no home folder to keep a cache in; point NSBENCH_CACHE"):
        cache_folder()
    for device in ("meta", "quantum", "cuda:99", "hpu", "lazy", "", "privateuseone", "vulkan"):
        with pytest.raises(UsageError, match=f"--device {device}: is not here"):
            resolve_device(device)


# --- the cache -------------------------------------------------------------------------------------------------------


def kept_files() -> list[Path]:
    return [path for path in cache_folder().rglob("*.npy") if path.is_file()]


@pytest.mark.parametrize("write", [as_tar, as_shards, as_flat_tar])
def test_a_damaged_index_is_made_again(tmp_path: Path, pictures: Pictures, write: Callable) -> None:
    """Whatever byte it is: another offset or label would give other figures in silence."""
    write(tmp_path, pictures)
    whole, draws = opened(tmp_path), np.random.default_rng(0)
    for path in kept_files():
        content = path.read_bytes()
        for at in (*draws.integers(len(content), size=25).tolist(), 0, len(content) - 1):
            path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            again = opened(tmp_path)
            assert again.digest == whole.digest
            assert again.read(3) == whole.read(3)
            assert path.read_bytes() == content
        path.write_bytes(content[:-5])
        assert opened(tmp_path).digest == whole.digest


def test_a_damaged_manifest_is_made_again(tmp_path: Path, pictures: Pictures) -> None:
    as_folder(tmp_path, pictures)
    split = opened(tmp_path)
    whole = manifest(split).digest
    (path,) = kept_files()
    content = path.read_bytes()
    assert content_digest(split) == whole
    for at in range(90, len(content), 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        assert content_digest(split) is None
        assert manifest(split).digest == whole


def test_an_array_comes_back_or_not_at_all(tmp_path: Path) -> None:
    path, array = tmp_path / "a.npy", np.array([(1, b"x"), (2, b"yz")], dtype=[("n", "<i8"), ("name", "S3")])
    keep_array(path, array)
    assert (kept_array(path) == array).all()
    np.save(path, array)  # as older versions kept it
    with pytest.raises(ValueError, match="differs from its digest"):
        kept_array(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="differs from its digest"):
        kept_array(path)
    path.unlink()
    os.mkfifo(path)
    assert (cached_array("x", "y", lambda: array) == array).all()


def test_a_cache_that_cannot_be_written_costs_time_alone(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_shards(tmp_path, pictures)
    (tmp_path / "file").touch()
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert len(opened(tmp_path)) == len(pictures)
    assert manifest(opened(tmp_path)).digest


def test_archives_that_end_anywhere(tmp_path: Path, pictures: Pictures) -> None:
    path = write_tar(tmp_path / "val.tar", pictures)
    content = path.read_bytes()
    used = len(content.rstrip(b"\0"))  # a tar ends with zeros
    for end in range(0, used, used // 40):
        path.write_bytes(content[:end])
        with pytest.raises(DataError):
            opened(tmp_path)
