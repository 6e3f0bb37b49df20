"""The folder of a command's jobs: which it has submitted, which have begun, and what became of them.

It is `.jobs/<name>` in the results folder, and <name> is what the scheduler calls these jobs, so that those of a killed
command are found. The command alone writes the book of its jobs; each job writes one file of its own as it begins. No file
ends in .json, which would be taken for a result.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from nsbench.errors import ResultError
from nsbench.files import OTHER_RESULTS, open_regular, read_regular, write_atomically, writing
from nsbench.run.turns import LAPSES, Elsewhere, turn

FOLDER = ".jobs"  # in the results folder
COMMAND, BOOK, BEGUN, TURN = "command", "jobs.jsonl", "begun", "command.turn"  # in the folder of a command's jobs
WEIGHTS = "weights"  # there, the folder of fits that jobs start from
LINES, TAIL = 5, 8192  # of a log that are shown; bytes of it that are read
Where = Literal["slurm", "local"]
Id = Annotated[str, Field(pattern=r"^[0-9_]+$")]
STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}  # pydantic's rules for reading
Record = TypeVar("Record")


@dataclass(frozen=True)
class Command:
    """Who submits the jobs, and to what."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    where: Where
    host: str
    pid: int
    began: float  # seconds since 1970


@dataclass(frozen=True)
class Noted:
    """A line of the book; of the lines of one job the last one holds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    job: Id  # the scheduler's id, or that of the process
    what: str
    state: Literal["submitted", "done", "failed"]
    time: float
    why: str = ""


@dataclass(frozen=True)
class Begun:
    """Written by a job; by one that was put back into the queue, once more."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    host: str
    time: float


@dataclass(frozen=True)
class Jobs:
    """What is known of the jobs of one command."""

    folder: Path
    command: Command
    noted: tuple[Noted, ...]  # the last line of each job

    @property
    def open(self) -> list[Noted]:
        """Those whose end the command has not seen."""
        return [one for one in self.noted if one.state == "submitted"]

    def begun(self, job: str) -> Begun | None:
        try:
            return _read(Begun, self.folder / BEGUN / job)
        except (OSError, ValueError):
            return None

    def log(self, job: str) -> list[str]:
        """The last lines of what it wrote to stderr, or else to stdout."""
        return _last_lines(self.folder / f"{job}_0_log.err") or _last_lines(self.folder / f"{job}_0_log.out")

    def silent(self, now: float) -> float:
        """For how many seconds its command has given no sign of life; `now` by the clock of the disk."""
        try:
            return now - (self.folder / TURN).stat().st_mtime
        except OSError:
            return now - self.command.began


class Book:
    """The folder of this command, open for writing. Raises ResultError where nothing can be written."""

    def __init__(self, results: Path, where: Where) -> None:
        name = f"nsbench-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}"
        self.folder = (results / FOLDER / name).absolute()
        command = Command(where, os.uname().nodename, os.getpid(), time.time())
        self.stack, self.failed = ExitStack(), False
        with writing(self.folder, ResultError, OTHER_RESULTS):
            (self.folder / BEGUN).mkdir(parents=True)
            self.folder.chmod(0o700)  # what jobs give is unpickled
            write_atomically(self.folder / COMMAND, _line(command))
        self.stack.enter_context(turn(self.folder / TURN, "its jobs"))

    def note(self, job: str, what: str, state: Literal["submitted", "done", "failed"], why: str = "") -> None:
        with writing(self.folder, ResultError, OTHER_RESULTS), (self.folder / BOOK).open("ab") as file:
            file.write(_line(Noted(job, what, state, time.time(), why)))
        if state != "submitted":
            self.failed |= state == "failed"
            self._clear(job, logs=state == "done")

    def _clear(self, job: str, logs: bool) -> None:
        """Remove what a job has left; `logs`: these, too."""
        names = [f"{job}_submitted.pkl", f"{job}_0_result.pkl", f"{job}_submission.sh"]
        names += [f"{job}_0_log.out", f"{job}_0_log.err", f"{BEGUN}/{job}"] if logs else []
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """What jobs have left goes, unless one has failed: its log and the book stay until the next command begins."""
        self.stack.close()
        if self.failed:
            shutil.rmtree(self.folder / WEIGHTS, ignore_errors=True)
            for path in [*self.folder.glob("*.pkl"), *self.folder.glob("*.pickle")]:
                path.unlink(missing_ok=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # another command's jobs are there
                self.folder.parent.rmdir()


def begin(folder: Path, job: str) -> str:
    """Say that a job has begun, in it; the machine, as the scheduler calls it."""
    node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    write_atomically(folder / BEGUN / job, _line(Begun(node, time.time())))
    return node


def read_jobs(results: Path) -> tuple[list[Jobs], list[str]]:
    """Of each command that has a folder there, the oldest first; and a line for each folder that cannot be read."""
    found, problems = [], []
    for folder in sorted(path for path in (results / FOLDER).glob("*") if path.is_dir()):
        try:
            found.append(Jobs(folder, _read(Command, folder / COMMAND), tuple(_book(folder / BOOK))))
        except OSError as error:
            problems.append(f"{error.filename or folder}: cannot be read ({error.strerror or error})")
        except ValueError as error:
            problems.append(f"{folder}: is no folder of jobs ({str(error).splitlines()[0]}); remove it")
    return found, problems


def left_behind(results: Path, mine: Path) -> Iterator[Jobs]:
    """Those of commands that have ended or were killed. `mine`: the folder of this one, made a moment ago."""
    now = mine.stat().st_mtime
    for one in read_jobs(results)[0]:
        if one.folder.absolute() == mine:
            continue
        try:
            with turn(one.folder / TURN, "its jobs"):
                pass
        except Elsewhere:
            if one.silent(now) <= LAPSES:
                continue
        yield one


def _book(path: Path) -> Iterator[Noted]:
    """The last line of each job. A line that was not written to its end is none."""
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    yield from {one.job: one for one in map(TypeAdapter(Noted).validate_json, lines)}.values()


def _read(kind: type[Record], path: Path) -> Record:
    """Raises OSError or ValueError."""
    try:
        return TypeAdapter(kind).validate_json(read_regular(path))
    except ValidationError as error:
        raise ValueError(f"{path.name}: {error.errors()[0]['msg']}") from error


def _line(record: Command | Noted | Begun) -> bytes:
    return json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n"


def _last_lines(path: Path) -> list[str]:
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-LINES:]
