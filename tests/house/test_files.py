"""Files are written whole or not at all, and what the system refuses is one line."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from nsbench.errors import DataError, ResultError
from nsbench.files import open_atomically, stem, without_suffix, write_atomically, writing


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


@pytest.mark.parametrize(
    ("image_id", "whole", "name"),
    [
        ("val/n01440764/a.JPEG", "val/n01440764/a", "a"),
        ("a.b.png", "a.b", "a.b"),
        ("0000/17", "0000/17", "17"),
        ("n01.x/.png", "n01.x/.png", ".png"),
    ],
)
def test_ids_without_their_suffix(image_id: str, whole: str, name: str) -> None:
    assert (without_suffix(image_id), stem(image_id)) == (whole, name)
