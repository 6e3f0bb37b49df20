"""Progress for people: a bar with rate and time left on a terminal, plain lines elsewhere, silence in libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from nsbench.errors import without_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars


WIDE = 240  # columns of a table that goes to a file or a pipe


class Advance(Protocol):
    """Called as units of a task get done; the note stands beside the bar."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


class Progress:
    """Silent: the default everywhere below the command line."""

    @contextmanager
    def task(self, label: str, total: int, unit: str = "images") -> Iterator[Advance]:
        """Work of `total` units; call the yielded function as units get done."""
        yield lambda n=1, note="": None

    def line(self, text: str = "", style: str = "") -> None:
        """One line that stays."""


SILENT = Progress()


class ConsoleProgress(Progress):
    """Rich bars on a terminal; when output is piped, only the lines that stay."""

    def __init__(self) -> None:
        self.console = _console(soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: int, unit: str = "images") -> Iterator[Advance]:
        if not self.console.is_terminal:
            yield lambda n=1, note="": None
            return
        with _bars(self.console, unit) as bars:
            task = bars.add_task(label, total=total, note="")

            def advance(n: int = 1, note: str = "") -> None:
                bars.update(task, advance=n, note=note)

            yield advance

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(text, style=style or None, markup=False)
        sys.stdout.flush()


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
