"""Archives are not trusted: names that lead out, links, bombs, half-copied files."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from containers import (
    Pictures,
    as_tar,
    as_zip,
    jpeg,
    write_tar,
    write_zip,
)
from PIL import Image

from nsbench.data import wnids
from nsbench.data.archive_index import index_of
from nsbench.data.archives import open_archive
from nsbench.data.decode import decode
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import CorruptImage, DataError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "n01440764/../../evil.png", "C:/evil.png", "..\\evil.png"]
)
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
