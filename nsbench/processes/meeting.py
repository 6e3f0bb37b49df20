"""Where processes meet: sums, what all have found, what the first one decides, and errors, which become those of all.

Before anything is exchanged, every process says whether it failed. One that fails in a `section` says so there, with
its error, and the others raise the same error wherever they wait next; so nobody waits for somebody who has left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from nsbench.errors import NsbenchError
from nsbench.processes.group import count, messages, number, share

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
FINE, TO_BE_REPEATED, FAILED = 0, 1, 2
_TOLD = "_told_to_all"  # attribute of an error that every process knows of


def _never(error: Exception) -> bool:
    return False


def is_known(error: BaseException) -> bool:
    """Whether every process has this error."""
    return hasattr(error, _TOLD)


@contextmanager
def section(repeated: Callable[[Exception], bool] = _never) -> Iterator[None]:
    """An error of the block in one process is raised in all. Every process has to come through the same sections.

    `repeated`: which errors the caller handles, by doing the work again; where another process has an error of another
    kind, that one is raised instead.
    """
    if count() == 1:
        yield
        return
    try:
        yield
    except Exception as error:
        if not is_known(error):
            _roll_call(error, TO_BE_REPEATED if repeated(error) else FAILED)
        raise
    _roll_call()


def _roll_call(own: Exception | None = None, state: int = FINE) -> None:
    """Raises the error of the first process that failed, where any did."""
    import torch
    from torch import distributed

    worst = torch.tensor([state])
    distributed.all_reduce(worst, distributed.ReduceOp.MAX, group=messages())
    if not worst.item():
        return
    told: list[Any] = [None] * count()
    mine = _written(own) if own is not None and state == worst.item() else None
    distributed.all_gather_object(told, mine, group=messages())
    if own is None or mine is None:
        own = _read(*next(one for one in told if one))
        if not isinstance(own, NsbenchError):
            own.add_note("in another process")
    setattr(own, _TOLD, True)
    raise own


def _written(error: Exception) -> tuple[str, str, str]:
    """An error as texts: module and name of its class, and what it says. A class of the user's own need not be one that
    can be sent, nor be there in the other processes; where it is a kind of nsbench's, that kind's name is sent."""
    import torch

    own = next((kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "nsbench"), type(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        own = MemoryError  # which the others have to know as such
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  of a class of the user's own
        text = ""
    if own is type(error) or own is MemoryError or issubclass(own, NsbenchError):
        return own.__module__, own.__qualname__, text
    return type(error).__module__, type(error).__qualname__, text


def _read(module: str, name: str, text: str) -> Exception:
    """The error again: of a class of nsbench's or of Python's own; else a RuntimeError that names the class."""
    kind: Any = sys.modules.get(module) if module.partition(".")[0] in ("nsbench", "builtins") else None
    for part in name.split("."):
        kind = getattr(kind, part, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        error = kind.__new__(kind, text)
        if str(error) == text:
            return error
    return RuntimeError(f"{name}: {text}")


def first(work: Callable[[], T]) -> T:
    """What the first process gives, which alone does the work."""
    if count() == 1:
        return work()
    from torch import distributed

    found: list[Any] = [None]
    with section():
        if number() == 0:
            found[0] = work()
    distributed.broadcast_object_list(found, src=0, group=messages())
    given: T = found[0]
    return given


def gathered(own: T) -> list[T]:
    """What every process has, in their order."""
    if count() == 1:
        return [own]
    from torch import distributed

    _roll_call()
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, own, group=messages())
    return found


def gathered_rows(own: torch.Tensor, length: int) -> torch.Tensor:
    """All `length` rows, of which every process has its `share`; on the CPU, the same type and row shape in all."""
    if count() == 1:
        return own
    import torch
    from torch import distributed

    _roll_call()
    parts = [share(length, of) for of in range(count())]
    padded = own.new_zeros((parts[0].stop, *own.shape[1:]))  # the first part is the longest, and all send as much
    padded[: len(own)] = own
    found = [torch.empty_like(padded) for _ in parts]
    distributed.all_gather(found, padded, group=messages())
    return torch.cat([rows[: part.stop - part.start] for rows, part in zip(found, parts, strict=True)])


def totals(numbers: Sequence[int]) -> list[int]:
    """Sums over all processes."""
    if count() == 1:
        return list(numbers)
    import torch
    from torch import distributed

    _roll_call()
    found = torch.tensor(list(numbers))
    distributed.all_reduce(found, group=messages())
    return [int(number) for number in found]


def agree(value: object, what: str) -> None:
    """Raises NsbenchError where processes have values that are written differently (`repr`)."""
    if count() == 1:
        return
    import torch
    from torch import distributed

    _roll_call()
    own = int.from_bytes(sha256(repr(value).encode()).digest()[:7], "big")
    largest = torch.tensor([own, -own])
    distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=messages())
    if largest.sum():  # the largest less the smallest
        raise NsbenchError(
            f"{what} in {count()} processes that should be alike; run it in one process, and report this"
        )


def add_up(tensors: Sequence[torch.Tensor]) -> None:
    """Each tensor becomes its sum over all processes, in place. Shapes and types are the same in all."""
    if count() == 1:
        return
    import torch
    from torch import distributed

    _roll_call()
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == kind]
        together = torch.cat([tensor.detach().reshape(-1) for tensor in alike])
        distributed.all_reduce(together)
        start = 0
        for tensor in alike:
            tensor.detach().copy_(together[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()
