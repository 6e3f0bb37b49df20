"""Too little memory, on whatever device: how it is told from other errors, and how it is passed on."""

from __future__ import annotations

import gc

import torch

from nsbench.errors import ModelError

# What the allocators of a CPU, of oneDNN and of CUDA's libraries say in a plain RuntimeError
SAID = (
    *("defaultcpuallocator", "can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed"),
    *("could not create a primitive", "could not create a memory"),
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, so that fewer images at a time may fit."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SAID)


def let_go() -> None:
    """Give back what cycles of objects and a GPU's allocator keep. Call it where no exception holds on to tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def too_large(error: BaseException) -> ModelError:
    """The error to raise where not even one image fits."""
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(f"one image at a time does not fit into memory ({why}); take a smaller model or another device")
