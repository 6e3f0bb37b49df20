"""Files are written whole or not at all, and what the system refuses is one line."""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nsbench.errors import DataError, ResultError
from nsbench.files import (
    alone,
    clear_drafts,
    importing,
    open_atomically,
    temporary_folder,
    write_atomically,
    writing,
)


def test_written_whole_with_its_folder(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"first")
    write_atomically(tmp_path / "a" / "b" / "file", b"second")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"second"


def test_what_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    def write_half() -> None:
        with open_atomically(tmp_path / "file") as file:
            file.write(b"half of")
            raise KeyboardInterrupt

    write_atomically(tmp_path / "file", b"before")
    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_what_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


HOLDING = """
import sys, time
from pathlib import Path
from nsbench.files import alone, open_atomically, temporary_folder
with {what} as held:
    print(held, flush=True)
    time.sleep(60)
"""


def holder(what: str, **environment: str) -> subprocess.Popen[str]:
    """Another process that has entered this context and stays there."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING.format(what=what)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stdout
    process.stdout.readline()
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_drafts_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead, living = (holder(f"open_atomically(Path({str(tmp_path / name)!r}))") for name in ("dead", "living"))
    kill(dead)
    assert len(list(tmp_path.iterdir())) == 2
    write_atomically(tmp_path / "file", b"")
    assert sorted(path.name.split(".")[1] for path in tmp_path.glob(".*")) == ["living"]
    kill(living)
    clear_drafts(tmp_path.parent, below=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_one_process_s_until_that_is_killed(tmp_path: Path) -> None:
    first = holder(f"alone(Path({str(tmp_path)!r}))")
    second = subprocess.Popen(
        [sys.executable, "-c", HOLDING.format(what=f"alone(Path({str(tmp_path)!r}))").replace("60", "0")],
        stdout=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1.5)
    kill(first)
    assert second.wait(30) == 0
    assert second.stdout
    second.stdout.close()
    with alone(tmp_path):
        clear_drafts(tmp_path)  # not of the process that holds it
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_goes_with_its_process_or_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, living = (holder("temporary_folder('nsbench-x-')", TMPDIR=str(tmp_path)) for _ in range(2))
    (other := tmp_path / "nsbench-x-of-somebody").mkdir()
    kill(dead)
    assert len(list(tmp_path.iterdir())) == 5
    with temporary_folder("nsbench-x-") as folder:
        (folder / "file").write_text("x")
        assert len(list(tmp_path.iterdir())) == 5
    kill(living)
    with temporary_folder("nsbench-x-"):
        pass
    assert list(tmp_path.iterdir()) == [other]


def test_a_refusal_names_the_place_the_reason_and_the_remedy(tmp_path: Path) -> None:
    place = tmp_path / "file" / "below"
    (tmp_path / "file").write_text("in the way")
    message = rf"^{re.escape(str(place))}: cannot be written \(.+\); choose another folder$"
    with pytest.raises(ResultError, match=message) as caught, writing(place, ResultError, "choose another folder"):
        write_atomically(place, b"")
    assert isinstance(caught.value.__cause__, OSError)
    with (
        pytest.raises(DataError, match=r"^x: cannot be written \(No space left on device\); free some$"),
        writing(Path("x"), DataError, "free some"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_only_refusals_are_translated() -> None:
    with pytest.raises(ValueError, match="a mistake"), writing(Path("x"), DataError, "free some"):
        raise ValueError("a mistake")
    with (
        pytest.raises(DataError, match=r"^x: cannot be written \(first line\); free some$"),
        writing(Path("x"), DataError, "free some", (OSError, RuntimeError)),
    ):
        raise RuntimeError("first line\nsecond line")


def test_what_libraries_make_while_they_are_imported_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large_library.py").write_text(
        "import gc\nwas_on = gc.isenabled()\nobjects = [[] for _ in range(1000)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    frozen = gc.get_freeze_count()
    try:
        with importing():
            import large_library  # type: ignore[import-not-found]
        assert not large_library.was_on
        assert gc.isenabled()
        assert gc.get_freeze_count() >= frozen + 1000
        gc.unfreeze()
        with importing():
            import large_library  # a second time: nothing is imported
        assert gc.get_freeze_count() == 0  # or all that a long process has thrown away would be kept for ever
    finally:
        gc.unfreeze()
        sys.modules.pop("large_library", None)


def test_python_does_not_search_all_objects_as_a_command_ends() -> None:
    code = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 10_000))\n"  # the first to be registered is the last to run
        "from nsbench.cli import main\n"
        "main(['list', 'suites'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
