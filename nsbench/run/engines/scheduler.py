"""Steps of which some need others, on workers that may die: each is done once, and few are held in memory at a time.

It knows neither what a step is nor where it runs. An Engine runs steps somewhere; a Book says what is still to be done
and takes what comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

Work = TypeVar("Work")
Value = TypeVar("Value")
Value_contra = TypeVar("Value_contra", contravariant=True)

RETRIES = 3  # further tries of a step whose worker died
LOOKS = 5.0  # seconds for which the end of a step is waited, at most
AHEAD = 16  # steps that wait for another one, for each that may be in flight


@dataclass(frozen=True, slots=True)
class Step(Generic[Work]):
    """One piece of work. No two steps have one key."""

    key: str
    work: Work
    needs: str = ""  # key of the step that has to be done before; it comes earlier
    is_needed: bool = False  # other steps may need it


@dataclass(frozen=True, slots=True)
class Ended(Generic[Value]):
    """A step came to an end: with what it gave, or because its worker was lost."""

    key: str
    value: Value | None = None
    lost: str = ""  # why there is no value
    counts: bool = True  # as a try; False: the worker could not do any step


class Engine(Protocol[Work, Value]):
    """Where steps run."""

    def room(self) -> int:
        """How many steps may be in flight now, so that no worker waits for its next one."""

    def submit(self, step: Step[Work]) -> None:
        """Start it as soon as a worker is free."""

    def wait(self, seconds: float) -> list[Ended[Value]]:
        """Steps that ended; none where none ends in this time."""


class Book(Protocol[Work, Value_contra]):
    """What is to be done, and what became of it."""

    def begin(self, step: Step[Work]) -> Literal["run", "done", "left"]:
        """Asked right before a step is submitted: it may be done already, or be left to others."""

    def end(self, step: Step[Work], value: Value_contra) -> str:
        """Takes what a step gave; returns why steps that need it cannot be done, or ""."""

    def fail(self, step: Step[Work], why: str) -> None:
        """The step was given up."""

    def leave(self, step: Step[Work]) -> None:
        """The step needs one that is left to others."""

    def tell(self, running: int, waiting: int) -> None:
        """Called whenever something has changed."""


@dataclass
class Scheduler(Generic[Work, Value]):
    """Goes through the steps in their order."""

    steps: Iterator[Step[Work]]
    engine: Engine[Work, Value]
    book: Book[Work, Value]
    ready: deque[Step[Work]] = field(default_factory=deque)  # before all that follow in `steps`
    blocked: dict[str, list[Step[Work]]] = field(default_factory=dict)  # by the step that they need
    waiting: int = 0  # of them
    flight: dict[str, Step[Work]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    outcome: dict[str, str | None] = field(default_factory=dict)  # of needed steps: "" done, why not, None: left

    def run(self) -> None:
        """Until nothing is left that can be done."""
        while True:
            room = self.engine.room()
            while len(self.flight) < room and (step := self._next()):
                self._begin(step)
            self.book.tell(len(self.flight), self.waiting + len(self.ready))
            if room and not self.flight:  # without room the workers may come later
                return
            for ended in self.engine.wait(LOOKS):
                self._end(ended)

    def _next(self) -> Step[Work] | None:
        """The next step that needs nothing more; None where there is none, or too many wait for others."""
        if self.ready:
            return self.ready.popleft()
        while self.waiting < AHEAD * max(1, self.engine.room()):
            step = next(self.steps, None)
            if step is None:
                return None
            if not step.needs or step.needs in self.outcome:
                return step
            self.blocked.setdefault(step.needs, []).append(step)
            self.waiting += 1
        return None

    def _begin(self, step: Step[Work]) -> None:
        before = self.outcome[step.needs] if step.needs else ""
        if before is None:
            self._leave(step)
        elif before:
            self._fail(step, before)
        elif (state := self.book.begin(step)) == "run":
            self.flight[step.key] = step
            self.engine.submit(step)
        else:
            self._settle(step, "" if state == "done" else None)

    def _end(self, ended: Ended[Value]) -> None:
        step = self.flight.pop(ended.key, None)
        if step is None:  # a second answer of a step that has ended
            return
        if ended.value is not None:
            self.tries.pop(step.key, None)
            self._settle(step, self.book.end(step, ended.value))
            return
        tried = self.tries[step.key] = self.tries.get(step.key, 0) + ended.counts
        if tried <= RETRIES:
            self.ready.appendleft(step)
            return
        self.tries.pop(step.key)
        self._fail(step, ended.lost)

    def _fail(self, step: Step[Work], why: str) -> None:
        self.book.fail(step, why)
        self._settle(step, why)

    def _leave(self, step: Step[Work]) -> None:
        self.book.leave(step)
        self._settle(step, None)

    def _settle(self, step: Step[Work], outcome: str | None) -> None:
        """Steps that need this one are next: before others, so that what they share is soon let go."""
        if step.is_needed:
            self.outcome[step.key] = outcome
            freed = self.blocked.pop(step.key, [])
            self.waiting -= len(freed)
            self.ready.extend(freed)


def work_through(steps: Iterable[Step[Work]], engine: Engine[Work, Value], book: Book[Work, Value]) -> None:
    """Do all steps that can be done. What a book or an engine raises ends it."""
    Scheduler(iter(steps), engine, book).run()
