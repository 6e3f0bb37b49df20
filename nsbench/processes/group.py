"""Which of how many processes this one is, as torchrun's environment says, and the part of a work that falls to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from nsbench.errors import NsbenchError, UsageError
from nsbench.files import available_cores

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

PATIENCE = timedelta(days=7)  # the others wait while the first one makes data; torchrun ends them where one dies


@dataclass(frozen=True)
class Group:
    """The processes that work together."""

    number: int = 0  # of this process, from 0 on
    count: int = 1
    local_number: int = 0  # among those of this machine
    local_count: int = 1
    messages: ProcessGroup | None = None  # for numbers and objects that are on the CPU


_group = Group()
_cores = 0  # that this process was told to take; 0: its share


def count() -> int:
    return _group.count


def number() -> int:
    """Of this process, from 0 on. The first one alone prints and writes."""
    return _group.number


def cores() -> int:
    """Those of this machine that fall to this process."""
    return _cores or max(1, available_cores() // _group.local_count)


def take_cores(number: int) -> None:
    """So many fall to this process: for one that whoever started it has placed beside others."""
    global _cores
    _cores = max(1, number)


def messages() -> ProcessGroup | None:
    return _group.messages


def share(length: int, of: int | None = None, among: int | None = None) -> slice:
    """The part of `length` things that falls to this process, or to process `of` `among` so many.

    The parts follow one another, are all of the things, and differ by one in length at most.
    """
    among = count() if among is None else among
    of = number() if of is None else of
    each, longer = divmod(length, among)
    start = of * each + min(of, longer)
    return slice(start, start + each + (of < longer))


@contextmanager
def joined(device: str = "auto") -> Iterator[None]:
    """Inside, the processes that torchrun started work together; without torchrun, or with one process, nothing is done.

    Raises UsageError where the machine has fewer GPUs than processes, or where `device` names one GPU for all of them.
    """
    asked = _told("WORLD_SIZE", 1)
    if asked == 1 or "RANK" not in os.environ:
        yield
        return
    import torch
    from torch import distributed

    global _group
    local, here = _told("LOCAL_RANK", 0), _told("LOCAL_WORLD_SIZE", 1)
    cuda = device != "cpu" and torch.cuda.is_available()
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: {asked} processes take a device each; use auto, cuda or cpu")
    if cuda and torch.cuda.device_count() < here:
        raise UsageError(
            f"{here} processes and {torch.cuda.device_count()} GPUs: start one process for each GPU, or use --device cpu"
        )
    if cuda:
        torch.cuda.set_device(local)
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    except ValueError as error:  # not all of torchrun's variables are there
        why = str(error).splitlines()[0]
        raise NsbenchError(
            f"WORLD_SIZE and RANK are set, and torch cannot join ({why}); start with torchrun"
        ) from error
    # What is on the CPU goes past the GPUs. A new group takes torch's half an hour, not the patience of the first one.
    letters = cast("ProcessGroup", distributed.new_group(backend="gloo", timeout=PATIENCE))
    _group = Group(distributed.get_rank(), distributed.get_world_size(), local, here, letters)
    try:
        yield
    except KeyboardInterrupt:  # the others may be in the middle of something, and end as well
        raise
    except BaseException:
        distributed.destroy_process_group()
        raise
    else:
        distributed.destroy_process_group()
    finally:
        _group = Group()


def is_quiet() -> bool:
    """Whether another process, the first one of torchrun's, says what there is to say."""
    several = os.environ.get("WORLD_SIZE", "1")
    joined_by = "MASTER_ADDR" in os.environ  # without it there is no first process that speaks
    return joined_by and several.isdecimal() and int(several) > 1 and os.environ.get("RANK", "0") != "0"


def _told(name: str, otherwise: int) -> int:
    """A number of torchrun's. Raises UsageError."""
    text = os.environ.get(name, str(otherwise))
    if not text.isdecimal():
        raise UsageError(f"{name}={text!r}: torchrun sets it to a number; start with torchrun, or unset it")
    return int(text)


def own_device(device: str) -> str:
    """The GPU of this process, where "cuda" stands for one of each."""
    return f"cuda:{_group.local_number}" if device == "cuda" and _group.count > 1 else device
