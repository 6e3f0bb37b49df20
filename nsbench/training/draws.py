"""Draws of several processes: each gets for its images the numbers that one process draws for them among all.

PyTorch draws for a whole batch at once, so what an image gets depends on the batch that it is in. Inside `drawn_of`
every draw for the images at hand is made for those of all processes, and this one's are taken of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nsbench import processes
from nsbench.errors import TrainingError
from nsbench.training.shares import Piece, at_work

IN_PLACE = {"bernoulli_", "uniform_", "normal_", "random_", "exponential_", "cauchy_", "log_normal_", "geometric_"}
LIKE = {"rand_like", "randn_like", "randint_like", "bernoulli", "native_dropout"}
SIZED = {"rand", "randn", "randint"}


class OfAll(TorchDispatchMode):
    """Draws for `piece.own` images are those at `piece.place` among `piece.whole`; any other draw is the same in all."""

    def __init__(self, piece: Piece) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.piece = piece

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _drawing(func)
        if not name:
            return func(*args, **kwargs)
        if name in SIZED:
            return self._sized(func, args, kwargs)
        if name in IN_PLACE | LIKE:
            return self._of(func, args, kwargs, name)
        if not _dropout(func, args, kwargs):
            return func(*args, **kwargs)
        raise TrainingError(f"this training draws by '{name}', which several processes cannot share; use one process")

    def _sized(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A draw of a given shape."""
        at = next(k for k, one in enumerate(args) if isinstance(one, list | tuple | torch.Size))
        shape = list(args[at])
        if not shape or shape[0] != self.piece.own:
            return func(*args, **kwargs)
        return func(*args[:at], [self.piece.whole, *shape[1:]], *args[at + 1 :], **kwargs)[self.piece.place].clone()

    def _of(self, func: Any, args: Any, kwargs: Any, name: str) -> Any:
        """A draw into a tensor, or of the shape of one, whose values may be probabilities."""
        own = args[0]
        if not own.ndim or len(own) != self.piece.own:
            return func(*args, **kwargs)
        strides = (own if name in IN_PLACE else torch.empty_like(own)).stride()  # draws follow the order in memory
        if strides[0] < max(stride if size > 1 else 0 for stride, size in zip(strides, own.shape, strict=True)):
            raise TrainingError(f"'{name}' draws into images that do not lie one behind the other; use one process")
        for_all = own.new_empty_strided((self.piece.whole, *own.shape[1:]), strides).zero_()
        for_all[self.piece.place] = own
        drawn = func(for_all, *args[1:], **kwargs)
        if name in IN_PLACE:
            own.copy_(drawn[self.piece.place])
            return own
        if isinstance(drawn, tuple):
            return tuple(one[self.piece.place].clone() for one in drawn)
        return drawn[self.piece.place].clone()


@lru_cache(maxsize=4096)
def _drawing(func: Any) -> str:
    """The name of an operation that draws; "" for others."""
    return func._schema.name.partition("::")[2] if torch.Tag.nondeterministic_seeded in func.tags else ""


def _dropout(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation that may drop things, such as attention, does so."""
    for at, argument in enumerate(func._schema.arguments):
        if argument.name in ("dropout_p", "dropout"):
            return bool(args[at] if at < len(args) else kwargs.get(argument.name, argument.default_value))
    return True


class Drawn(RuntimeError):
    """Something was drawn where nothing was expected to be."""


@contextmanager
def drawn_of(piece: Piece, device: torch.device, expected: bool = True) -> Iterator[None]:
    """See above; with one process nothing is done.

    Where no draws are `expected`, operations are left alone, which saves 7 % of a step of a small model; raises Drawn
    where a generator of torch has moved all the same.
    """
    if processes.count() == 1:
        yield
        return
    with at_work(piece):
        if expected:
            with OfAll(piece):
                yield
            return
        before = _digest(device)
        yield
        if _digest(device) != before:
            raise Drawn


def require_same_draws(device: torch.device) -> None:
    """Raises NsbenchError where processes have drawn different amounts since they were seeded alike."""
    if processes.count() == 1:
        return
    processes.agree(_digest(device), "the method's random draws differ")


def _digest(device: torch.device) -> str:
    """Of where torch's generators stand."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return sha256(b"".join(state.numpy().tobytes() for state in states)).hexdigest()
