"""Random numbers of one corrupted image: SplitMix64 (Steele, Lea and Flood 2014), counted, not stepped.

Number i of a stream is a hash of (key, i), so NumPy and a GPU (`tensor_draws`) compute the same numbers, all at once
and for many images side by side. NumPy's generators are sequential and cannot be followed on another device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
BLOCK = 2**15  # numbers that are made together
UNIT = 2.0**-24  # uniform numbers have 24 bits, all that float32 can hold in [0, 1)


class Draws:
    """A stream of random numbers for one key. Every call goes on where the last one stopped."""

    def __init__(self, key: int) -> None:
        self.key, self.position = key, 0

    def bits(self, count: int) -> np.ndarray:
        """(2, ceil(count / 2)) uint32: the high and the low halves of the next 64-bit numbers."""
        halves = np.empty((2, (count + 1) // 2), np.uint32)
        for place, numbers in self._hashes(halves.shape[1]):
            halves[1, place] = numbers  # the cast keeps the low half
            halves[0, place] = np.right_shift(numbers, np.uint64(32), out=numbers)
        return halves

    def _hashes(self, count: int) -> Iterator[tuple[slice, np.ndarray]]:
        """The next 64-bit numbers in blocks that stay in a processor's cache: their places, and the block (reused)."""
        block, scratch = np.empty((2, min(count, BLOCK)), np.uint64)
        multiples = _multiples(BLOCK)
        for first in range(0, count, BLOCK):
            length = min(BLOCK, count - first)
            z, shifted = block[:length], scratch[:length]
            start = (self.key + GOLDEN * (self.position + first)) % 2**64
            np.add(multiples[:length], np.uint64(start), out=z)
            for shift, factor in ((30, MIX_1), (27, MIX_2)):
                np.right_shift(z, np.uint64(shift), out=shifted)
                z ^= shifted
                z *= np.uint64(factor)
            np.right_shift(z, np.uint64(31), out=shifted)
            z ^= shifted
            yield slice(first, first + length), z
        self.position += count

    def words(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform 32-bit numbers."""
        count = math.prod(shape)
        return self.bits(count).reshape(-1)[:count].reshape(shape)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Float32 in [0, 1)."""
        numbers = _in_24_bits(self.words(shape))
        numbers *= np.float32(UNIT)
        return numbers

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal float32 (Box and Muller 1958); at most 5.9 from zero."""
        count = math.prod(shape)
        pair = np.empty((2, (count + 1) // 2), np.float32)
        for place, numbers in self._hashes(pair.shape[1]):
            cosine, sine = pair[0, place], pair[1, place]
            angle = _in_24_bits(numbers.astype(np.uint32))
            angle *= np.float32(2 * math.pi * UNIT)
            radius = _in_24_bits(np.right_shift(numbers, np.uint64(32), out=numbers).astype(np.uint32))
            radius += np.float32(0.5)  # never the logarithm of zero
            radius *= np.float32(UNIT)
            np.log(radius, out=radius)
            radius *= np.float32(-2)
            np.sqrt(radius, out=radius)
            np.multiply(np.cos(angle, out=cosine), radius, out=cosine)
            np.multiply(np.sin(angle, out=sine), radius, out=sine)
        return pair.reshape(-1)[:count].reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        """Int64 in [low, high), by multiplication and shift: bias below (high - low) / 2**32."""
        products = self.words(shape).astype(np.uint64)
        products *= np.uint64(high - low)
        products >>= np.uint64(32)
        numbers = products.view(np.int64)
        numbers += low
        return numbers

    def flips(self, shape: tuple[int, ...], share: float) -> tuple[np.ndarray, np.ndarray]:
        """Two boolean arrays: which values are hit (probability `share`), and a fair coin for each."""
        words = self.words(shape)
        return words < np.uint32(share * 2**32), (words & np.uint32(1)).astype(bool)

    def poisson(self, values: np.ndarray, rate: float) -> np.ndarray:
        """Counts with mean values / 255 x rate for uint8 values, as integers, by Walker's alias method (1977)."""
        table, buckets, dtype = _packed_poisson_tables(rate)
        width = (buckets - 1).bit_length()
        bits = 32 - width
        words, flat = self.words((values.size,)), values.reshape(-1)
        counts = np.empty(values.size, dtype)
        for first in range(0, values.size, BLOCK):
            place = slice(first, first + BLOCK)
            bucket = words[place] >> np.uint32(bits)
            index = flat[place].astype(np.uint32)
            index <<= np.uint32(width)
            index |= bucket
            entry = table.take(index.astype(np.intp))
            kept = (words[place] & np.uint32(2**bits - 1)) < (entry >> np.uint32(width))
            alias = entry.astype(dtype) & dtype(buckets - 1)
            counts[place] = alias ^ (alias ^ bucket.astype(dtype)) * kept
        return counts.reshape(values.shape)


def _in_24_bits(words: np.ndarray) -> np.ndarray:
    """Whole float32 numbers below 2**24 from 32-bit numbers, which are overwritten."""
    words >>= np.uint32(8)
    return words.view(np.int32).astype(np.float32)  # processors turn signed integers into floats fastest


@lru_cache(maxsize=1)
def _multiples(count: int) -> np.ndarray:
    """(count,) uint64: 1, 2, ... times GOLDEN, modulo 2**64."""
    return np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)


@lru_cache(maxsize=10)
def poisson_tables(rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Alias tables for the means v / 255 x rate, v = 0 ... 255: thresholds (256, K) uint32, aliases (256, K) integers.

    A bucket k is drawn uniformly, then kept with probability threshold / (2**32 / K), else replaced by its alias.
    What lies beyond K - 1 has a probability below 1e-9 and is given to K - 1.
    """
    from scipy.stats import poisson

    buckets = 2 ** (int(poisson.isf(1e-9, rate)) + 1).bit_length()
    means = np.arange(256)[:, None] / 255 * rate
    mass = poisson.pmf(np.arange(buckets), means)
    mass[:, -1] += poisson.sf(buckets - 1, means[:, 0])
    left = mass / mass.sum(axis=1, keepdims=True) * buckets  # 1 on average
    keep, alias = np.ones_like(left), np.tile(np.arange(buckets), (256, 1))
    open_, rows = np.ones(left.shape, bool), np.arange(256)
    for _ in range(buckets - 1):  # fill the emptiest bucket from the fullest, in all rows at once
        low = np.where(open_, left, np.inf).argmin(axis=1)
        high = np.where(open_, left, -np.inf).argmax(axis=1)
        keep[rows, low], alias[rows, low] = left[rows, low], high
        left[rows, high] -= 1 - left[rows, low]
        open_[rows, low] = False
    scale = 2.0**32 / buckets
    thresholds = np.minimum(np.round(keep * scale), scale).astype(np.uint32)
    return thresholds, alias.astype(np.uint8 if buckets <= 256 else np.uint16)


@lru_cache(maxsize=10)
def _packed_poisson_tables(rate: float) -> tuple[np.ndarray, int, type[np.unsignedinteger[Any]]]:
    """(256 * K,) uint32 threshold * K + alias, so that one look-up finds both; K; the type of the counts.

    A bucket that is always kept, whose threshold would not fit, is its own alias.
    """
    thresholds, aliases = poisson_tables(rate)
    buckets = thresholds.shape[1]
    always = thresholds == 2**32 // buckets
    aliases = np.where(always, np.arange(buckets), aliases).astype(np.uint32)
    packed = (thresholds - always) * np.uint32(buckets) + aliases
    return packed.reshape(-1), buckets, np.uint8 if buckets <= 256 else np.uint16
