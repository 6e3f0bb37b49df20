"""A book for tests of engines: see `scheduler.Book`."""

from __future__ import annotations

from typing import Any

from nsbench.run.engines.scheduler import Step
from nsbench.run.engines.work import Answer


class Written:
    """A book that writes down what became of steps."""

    def __init__(self) -> None:
        self.ended: dict[str, Answer] = {}
        self.failed: dict[str, str] = {}

    def begin(self, step: Step[Any]) -> Any:
        return "run"

    def end(self, step: Step[Any], value: Answer) -> str:
        assert step.key not in self.ended
        self.ended[step.key] = value
        return ""

    def fail(self, step: Step[Any], why: str) -> None:
        self.failed[step.key] = why

    def leave(self, step: Step[Any]) -> None:
        raise AssertionError("nothing is left to others")

    def tell(self, running: int, waiting: int) -> None: ...
