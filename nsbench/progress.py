"""Progress for people: a bar with rate and time left on a terminal, a line a minute elsewhere, silence in libraries.

A log file gets the same as events, one JSON object a line: see docs/logs.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from errno import EPIPE
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from nsbench.errors import UsageError, without_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.text import Text


WIDE = 240  # columns of a table that goes to a file or a pipe
SHORTEST_NOTE = 8  # columns beside a bar
MINUTE = 60.0  # seconds of work for which a file or a pipe gets a line
LASTING = ("pair", "held")  # events that a terminal shows, too, where bars come and go
WORDY = ("task",)  # events that are printed with -v alone
Fact = str | int | float | bool | None
NO_FACTS: Mapping[str, Fact] = MappingProxyType({})


class Advance(Protocol):
    """Called as units of a task get done; the note stands beside the bar."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


class Progress:
    """Silent: the default everywhere below the command line."""

    @contextmanager
    def task(self, label: str, total: int, unit: str = "images", within: str = "") -> Iterator[Advance]:
        """Work of `total` units, a part of `within`; call the yielded function as units get done."""
        yield lambda n=1, note="": None

    def line(self, text: str = "", style: str = "") -> None:
        """One line that stays."""

    def event(
        self, kind: str, text: str, facts: Mapping[str, Fact] = NO_FACTS, style: str = "", within: str = ""
    ) -> None:
        """Something that happened: a line where nothing shows bars, and an event of the log file with these facts."""


class Within(Progress):
    """Another progress, whose tasks and events say first what they are a part of."""

    def __init__(self, inner: Progress, what: Callable[[], str]) -> None:
        self.inner, self.what = inner, what

    @contextmanager
    def task(self, label: str, total: int, unit: str = "images", within: str = "") -> Iterator[Advance]:
        with self.inner.task(label, total, unit, self._around(within)) as advance:
            yield advance

    def _around(self, within: str) -> str:
        return " · ".join(filter(None, (self.what(), within)))

    def line(self, text: str = "", style: str = "") -> None:
        self.inner.line(text, style)

    def event(
        self, kind: str, text: str, facts: Mapping[str, Fact] = NO_FACTS, style: str = "", within: str = ""
    ) -> None:
        self.inner.event(kind, text, facts, style, self._around(within))


@dataclass
class Course:
    """How far a run of several pairs has got."""

    total: int
    number: int = 0  # of the pair in work, from 1 on
    computed: int = 0  # pairs that took work
    started: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        left = self.left
        return f"pair {self.number}/{self.total}" + (f", {duration(left)} left" if left else "")

    @property
    def left(self) -> float | None:
        """Seconds that the pairs after this one take if they take what those before did; None before any is done."""
        if not self.computed:
            return None
        return (time.monotonic() - self.started) / self.computed * (self.total - self.number)


SILENT = Progress()


class LogFile:
    """Events as JSON, one object a line, written as they happen; a file that is there is continued."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--log-file {path}: cannot be written ({error.strerror or error})") from error

    def write(self, event: str, facts: Mapping[str, Fact]) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.file.write(json.dumps({"time": stamp, "event": event} | dict(facts), ensure_ascii=False) + "\n")
        self.file.flush()


class ConsoleProgress(Progress):
    """Rich bars on a terminal; when output is piped, lines with the time, and one for each minute of work.

    `verbosity`: -1 leaves out bars, dim lines and lines on work in progress; 1 adds a line for each finished task.
    """

    def __init__(self, verbosity: int = 0, log_file: Path | None = None) -> None:
        self.console, self.verbosity = _console(soft_wrap=True), verbosity
        self.log = LogFile(log_file) if log_file else None

    @contextmanager
    def task(self, label: str, total: int, unit: str = "images", within: str = "") -> Iterator[Advance]:
        work = _Work(self, label, total, unit, within)
        if not self.console.is_terminal or self.verbosity < 0:
            yield work.advance
        else:
            with _bars(self.console, unit) as bars:
                task = bars.add_task(" · ".join(filter(None, (within, label))), total=total, note="")

                def advance(n: int = 1, note: str = "") -> None:
                    bars.update(task, advance=n, note=note)
                    work.advance(n, note)

                yield advance
        work.end()

    def line(self, text: str = "", style: str = "") -> None:
        if self.log and text:
            self.log.write("line", {"text": text})
        self._print(text, style)

    def event(
        self, kind: str, text: str, facts: Mapping[str, Fact] = NO_FACTS, style: str = "", within: str = ""
    ) -> None:
        if self.log:
            self.log.write(kind, {"text": text} | ({"within": within} if within else {}) | dict(facts))
        parts = (text, within) if kind in LASTING else (within, text)  # what comes in columns begins the line
        text = " · ".join(filter(None, parts))
        if (kind in WORDY and self.verbosity < 1) or (kind not in LASTING and self.verbosity < 0):
            return
        if not self.console.is_terminal:
            self._print(f"{datetime.now():%H:%M:%S}  {text}", style)
        elif kind in LASTING + WORDY:
            self._print(text, style)

    def _print(self, text: str, style: str) -> None:
        if self.verbosity < 0 and style == "dim":
            return
        try:
            self.console.print(text, style=style or None, markup=False)
            sys.stdout.flush()
        except OSError as error:
            if error.errno == EPIPE:  # whoever read it has gone, and with it whoever wanted the work
                raise
            self._go_on_without_output(error)

    def _go_on_without_output(self, error: OSError) -> None:
        """What is computed is stored all the same."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
        print(f"nsbench: the output cannot be written ({error.strerror}); goes on without", file=sys.stderr)


