"""How commands end: errors of nsbench as one line, and a last line of defence for those that nobody expected."""

from __future__ import annotations

import atexit
import codecs
import gc
import io
import os
import platform
import sys
import tempfile
import traceback
from errno import EPIPE
from typing import Any

import click

from nsbench import __version__, processes
from nsbench.cli.stopping import say_stopped, sigterm_raises
from nsbench.errors import NsbenchError, UsageError, without_controls
from nsbench.provenance import command_line

# Before a process ends, Python looks for circles among all objects, which with torch takes more than a second.
atexit.register(gc.freeze)

UNEXPECTED = 70  # exit status: EX_SOFTWARE of sysexits.h
ARGUMENTS = "nsbench.arguments"  # key in the context: all words of the command line
SPELLED = "nsbench.spelled"  # how errors of encoding are handled
SIGNS = {"\u2212": "-", "\u2013": "-", "\u00b7": "-", "\u2026": "...", "\u00b1": "+-", "\u00d7": "x", "\u03b5": "eps",
         "\u03c3": "sigma", "\u2113": "l", "\u221e": "inf", "\u2248": "~", "\u2260": "!=", "\u2264": "<=", "\u2265": ">=",
         "\u2191": "^", "\u2193": "v", "\u2192": "->", "\u2020": "+"}  # fmt: skip
TOGETHER = ("run",)  # commands that several processes of torchrun do as one, of which the first one speaks
UNEXPECTED_CHECK = 4  # of `nsbench check`, whose 1 means that a figure moved


class Commands(click.Group):
    """Shows every error as one line.

    Exit status: 2 for wrong usage, 1 for other errors of nsbench, 70 for unexpected ones (`check`: 4), 130 and 143
    where it was stopped by SIGINT or SIGTERM.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        _open_what_is_closed()
        _print_what_can_be()
        with sigterm_raises() as watch:
            try:
                refuse_undecodable(ctx.meta[ARGUMENTS])
                return super().invoke(ctx)
            except KeyboardInterrupt as stopped:
                sys.exit(say_stopped(ctx, watch.terminated, getattr(stopped, "__notes__", [])))
            except Exception as error:  # noqa: BLE001  said in a line
                if watch.terminated:  # processes of a loader that got the signal, too, fail in words of their own
                    sys.exit(say_stopped(ctx, watch.terminated))
                sys.exit(_said(error, ctx.invoked_subcommand or ""))


def _said(error: Exception, command: str) -> int:
    """Say what went wrong, in a line; returns the exit status. What click says in its own way is raised again."""
    check = command == "check"
    if isinstance(error, NsbenchError):
        of_all = command in TOGETHER and (processes.is_known(error) or isinstance(error, UsageError))
        if not (of_all and processes.is_quiet()):
            say_error(str(error))
        return 2 if isinstance(error, UsageError) else 1
    quiet = isinstance(error, OSError) and error.errno == EPIPE  # whoever read the output has gone
    if quiet or isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort):
        raise error
    say_error(unexpected(error) + ("; nothing is said of the model" if check else ""))
    return UNEXPECTED_CHECK if check else UNEXPECTED


def _open_what_is_closed() -> None:
    """A command whose output is closed says it to nobody."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  for as long as the process lives


def _print_what_can_be() -> None:
    """On a terminal or in a pipe that takes no UTF-8, signs that it lacks are spelled, and no error."""
    codecs.register_error(SPELLED, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors=SPELLED)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def say_error(message: str) -> None:
    """One line on stderr, without what a terminal would obey."""
    click.echo(f"nsbench: {without_controls(' '.join(message.split()))}", err=True)


def refuse_undecodable(arguments: list[str]) -> None:
    """Raises UsageError for an argument that is no text: no result could state it, which would show after the work."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = ascii(argument)[1:-1]
            raise UsageError(f"{shown}: holds bytes that are not UTF-8; rename the file or folder") from None


def unexpected(error: Exception) -> str:
    """A line on an error that is a bug of nsbench, of a suite or of a method: what it is, where, and during what."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(str(error).split())[:300]
    during = "".join(f", while {note}" for note in getattr(error, "__notes__", [])[:1])
    line = f"unexpected {type(error).__name__}: {what} ({last.filename}:{last.lineno}){during}"
    return f"{line}. What was finished is kept. {_kept(error)}"


def _kept(error: Exception) -> str:
    """Where the traceback is. It goes to the folder for temporary files: no home and no cache is needed."""
    head = f"nsbench {__version__}, Python {platform.python_version()}, {platform.platform()}\n{command_line()}\n\n"
    try:
        handle, path = tempfile.mkstemp(prefix="nsbench-", suffix=".traceback.txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(head + "".join(traceback.format_exception(error)))
    except OSError as refusal:
        return f"The traceback could not be kept ({refusal.strerror or refusal}); set TMPDIR to a folder with room"
    return f"The traceback is in {path}; please report it"
