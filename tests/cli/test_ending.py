"""How commands end: one line whatever happens, the traceback in a file, and the exit status that scripts rely on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest
from boards import flags, store
from click.testing import CliRunner, Result

from nsbench.cli import main
from nsbench.errors import DataError, doing, without_controls

REPOSITORY = Path(__file__).parents[2]


def nsbench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def broken(*arguments: object, **options: object) -> None:
    with doing("drawing\x1b[2J the board"):
        raise KeyError("a\nfield")


def test_what_nobody_expected_is_one_line_that_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbench.report.read_board", broken)
    done = nsbench("show", "--results", tmp_path)
    assert done.exit_code == 70
    (line,) = done.output.splitlines()
    assert line.startswith("nsbench: unexpected KeyError: 'a\\nfield' (")
    assert "test_ending.py:" in line
    assert "while drawing[2J the board. What was finished is kept." in line
    kept = re.search(r"The traceback is in (\S+\.traceback\.txt); please report it", line)
    assert kept
    text = Path(kept[1]).read_text()
    assert "KeyError" in text
    assert "in broken" in text
    assert Path(kept[1]).parent == tmp_path


def test_without_room_for_the_traceback_the_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbench.report.read_board", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    done = nsbench("show", "--results", tmp_path)
    assert done.exit_code == 70
    assert done.output.count("\n") == 1
    assert "The traceback could not be kept (No such file or directory); set TMPDIR" in done.output


def test_errors_that_click_and_the_reader_of_the_output_cause_stay_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: object, **options: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    def wrong(*arguments: object, **options: object) -> None:
        raise click.BadParameter("no")

    monkeypatch.setattr("nsbench.report.read_board", gone)
    assert nsbench("show", "--results", tmp_path).output == ""
    monkeypatch.setattr("nsbench.report.read_board", wrong)
    assert nsbench("show", "--results", tmp_path).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_that_breaks_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbench.run.unattacked.judge", broken)
    done = nsbench("run", "--method", "pretrained", "--suite", "clean", "--limit", 4, "--results", tmp_path / "results")
    assert done.exit_code == 70
    assert "while drawing[2J the board." in done.output  # the innermost note
    monkeypatch.setattr("nsbench.run.unattacked.judge", lambda *arguments: {}["x"])
    done = nsbench("run", "--method", "pretrained", "--suite", "clean", "--limit", 4, "--results", tmp_path / "results")
    assert "while evaluating pretrained x clean · clean. What was finished is kept." in done.output


def test_errors_of_nsbench_carry_no_note() -> None:
    with pytest.raises(DataError) as raised, doing("reading"):
        raise DataError("no images")
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("arguments", [["list"], ["show"], ["run", "--method", "ns", "--suite", "clean"]])
def test_arguments_that_are_no_text_are_refused_before_the_work(arguments: list[str], tmp_path: Path) -> None:
    folder = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    extra = [] if arguments == ["list"] else ["--results", folder]
    done = CliRunner().invoke(main, [*arguments, *extra, *(["caf\udce9"] if not extra else [])])
    assert done.exit_code == 2
    assert "caf\\udce9: holds bytes that are not UTF-8; rename the file or folder" in done.output
    assert not Path(folder).exists()


def test_a_byte_that_is_no_text_on_the_real_command_line() -> None:
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"nsbench", b"show", b"--results", b"caf\xe9"],
        capture_output=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"not UTF-8" in done.stderr


def test_what_a_terminal_obeys_is_taken_out() -> None:
    assert without_controls("a\x1b]0;title\x07b\x9b2Jc\x00d\u202ee\udce9\x7f") == "a]0;titleb2Jcde"
    plain = "ä β 像 😀 1\u202f000 −1 \t two\nlines · … ±"
    assert without_controls(plain) == plain


def test_a_message_is_one_line_that_no_terminal_obeys(tmp_path: Path) -> None:
    store(tmp_path, "ns", "clean", flags(0.5, 0))
    done = nsbench("report", "--results", tmp_path, "--reference", "a\x1b[2J\nb")
    assert done.exit_code == 2
    assert "\x1b" not in done.output
    assert done.output.count("\n") == 1


def alone(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "nsbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=os.environ | environment, cwd=REPOSITORY)


def test_a_pipe_that_takes_no_utf_8_gets_signs_that_are_spelled(tmp_path: Path) -> None:
    for method, share in (("pretrained", 0.9), ("ns", 0.5)):
        store(tmp_path, method, "clean", flags(share, 1))
    done = alone("show", "--results", tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert "?" not in text
    assert re.search(r"\+-\d", text)  # the half of an interval
    assert re.search(r"\(-\d", text)  # a difference below zero stays one


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": ""}, {"WORLD_SIZE": "abc"}, {"WORLD_SIZE": "4", "RANK": "2"}])
def test_a_command_that_joins_nothing_speaks_whatever_torchrun_s_variables_say(environment: dict[str, str]) -> None:
    done = alone("show", "--results", "nowhere", **environment)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"nsbench: --results nowhere: is not a folder")


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"WORLD_SIZE": "abc", "RANK": "0"}, "nsbench: WORLD_SIZE='abc': torchrun sets it to a number"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "nsbench: WORLD_SIZE and RANK are set, and torch cannot join"),
    ],
)
def test_torchrun_s_variables_without_torchrun(tmp_path: Path, environment: dict[str, str], line: str) -> None:
    done = alone("run", "--method", "pretrained", "--suite", "clean", "--results", tmp_path, **environment)
    assert done.returncode in (1, 2)
    assert done.stderr.decode().startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "x.json"
    done = nsbench("baseline", "record", "--method", "pretrained", "--suite", "clean", "--out", place)
    assert done.exit_code == 2
    assert done.output.startswith(f"nsbench: {place}: cannot write the baseline (")
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("closed", ["> /dev/full", ">&-"])
def test_a_run_whose_output_takes_nothing_stores_its_results(tmp_path: Path, closed: str) -> None:
    words = f"{sys.executable} -m nsbench run --method pretrained --suite clean --limit 4 --results {tmp_path}"
    done = subprocess.run(["sh", "-c", f"{words} {closed}"], stderr=subprocess.PIPE, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.rglob("*.json")] == ["clean.seed0.json"]
    said = [b"nsbench: the output cannot be written (No space left on device); goes on without"]
    assert done.stderr.splitlines() == (said if "full" in closed else [])
