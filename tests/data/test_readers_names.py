"""Names of pictures and classes mean the same in every container: what is no UTF-8 is refused and never replaced."""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containers import Pictures, as_shards, jpeg, write_tar, write_zip
from layouts import put

from nsbench.data.imagenet import ImageNetTree
from nsbench.data.own import OwnSource
from nsbench.data.webdataset import is_shard
from nsbench.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")
CLASSES = ("a b", "zebra", "Ärger", "épée", "名前")


@pytest.fixture
def named() -> Pictures:
    """Three pictures of each class, and names of their own that are no ASCII."""
    return {
        f"{part}/{name}/{name} é{part}{k}.png": jpeg(10 * label + k)
        for part in ("train", "val")
        for label, name in enumerate(CLASSES)
        for k in range(3)
    }


class Info(zipfile.ZipInfo):
    """A member whose name is stored as `raw`, without the flag of UTF-8, as Info-ZIP does."""

    raw: bytes
    flags: int = 0

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.raw, self.flag_bits & ~0x800 | self.flags


def raw_zip(path: Path, files: Iterator[tuple[bytes, bytes]], extra: dict[bytes, bytes] | None = None, flags=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for k, (name, content) in enumerate(files):
            info = Info(f"x{k}", (1980, 1, 1, 0, 0, 0))
            info.raw, info.extra, info.flags = name, (extra or {}).get(name, b""), flags
            archive.writestr(info, content)
    return path


def as_info_zip(path: Path, files: Pictures) -> Path:
    return raw_zip(path, ((name.encode(), content) for name, content in files.items()))


def as_old_windows(path: Path, files: Pictures) -> Path:
    """Names in the encoding of the console, and in UTF-8 in the extra field of Info-ZIP, behind another one."""
    raw = {name: name.encode("cp437", errors="replace").replace(b"?", b"_%d" % k) for k, name in enumerate(files)}
    extra = {
        raw[name]: struct.pack("<HHI", 0x5855, 4, 7)
        + struct.pack("<HHBI", 0x7075, 5 + len(name.encode()), 1, zlib.crc32(raw[name]))
        + name.encode()
        for name in files
    }
    return raw_zip(path, ((raw[name], content) for name, content in files.items()), extra)


def reversed_tar(kind: int) -> Callable[[Path, Pictures], Path]:
    return lambda path, files: write_tar(path, dict(reversed(files.items())), kind)


ARCHIVES = {
    "marked.zip": write_zip,
    "unmarked.zip": as_info_zip,
    "windows.zip": as_old_windows,
    "pax.tar": reversed_tar(tarfile.PAX_FORMAT),
    "gnu.tar": reversed_tar(tarfile.GNU_FORMAT),
    "ustar.tar": reversed_tar(tarfile.USTAR_FORMAT),
}


@pytest.mark.parametrize("archive", ARCHIVES)
def test_names_that_are_no_ascii_mean_the_same_in_archives(tmp_path: Path, named: Pictures, archive: str) -> None:
    put(tmp_path / "folder", named)
    whole, packed = OwnSource(tmp_path / "folder"), OwnSource(ARCHIVES[archive](tmp_path / archive, named))
    assert whole.class_names == packed.class_names == CLASSES
    ours, theirs = whole.split("clean"), packed.split("clean")
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert ours.digest == theirs.digest
    assert [ours.load(k).tobytes() for k in range(15)] == [theirs.load(k).tobytes() for k in range(15)]


def latin_tar(path: Path, files: Pictures) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for name in files:
            tar.addfile(tarfile.TarInfo(name))
    return path


def latin_zip(path: Path, files: Pictures, flags: int = 0) -> Path:
    return raw_zip(path, ((name.encode("latin-1"), content) for name, content in files.items()), flags=flags)


WRONG: dict[str, Callable[[Path, Pictures], Path]] = {
    "x.tar": latin_tar,
    "x.zip": latin_zip,
    "marked.zip": lambda path, files: latin_zip(path, files, 0x800),
}


@pytest.mark.parametrize("archive", WRONG)
@pytest.mark.parametrize("name", ["val/Ärger/x.png", "val/a/Ä.PNG"])
def test_names_that_are_no_utf8_are_refused_in_archives_as_in_folders(tmp_path: Path, archive: str, name: str) -> None:
    files = {name: jpeg(1), "val/zebra/x.png": jpeg(2)}
    with pytest.raises(DataError, match=r"holds a name that is not UTF-8, '.*\\udcc4.*; make the archive anew"):
        OwnSource(WRONG[archive](tmp_path / archive, files))


@pytest.mark.parametrize("archive", ["x.tar", "x.zip"])
def test_other_files_may_be_called_as_they_like(tmp_path: Path, archive: str) -> None:
    files = {"a/1.png": jpeg(1), "zebra/2.png": jpeg(2), "Ä.txt": b"", "Ö.txt": b"", "__MACOSX/Ä/1.png": b""}
    assert OwnSource(WRONG[archive](tmp_path / archive, files)).class_names == ("a", "zebra")


def test_a_zero_byte_ends_no_name(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "x.zip", iter([(b"a/1.png", jpeg(1)), (b"b/2.png\0.txt", jpeg(2))]))
    with pytest.raises(DataError, match="leads out of the archive"):
        OwnSource(path)


def test_a_name_that_is_no_utf8_in_a_shard(tmp_path: Path, pictures: Pictures) -> None:
    as_shards(tmp_path, pictures)
    shard = sorted((tmp_path / "val").iterdir())[0]
    with tarfile.open(shard, "a", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for ending in ("cls", "jpg"):
            tar.addfile(tarfile.TarInfo(f"Ä.{ending}"))
    with pytest.raises(DataError, match=r"imagenet-val-000000\.tar: holds a name that is not UTF-8"):
        ImageNetTree(tmp_path).split("clean")


def test_what_macos_adds_to_a_shard_changes_nothing(tmp_path: Path, pictures: Pictures) -> None:
    """Three files of AppleDouble beside every member: the first hundred names are no pictures."""
    plain, littered = tmp_path / "plain", tmp_path / "littered"
    for root in (plain, littered):
        as_shards(root, pictures)
    for shard in (littered / "val").iterdir():
        with tarfile.open(shard) as tar:
            names = tar.getnames()
        with tarfile.open(shard, "a") as tar:
            for name in names:
                for more in ("", ".1", ".2", ".3", ".4"):
                    tar.addfile(tarfile.TarInfo(f"._{name}{more}"))
        assert is_shard(shard)
    ours, theirs = ImageNetTree(plain).split("clean"), ImageNetTree(littered).split("clean")
    assert ours.digest == theirs.digest
    one = next((littered / "val").iterdir())
    one.rename(littered / "val.tar")  # alone, where nothing but its content says what it is
    for rest in [*(littered / "val").iterdir()]:
        rest.unlink()
    (littered / "val").rmdir()
    assert len(ImageNetTree(littered).split("clean")) in (7, 8)
