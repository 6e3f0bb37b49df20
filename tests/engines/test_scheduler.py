"""The scheduler alone, with workers that die, are slow, refuse, and answer twice: every step ends exactly once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from nsbench.run.engines.scheduler import AHEAD, RETRIES, Ended, Step, work_through


@dataclass
class Shaky:
    """An engine whose workers die with some probability, and end in any order."""

    dies: float = 0.0
    workers: int = 4
    seed: int = 0
    always: str = ""  # the key of a step that kills its worker
    flight: list[Step[str]] = field(default_factory=list)
    most: int = 0

    def __post_init__(self) -> None:
        self.draws = random.Random(self.seed)

    def room(self) -> int:
        return self.workers

    def submit(self, step: Step[str]) -> None:
        self.flight.append(step)
        self.most = max(self.most, len(self.flight))

    def wait(self, seconds: float) -> list[Ended[str]]:
        step = self.flight.pop(self.draws.randrange(len(self.flight)))
        if step.key == self.always or self.draws.random() < self.dies:
            return [Ended(step.key, lost="its worker was killed")]
        return [Ended(step.key, step.work), Ended(step.key, step.work)]  # the second one is late


@dataclass
class Record:
    """A book that writes down everything."""

    held: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    begun: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = set(self.held)  # what other steps may need

    def begin(self, step: Step[str]) -> Literal["run", "done", "left"]:
        assert not step.needs or step.needs in self.known
        self.begun[step.key] += 1
        if step.key in self.elsewhere:
            self.left.append(step.key)
            return "left"
        return "done" if step.key in self.held else "run"

    def end(self, step: Step[str], value: str) -> str:
        if step.key in self.refused:
            self.fail(step, "cannot be done")
            return "cannot be done"
        self.order.append(step.key)
        self.known.add(step.key)
        return ""

    def fail(self, step: Step[str], why: str) -> None:
        assert step.key not in self.failed
        self.failed[step.key] = why

    def leave(self, step: Step[str]) -> None:
        self.left.append(step.key)

    def tell(self, running: int, waiting: int) -> None:
        assert min(running, waiting) >= 0


def grid(fits: int = 20, pairs: int = 11) -> Iterator[Step[str]]:
    for fit in range(fits):
        yield Step(f"fit {fit}", "fit", is_needed=True)
        for pair in range(pairs):
            yield Step(f"pair {fit}.{pair}", "pair", needs=f"fit {fit}")


def test_every_step_is_done_once_although_workers_die() -> None:
    for seed in range(20):
        book, engine = Record(), Shaky(dies=0.2, seed=seed)
        work_through(grid(), engine, book)
        ended = book.order + list(book.failed)
        assert Counter(ended) == Counter(step.key for step in grid())
        assert engine.most == engine.workers
        assert set(book.failed.values()) <= {"its worker was killed"}


def test_a_step_whose_workers_die_is_given_up_and_what_needs_it_says_why() -> None:
    book = Record()
    work_through(grid(2, 3), Shaky(always="fit 1"), book)
    assert book.begun["fit 1"] == 1 + RETRIES
    assert book.failed == dict.fromkeys(["fit 1", "pair 1.0", "pair 1.1", "pair 1.2"], "its worker was killed")
    assert len(book.order) == 4


def test_refused_held_and_elsewhere() -> None:
    book = Record(held=frozenset({"fit 0"}), elsewhere=frozenset({"fit 1"}), refused=frozenset({"fit 2", "pair 3.0"}))
    work_through(grid(4, 2), Shaky(), book)
    assert sorted(book.order) == ["fit 3", "pair 0.0", "pair 0.1", "pair 3.1"]
    assert book.left == ["fit 1", "pair 1.0", "pair 1.1"]
    assert set(book.failed) == {"fit 2", "pair 2.0", "pair 2.1", "pair 3.0"}


def test_a_chain_waits_for_all_before_it() -> None:
    book = Record()
    steps = [
        Step("a", "fit", is_needed=True),
        Step("a+b", "fit", needs="a", is_needed=True),
        Step("pair of a+b", "pair", needs="a+b"),
        Step("pair of a", "pair", needs="a"),
    ]
    work_through(iter(steps), Shaky(dies=0.3), book)
    assert book.order.index("a") < book.order.index("a+b") < book.order.index("pair of a+b")


def test_few_of_many_steps_are_held_at_a_time() -> None:
    """What is pulled from the grid and not done yet: bounded by the workers, whatever the grid's size."""
    pulled, book, engine = 0, Record(), Shaky(workers=8)
    most = 0

    def counted() -> Iterator[Step[str]]:
        nonlocal pulled, most
        for step in grid(2000, 11):
            pulled += 1
            most = max(most, pulled - len(book.order))
            yield step

    work_through(counted(), engine, book)
    assert len(book.order) == 24_000
    assert most <= (AHEAD + 2) * engine.workers


def test_without_a_worker_it_waits_for_one() -> None:
    class Late(Shaky):
        looks = 0

        def room(self) -> int:
            return 2 if self.looks > 3 else 0

        def wait(self, seconds: float) -> list[Ended[str]]:
            self.looks += 1
            return super().wait(seconds) if self.flight else []

    book = Record()
    work_through(grid(1, 2), Late(), book)
    assert len(book.order) == 3


def test_a_worker_that_can_do_nothing_costs_a_step_no_try() -> None:
    class Full(Shaky):
        answers = 0

        def wait(self, seconds: float) -> list[Ended[str]]:
            self.answers += 1
            return [Ended(self.flight.pop().key, lost="full", counts=False)] if self.answers < 20 else super().wait(0)

    book = Record()
    work_through(grid(1, 1), Full(), book)
    assert (book.order, book.failed) == (["fit 0", "pair 0.0"], {})
