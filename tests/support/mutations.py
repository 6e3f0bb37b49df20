"""What happens to files: bits flip, copies end early, strangers write other things into them. Seeded, so it repeats."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

Draws = np.random.Generator
Mutation = Callable[[bytes, Draws], bytes]
LONGEST = 30  # seconds that one file may take

ODD: tuple[Any, ...] = (  # what stands in a field instead of what belongs there
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**25, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "a"),
    *("\x1b[2J\x07", "../../../etc/passwd", "/", "~nobody/x", "a" * 5000, "\u202e", "𝔸", "1e9", "nan", [], {}, [[]]),
    *([None], {"a": None}, {"": {}}, [1, "a", None], "<script>alert(1)</script>", "C:\\x", "%s%n", "[red]", "$(id)"),
)
TEXTS = (
    *("0", "1", "2", "3", "0.5", "0.01", "true", "0.2,0.9", "rand-m9-n3", "squared_l2"),
    "",
    "nan",
    "inf",
    "-1",
    "1e400",
    "9" * 5000,
    "true",
    "a,b",
    "1,2,3",
    "\x1b[2J",
    "~nobody",
    "[[[",
    "rand-m9-mstd-5",
    "8/0",
)


def flip(content: bytes, draws: Draws) -> bytes:
    """One to eight bits are others."""
    changed = bytearray(content)
    for at in draws.integers(len(content), size=draws.integers(1, 9)):
        changed[at] ^= 1 << int(draws.integers(8))
    return bytes(changed)


def cut(content: bytes, draws: Draws) -> bytes:
    return content[: draws.integers(len(content))]


def behead(content: bytes, draws: Draws) -> bytes:
    return content[draws.integers(1, len(content)) :]


def lengthen(content: bytes, draws: Draws) -> bytes:
    return content + draws.bytes(int(draws.integers(1, 2000)))


def blank(content: bytes, draws: Draws) -> bytes:
    """A block of zeros, as after a power cut."""
    start, size = int(draws.integers(len(content))), int(draws.integers(1, 4096))
    return content[:start] + bytes(min(size, len(content) - start)) + content[start + size :]


def overwrite(content: bytes, draws: Draws) -> bytes:
    """A block of other bytes."""
    start, size = int(draws.integers(len(content))), int(draws.integers(1, 64))
    return content[:start] + draws.bytes(size) + content[start + size :]


def turn(content: bytes, draws: Draws) -> bytes:
    """Two halves the other way round."""
    at = int(draws.integers(len(content)))
    return content[at:] + content[:at]


def replace(content: bytes, draws: Draws) -> bytes:
    """Something else altogether."""
    others = (
        b"",
        b"\0" * 4096,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"null",
        b"PK\x03\x04",
        b"PAR1PAR1",
        b"\x93NUMPY\x01\0",
        b"\xff" * 99,
    )
    return others[int(draws.integers(len(others)))]


BYTES: tuple[Mutation, ...] = (flip, flip, flip, cut, behead, lengthen, blank, overwrite, turn, replace)


def places(record: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value inside a parsed JSON."""
    if at:
        yield at
    if isinstance(record, dict | list):
        for key, value in record.items() if isinstance(record, dict) else enumerate(record):
            yield from places(value, (*at, key))


def odd_field(content: bytes, draws: Draws) -> bytes:
    """Of a JSON: one field holds something else, or is gone."""
    record = json.loads(content)
    everywhere = list(places(record))
    *parents, last = everywhere[int(draws.integers(len(everywhere)))]
    holder = record
    for key in parents:
        holder = holder[key]
    kind = int(draws.integers(len(ODD) + 3))
    if kind == len(ODD):
        del holder[last]
    elif kind == len(ODD) + 1:
        holder[last] = [holder[last]] * 3
    elif kind == len(ODD) + 2:
        return json.dumps(record).replace(json.dumps(holder[last]), "[" * 20_000, 1).encode()
    else:
        holder[last] = ODD[kind]
    return json.dumps(record).encode()


def odd_word(content: bytes, draws: Draws) -> bytes:
    """Of a text such as TOML or a list of labels: one word is another."""
    words = list(re.finditer(rb"[^\s=,]+", content))
    word = words[int(draws.integers(len(words)))]
    others = (
        *(
            b"",
            b"nan",
            b"-1",
            b"1e400",
            b"9" * 5000,
            b"[" * 3000,
            b"{a = 1}",
            b'["a", 1]',
            b"true",
            b"1979-05-27",
            b'"\\u001b[2J"',
        ),
        *(b'"~nobody/x"', b'"../.."', b'"\xff"', b'"/dev/zero"', b"'''", b"\0", b'"**"', b'"*"', b"0x1", b"inf", b'""'),
    )
    return content[: word.start()] + others[int(draws.integers(len(others)))] + content[word.end() :]


class Hang(BaseException):
    """It took longer than LONGEST; no `except Exception` stops it."""


@contextmanager
def in_time() -> Iterator[None]:
    """Raises Hang where the block takes longer than LONGEST."""

    def late(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
