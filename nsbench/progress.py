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
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from nsbench.errors import UsageError, without_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars


WIDE = 240  # columns of a table that goes to a file or a pipe
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
        text = " · ".join(filter(None, (within, text)))
        if (kind in WORDY and self.verbosity < 1) or (kind not in LASTING and self.verbosity < 0):
            return
        if not self.console.is_terminal:
            self._print(f"{datetime.now():%H:%M:%S}  {text}", style)
        elif kind in LASTING + WORDY:
            self._print(text, style)

    def _print(self, text: str, style: str) -> None:
        if self.verbosity < 0 and style == "dim":
            return
        self.console.print(text, style=style or None, markup=False)
        sys.stdout.flush()


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


def _bars(console: Console, unit: str) -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.speed, unit) if task.speed else "", style="cyan")

    return Bars(
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
        transient=True,
    )
