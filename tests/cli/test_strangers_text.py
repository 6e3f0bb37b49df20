"""What strangers call their models, methods and files commands no terminal, and rich's markup means nothing in it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from boards import flags, store
from click.testing import CliRunner

from nsbench import progress
from nsbench.cli import main
from nsbench.progress import ConsoleProgress, table_console
from nsbench.report import FORMATS

EVIL = "a\x1b]0;owned\x07\x1b[2Jb\x9b31mc\u202ed[/red][link=file:///etc]e\x00\x7f"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
TEXTS = ("title", "method_title", "method_summary", "summary", "citation", "method", "model", "unit")


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Two methods on two suites, every text of which is a stranger's; and a file that is no result."""
    for number, method in enumerate(("finetune", "ns")):
        for suite in ("clean", "imagenet_v2"):
            stored = store(tmp_path, method, suite, flags(0.4 + 0.2 * number, number))
            assert stored.path is not None
            record = json.loads(stored.path.read_text())
            for field in TEXTS:
                record[field] = f"{record[field]}{EVIL}" if field != "unit" else "%"
            record["provenance"]["device"] = EVIL
            record["conditions"][0]["unreadable"] = {EVIL: EVIL}
            stored.path.write_text(json.dumps(record))
    (tmp_path / f"x{EVIL}.json".replace("/", "").replace("\x00", "")).write_text("{")
    return tmp_path


def plain(output: str) -> str:
    assert not OBEYED.search(output), OBEYED.search(output)
    return output


@pytest.mark.parametrize("width", ["60", "400"])
def test_the_terminal(board: Path, width: str) -> None:
    done = CliRunner(env={"COLUMNS": width}).invoke(main, ["show", "--results", str(board)])
    assert done.exit_code == 1, done.output  # a file is no result
    assert "a]0;owned[2Jb31mcd" in plain(done.output).replace("\n", "") or width == "60"
    if width == "400":
        assert "[/red][link=file:///etc]e" in done.output
        assert "problem: " in done.output


def test_the_comparison(board: Path) -> None:
    names = [f"{method}{EVIL}" for method in ("finetune", "ns")]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(main, ["report", "--results", str(board), "--compare", *names])
    assert done.exit_code == 1, done.output  # a file is no result
    assert "owned" in plain(done.output)
    done = CliRunner().invoke(main, ["report", "--results", str(board), "--compare", EVIL, "x"])
    assert done.exit_code == 2
    plain(done.output)


@pytest.mark.parametrize("form", FORMATS)
def test_exports(board: Path, form: str) -> None:
    done = CliRunner().invoke(main, ["report", "--results", str(board), "--format", form, "--out", str(board / "out")])
    assert done.exit_code == 1, done.output  # a file is no result
    plain(done.output)
    for path in (board / "out").rglob("*"):
        if path.is_file() and path.suffix != ".pdf" and form != "html":  # where every value is escaped
            plain(path.read_text())


def test_lines_and_tables_of_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    ConsoleProgress().line(EVIL, style="yellow")
    from rich.table import Table

    drawn = Table(EVIL)
    drawn.add_row(EVIL)
    table_console().print(drawn)
    assert plain(stream.getvalue()).count("[/red][link=file:///etc]e") == 3


def test_the_console_keeps_its_own_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = progress.table_console()
    console.print("a\x1b[2Jb", style="bold")
    assert stream.getvalue() == "\x1b[1ma[2Jb\x1b[0m\n"
