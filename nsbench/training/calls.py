"""Which training of a method one is: a method may train several times, and each keeps a checkpoint of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_calls: ContextVar[list[int] | None] = ContextVar("calls", default=None)


@contextmanager
def numbered() -> Iterator[None]:
    """Inside, the calls of `finetune` are the first, second, ... of one method; outside each is the first of its own."""
    token = _calls.set([0])
    try:
        yield
    finally:
        _calls.reset(token)


def next_number() -> int:
    calls = _calls.get()
    if calls is None:
        return 1
    calls[0] += 1
    return calls[0]


def checkpoint_of(path: Path, number: int) -> Path:
    """The file of the first training is `path` itself: "KEY.training", then "KEY.2.training"."""
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def remove_checkpoints(path: Path) -> None:
    """Those of all trainings of a method. Raises OSError."""
    for one in (path, *path.parent.glob(f"{path.stem}.*{path.suffix}")):
        one.unlink(missing_ok=True)


def beginning(*facts: object) -> str:
    """16 hex digits over what decides a training beside its recipe and images, as far as it can be written down."""
    return hashlib.sha256("\x1f".join(map(repr, facts)).encode()).hexdigest()[:16]
