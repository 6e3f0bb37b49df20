"""What is said while work goes on: rates, lines in a file, events in a log."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsbench import progress
from nsbench.cli.main import main
from nsbench.errors import UsageError
from nsbench.progress import BarLine, ConsoleProgress, Course, Within, duration, rate


def test_slow_work_shows_seconds_for_each() -> None:
    assert rate(1234.4, "images") == "1,234 images/s"
    assert rate(3.14, "images") == "3.1 images/s"
    assert rate(0.0294, "images") == "34.0 s/image"
    assert rate(0.5, "steps") == "2.0 s/step"


def test_durations() -> None:
    assert [duration(seconds) for seconds in (3.4, 89, 91, 720, 11_100)] == [
        "3 s",
        "89 s",
        "2 min",
        "12 min",
        "3 h 5 min",
    ]


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: one.now)
    return one


def test_time_left_is_that_of_the_pairs_that_follow(clock: Clock) -> None:
    course = Course(11, started=clock.now)
    course.number = 1
    assert str(course) == "pair 1/11"  # nothing is known yet
    clock.now += 120
    course.number, course.computed = 3, 1  # one was held
    assert str(course) == "pair 3/11, 16 min left"


LONG = "pair 10/11, 14 s left · random_noise x imagenet_c · gaussian_noise/1 [1/75]"
NOTE = "round 2/8: noise at 0.052, ε 0.03, step 12"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140, 200])
@pytest.mark.parametrize("what", ["pair 1/1 · ns · training", "pair 1/11, 3 min left · ns · training", LONG])
@pytest.mark.parametrize("note", ["", NOTE])
def test_a_bar_is_one_line_that_keeps_its_count(width: int, what: str, note: str) -> None:
    shown = BarLine(what, "steps").text(width, 38, 160, 1.6, 190.0, note).plain
    assert len(shown) < width
    assert " 38/160" in shown
    assert "03:10" in shown


def test_a_narrow_line_gives_up_the_speed_first_and_what_is_gone_stays_away() -> None:
    line = BarLine("pair 1/1 · ns · training", "steps")
    wide, less, least = (line.text(width, 38, 160, 1.6, 190.0, NOTE).plain for width in (140, 125, 80))
    assert [("steps/s" in shown, "━" in shown, NOTE in shown) for shown in (wide, less, least)] == [
        (True, True, True),
        (False, True, True),
        (False, False, False),
    ]
    assert least == "  pair 1/1 · ns · training  38/160   03:10 round 2/8: noise at 0.052, ε 0.03, …"
    assert "━" not in line.text(80, 39, 160, 1.6, 189.0, "").plain


def test_figures_of_pairs_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """What varies, how far the run is and how long it takes still, stands behind them."""
    shown = ConsoleProgress()
    for text, within in (
        ("ns x clean  96.0 %", "pair 9/12, 14 s left"),
        ("ns x cw      1.0 %", "pair 10/12, 3 min left"),
    ):
        shown.event("pair", text, within=within)
    assert [line[10:] for line in capsys.readouterr().out.splitlines()] == [
        "ns x clean  96.0 % · pair 9/12, 14 s left",
        "ns x cw      1.0 % · pair 10/12, 3 min left",
    ]


def worked(clock: Clock, shown: ConsoleProgress) -> None:
    """200 images in 200 seconds, as a part of pair 2/3."""
    with Within(shown, lambda: "pair 2/3").task("ns x cw", 500) as advance:
        for _ in range(20):
            clock.now += 10
            advance(10, note="eps 1")


def test_a_file_gets_a_line_for_each_minute_of_work(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    worked(clock, ConsoleProgress())
    lines = capsys.readouterr().out.splitlines()
    assert [line[10:] for line in lines] == [
        f"pair 2/3 · ns x cw: {done} of 500 images, 1.0 images/s, {left} left, eps 1"
        for done, left in ((60, "7 min"), (120, "6 min"), (180, "5 min"))
    ]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d  ", line[:10]) for line in lines)


def test_quiet_leaves_out_what_is_in_progress_and_verbose_adds_what_is_finished(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = ConsoleProgress(-1)
    worked(clock, quiet)
    quiet.line("dim", style="dim")
    quiet.line("a result")
    assert capsys.readouterr().out == "a result\n"
    worked(clock, ConsoleProgress(1))
    assert capsys.readouterr().out.splitlines()[-1].endswith("ns x cw: 200 images in 3 min, 1.0 images/s")


def test_a_log_file_holds_one_object_for_each_event(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    for _ in range(2):  # the second one goes on
        shown = ConsoleProgress(-1, path)
        shown.line("ready")
        worked(clock, shown)
        shown.event("pair", "ns x cw", {"method": "ns", "value": 1.5}, within="pair 2/3")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["event"] for one in events] == ["line", "progress", "progress", "progress", "task", "pair"] * 2
    assert all(datetime.fromisoformat(one.pop("time")).tzinfo for one in events)
    assert events[5] == {"event": "pair", "text": "ns x cw", "within": "pair 2/3", "method": "ns", "value": 1.5}
    assert events[1]["left_seconds"] == 440
    assert (events[4]["label"], events[4]["done"], events[4]["seconds"]) == ("ns x cw", 200, 200)


def test_a_log_file_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--log-file .*: cannot be written"):
        ConsoleProgress(0, tmp_path)


def test_a_run_tells_its_rounds_and_pairs(tmp_path: Path) -> None:
    """Each event with the fields that docs/logs.md names."""
    log = tmp_path / "run.jsonl"
    short = ["--recipe", "quick", "--set", "rounds=2", "--limit", "4", "--force"]
    where = ["--results", str(tmp_path / "r"), "--log-file", str(log)]
    shown = CliRunner().invoke(main, ["run", "--method", "ns", "--suite", "clean", *short, *where])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"^\d\d:\d\d:\d\d  pair 1/1 · ns · round 1/2: loss ", shown.output, re.MULTILINE)
    assert re.search(r"  ns x clean +\d+\.\d %  +\d+\.\d to \d+\.\d +n = 4 .* · pair 1/1$", shown.output, re.MULTILINE)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    rounds = [one for one in events if one["event"] == "round"]
    assert [one["round"] for one in rounds] == [1, 2]
    (pair,) = [one for one in events if one["event"] == "pair"]
    documented = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    for event in events:
        assert f"| `{event['event']}` |" in documented
        for field in event.keys() - {"time", "event", "text", "within"}:
            assert f"`{'loss_<term>' if field.startswith('loss_') else field}`" in documented, field
    assert (pair["method"], pair["suite"], pair["seed"], pair["n"]) == ("ns", "clean", 0, 4)
    (block,) = re.findall(r"```python\n(.*?)```", documented, re.DOTALL)
    shown_there: dict[str, object] = {}
    exec(block.replace('"run.jsonl"', repr(str(log))), shown_there)
    assert shown_there["scores"] == [pair]
