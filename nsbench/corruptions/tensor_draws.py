"""The streams of `draws.Draws` for B images side by side, as torch tensors on any device: the same numbers.

Torch has no unsigned 64-bit arithmetic; signed multiplication wraps in the same way, and shifts are masked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from nsbench.corruptions.draws import GOLDEN, MIX_1, MIX_2, UNIT, poisson_tables


def signed(number: int) -> int:
    """The signed 64-bit number with the same bits."""
    return (number + 2**63) % 2**64 - 2**63


def shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    """z >> bits with zeros moving in."""
    moved: torch.Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return moved


class TensorDraws:
    """One stream per key; every result has the batch dimension B in front."""

    def __init__(self, keys: Sequence[int], device: torch.device) -> None:
        self.keys_B1 = torch.tensor([signed(key) for key in keys], dtype=torch.int64, device=device)[:, None]
        self.position = 0

    def words(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform 32-bit numbers, int64: the high halves of all 64-bit numbers, then the low halves."""
        count = math.prod(shape)
        high_low = torch.cat(self._halves(count), dim=1)[:, :count]
        return high_low.reshape(-1, *shape)

    def _halves(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = torch.arange(1, (count + 1) // 2 + 1, dtype=torch.int64, device=self.keys_B1.device)
        z = self.keys_B1 + (numbers + self.position) * signed(GOLDEN)
        self.position += len(numbers)
        for shift, factor in ((30, MIX_1), (27, MIX_2)):
            z = (z ^ shifted(z, shift)) * signed(factor)
        z = z ^ shifted(z, 31)
        return shifted(z, 32), z & 0xFFFFFFFF

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Float32 in [0, 1)."""
        return (self.words(shape) >> 8).float() * UNIT

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal float32."""
        count = math.prod(shape)
        first, second = ((half >> 8).float() for half in self._halves(count))
        radius = torch.sqrt(-2 * torch.log((first + 0.5) * UNIT))
        angle = second * (2 * math.pi * UNIT)
        pair = torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)), dim=1)
        return pair[:, :count].reshape(-1, *shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Int64 in [low, high)."""
        return ((self.words(shape) * (high - low)) >> 32) + low

    def flips(self, shape: tuple[int, ...], share: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Which values are hit (probability `share`), and a fair coin for each."""
        words = self.words(shape)
        return words < int(share * 2**32), (words & 1).bool()

    def poisson(self, values: torch.Tensor, rate: float) -> torch.Tensor:
        """Counts with mean values / 255 x rate for uint8 values (B, ...), as int64."""
        tables = poisson_tables(rate)
        buckets = tables[0].shape[1]
        bits = 32 - (buckets - 1).bit_length()
        thresholds, aliases = (torch.from_numpy(t.astype("int64")).to(values.device).flatten() for t in tables)
        words = self.words(tuple(values.shape[1:]))
        bucket = words >> bits
        index = values.long() * buckets + bucket
        return torch.where((words & (2**bits - 1)) < thresholds[index], bucket, aliases[index])