class _Work:
    """One task, of which a file gets a line a minute."""

    def __init__(self, progress: ConsoleProgress, label: str, total: int, unit: str, within: str) -> None:
        self.progress, self.label, self.total, self.unit, self.within = progress, label, total, unit, within
        self.done, self.start = 0, time.monotonic()
        self.told = self.start

    def advance(self, n: int = 1, note: str = "") -> None:
        self.done += n
        now = time.monotonic()
        if now - self.told < MINUTE:
            return
        self.told, speed = now, self.done / (now - self.start)
        left = (self.total - self.done) / speed if speed else None
        words = [f"{self.label}: {self.done:,} of {self.total:,} {self.unit}"]
        words += [rate(speed, self.unit)] if speed else []
        words += [f"{duration(left)} left"] if left else []
        text = ", ".join([*words, *([note] if note else [])])
        self.progress.event("progress", text, self._facts() | {"left_seconds": left}, within=self.within)

    def _facts(self) -> dict[str, Fact]:
        return {"label": self.label, "done": self.done, "total": self.total, "unit": self.unit}

    def end(self) -> None:
        seconds = time.monotonic() - self.start
        speed = f", {rate(self.done / seconds, self.unit)}" if self.done and seconds > 0 else ""
        text = f"{self.label}: {self.done:,} {self.unit} in {duration(seconds)}{speed}"
        self.progress.event("task", text, self._facts() | {"seconds": round(seconds, 2)}, within=self.within)


def table_console() -> Console:
    """Where tables are printed: as wide as the terminal; a file or a pipe gets whole tables. Plain with NO_COLOR."""
    wide = sys.stdout.isatty() or "COLUMNS" in os.environ
    return _console(width=None if wide else WIDE)


def _console(width: int | None = None, soft_wrap: bool = False) -> Console:
    """A console that shows text as it is: neither rich's markup nor what a terminal would obey means anything in it."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=without_controls(segment.text))

    return Plain(highlight=False, markup=False, width=width, soft_wrap=soft_wrap)


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def rate(speed: float, unit: str) -> str:
    """ "120 images/s"; "3.4 s/image" where a second is not enough for one."""
    if speed < 1:
        return f"{1 / speed:,.1f} s/{unit.removesuffix('s')}"
    return f"{speed:,.{0 if speed >= 10 else 1}f} {unit}/s"


@dataclass
class BarLine:
    """A task as one line of a terminal, which is never wrapped.

    Where it is too long the speed goes first, then most of the bar, then the bar, then the ends of note and name. What
    has gone stays away, so that the line does not jump as its numbers grow.
    """

    what: str
    unit: str
    layout: int = 0  # in LAYOUTS

    def text(self, width: int, done: int, total: int, speed: float | None, left: float | None, note: str) -> Text:
        """For so many columns; speed in units a second, and seconds left, where they are known."""
        pace = rate(speed, self.unit) if speed else ""
        count = f"{done:>{len(str(total))}}/{total}"
        while True:
            columns, shows_speed = LAYOUTS[self.layout]
            fixed = _fixed(columns, done / max(total, 1), count, pace if shows_speed else None, left)
            needed = len(f"  {self.what} ") + fixed.cell_len + len(f" {note}")
            if needed < width or self.layout == len(LAYOUTS) - 1:
                break
            self.layout += 1
        return _cut(f"  {self.what}", fixed, note, width)


LAYOUTS = ((28, True), (28, False), (10, False), (0, False))  # columns of the bar, and whether the speed is shown


def _fixed(columns: int, share: float, count: str, pace: str | None, left: float | None) -> Text:
    """What is never cut: bar, count, speed (None: not shown) and time left."""
    from rich.text import Text

    full = round(columns * min(share, 1.0))
    clock = "--:--" if left is None else _clock(left)
    return Text.assemble(
        ("━" * full, "bar.complete"),
        ("─" * (columns - full), "bar.back"),
        " " * bool(columns),
        (count, "progress.download"),
        (f" {pace:>14}" if pace is not None else "", "cyan"),
        (f" {clock:>7}", "progress.remaining"),
    )


def _cut(what: str, fixed: Text, note: str, width: int) -> Text:
    """All of it in one line: a note that gets no room goes, and a name keeps what is left."""
    from rich.text import Text

    line, behind = Text(what), Text(f" {note}" if note else "", style="dim")
    room = width - 2 - fixed.cell_len  # one column stays free: a full line would make some terminals begin a new one
    line.truncate(room, overflow="ellipsis")
    room -= line.cell_len
    if room >= SHORTEST_NOTE:
        behind.truncate(room, overflow="ellipsis")
        return Text.assemble(line, " ", fixed, behind, no_wrap=True, end="")
    return Text.assemble(line, " ", fixed, no_wrap=True, end="")


def _clock(seconds: float) -> str:
    """ "01:05", "3:02:01"."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes:02}:{second:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def _bars(console: Console, unit: str) -> Bars:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, Task
    from rich.table import Column

    class Line(ProgressColumn):
        def __init__(self) -> None:
            super().__init__(Column(no_wrap=True))
            self.line = BarLine("", unit)

        def render(self, task: Task) -> Text:
            self.line.what = task.description
            done, total = int(task.completed), int(task.total or 0)
            return self.line.text(console.width, done, total, task.speed, task.time_remaining, task.fields["note"])

    return Bars(Line(), console=console, transient=True)
