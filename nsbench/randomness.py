"""One rule for randomness: every draw is a function of (seed, what it is for, image id).

So an outcome never depends on an image's batch, the order, the workers or the processes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed from the run's seed and any printable parts, the same on every machine."""
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *parts: object) -> np.random.Generator:
    """A NumPy generator (Philox: counter based, documented to be stable) for these parts."""
    import numpy as np

    return np.random.Generator(np.random.Philox(derive_seed(seed, *parts)))


@contextmanager
def global_generators_kept(device: torch.device | None = None) -> Iterator[None]:
    """Afterwards the global generators of Python, NumPy and torch (CPU and `device`) are where they were before."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def stratified_order(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices in a stable order whose every prefix is balanced over classes.

    The prefixes are nested (the first 200 are inside the first 500) and depend on ids and labels alone,
    so `--limit 500` picks the same images on every machine and in whatever order they are listed.
    """
    import numpy as np

    keys = np.array([derive_seed(0, "subset", image_id) for image_id in ids], dtype=np.int64)
    by_class = np.lexsort((keys, labels))
    starts = np.searchsorted(labels[by_class], labels[by_class], side="left")
    rank_within_class = np.empty(len(labels), dtype=np.int64)
    rank_within_class[by_class] = np.arange(len(labels)) - starts
    return np.lexsort((keys, rank_within_class))
