"""Public sets from a server on loopback: whole, broken off, altered, with and without resuming, on a full disk, twice."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from containers import jpeg

from nsbench.cli import main
from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError, UnknownName, UsageError
from nsbench.making import fetch as module
from nsbench.making import published
from nsbench.making.fetch import fetch
from nsbench.making.published import File, Published

pytestmark = pytest.mark.usefixtures("own_cache")
A = [wnids.wnids()[label] for label in wnids.subset("a") or ()]


def tar_of(folder: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for k, wnid in enumerate(A[:4]):
            content = jpeg(k)
            member = tarfile.TarInfo(f"{folder}/{wnid}/{k}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Server:
    """Serves bytes by path, as far as it is told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks_after: int | None = None
        self.resumes = True
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._head(200, len(outer.files[self.path]))

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.asked.append((self.path, asked))
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and outer.resumes else 0
                if start and start >= len(content):
                    self.send_error(416)
                    return
                self._head(206 if start else 200, len(content) - start)
                self.wfile.write(content[start : outer.breaks_after])

            def _head(self, status: int, length: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silence."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def set_of(self, name: str, content: bytes, digest: str | None = None, size: bool = True) -> Published:
        self.files[f"/{name}"] = content
        address = f"http://127.0.0.1:{self.http.server_port}/{name}"
        wanted = digest or f"sha256:{hashlib.sha256(content).hexdigest()}"
        return Published(name, (File(address, name, wanted, len(content) if size else None),), "a page", "MIT")


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.mark.parametrize("digest", ["sha256", "md5"])
def test_a_set_is_fetched_where_data_finds_it_and_a_second_run_fetches_nothing(
    server: Server, tmp_path: Path, digest: str
) -> None:
    content = tar_of("imagenet-a")
    one = server.set_of("imagenet-a.tar", content, f"{digest}:{hashlib.new(digest, content).hexdigest()}")
    (found,) = fetch(["a"], tmp_path, table={"a": one})
    assert (found.path, found.held) == (tmp_path / "imagenet-a.tar", False)
    assert found.path.read_bytes() == content
    assert len(ImageNetTree(tmp_path).split("a")) == 4
    (again,) = fetch(["a"], tmp_path, table={"a": one})
    assert again.held
    assert len(server.asked) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".nsbench-make.lock", "imagenet-a.tar"]


@pytest.mark.parametrize("resumes", [True, False])
def test_what_broke_off_goes_on(server: Server, tmp_path: Path, resumes: bool) -> None:
    content = tar_of("imagenet-a")
    one = server.set_of("imagenet-a.tar", content)
    server.breaks_after, server.resumes = 3000, resumes
    with pytest.raises(DataError, match=r"imagenet-a.tar: cannot be fetched .* run it again to go on"):
        fetch(["a"], tmp_path, table={"a": one})
    assert not (tmp_path / "imagenet-a.tar").exists()
    assert (tmp_path / ".imagenet-a.tar.part").stat().st_size == 3000
    server.breaks_after = None
    fetch(["a"], tmp_path, table={"a": one})
    assert (tmp_path / "imagenet-a.tar").read_bytes() == content
    assert server.asked[-1][1] == "bytes=3000-"


def test_all_of_it_had_come_before_it_was_stopped(server: Server, tmp_path: Path) -> None:
    content = tar_of("imagenet-a")
    one = server.set_of("imagenet-a.tar", content)
    (tmp_path / ".imagenet-a.tar.part").write_bytes(content)
    fetch(["a"], tmp_path, table={"a": one})
    assert (tmp_path / "imagenet-a.tar").read_bytes() == content


def test_an_altered_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    one = server.set_of("imagenet-a.tar", tar_of("imagenet-a"), f"sha256:{'0' * 64}")
    with pytest.raises(DataError, match=r"has not the published digest sha256:0000.* nothing was kept") as raised:
        fetch(["a"], tmp_path, table={"a": one})
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == [".nsbench-make.lock"]


def test_what_is_compressed_as_a_whole_is_uncompressed_once(server: Server, tmp_path: Path) -> None:
    tar = tar_of("imagenet-a")
    for name, content in (("imagenet-a.tar.gz", gzip.compress(tar)), ("plain/imagenet-a.tar.gz", tar)):
        out = tmp_path / str(len(server.files))
        fetch(["a"], out, table={"a": server.set_of(name, content)})
        (found,) = out.rglob("*.tar")
        assert found.read_bytes() == tar
        assert not list(out.rglob("*.gz"))


def test_a_disk_without_room_is_said_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = server.set_of("imagenet-a.tar", tar_of("imagenet-a"), size=False)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"0\.00 GB are free, and 0\.00 GB will be written"):
        fetch(["a"], tmp_path, table={"a": one})
    assert server.asked == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    one = Published("a", (File("http://127.0.0.1:9/a.tar", "imagenet-a.tar", "md5:0", 10),), "", "")
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/a\.tar: cannot be fetched .* put the file there yourself"):
        fetch(["a"], tmp_path, table={"a": one})


def test_what_a_person_has_to_get_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clean: is not fetched\. ImageNet's terms .*image-net\.org"):
        fetch(["clean"], tmp_path)
    with pytest.raises(UnknownName, match="unknown public set 'imagenet-b'"):
        fetch(["imagenet-b"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_fetches_and_checks(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.SETS, "a", server.set_of("imagenet-a.tar", tar_of("imagenet-a")))
    done = CliRunner().invoke(main, ["data", "get", "a", "--out", str(tmp_path / "sets")])
    assert "its digest is right" in done.output
    assert "4 of 7,500 images" in " ".join(done.output.split())  # a small set on purpose
    assert done.exit_code == 1
    assert CliRunner().invoke(main, ["data", "get", "a"]).exit_code == 2
    listed = CliRunner().invoke(main, ["data", "get"])
    assert listed.exit_code == 0
    for word in ("ImageNet-R", "MIT", "github.com/hendrycks", "not fetched: ImageNet's terms"):
        assert word in listed.output


def test_the_table_has_the_form_of_what_it_is() -> None:
    for one in published.SETS.values():
        for file in one.files:
            kind, _, digest = file.digest.partition(":")
            assert len(digest) == {"sha256": 64, "md5": 32}[kind]
            assert file.address.startswith("https://")
    assert set(published.SETS) | set(published.EXPLAINED) >= {"a", "r", "v2", "sketch", "c", "clean", "stylized"}
