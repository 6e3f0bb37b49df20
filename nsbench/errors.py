"""Everything that nsbench raises on purpose. Each message says what was given, what is wrong, what to do.

NsbenchError
├── UsageError              wrong names or options; exit status 2
│   └── UnknownName         an unknown suite, method, model, recipe ...; lists the known ones
├── DataError               data set absent, half copied, wrongly laid out
│   ├── MissingSplit        the source does not have this split; other suites go on
│   │   └── NotPartOfSource it has no meaning for the source's classes: no failure
│   └── CorruptImage        one file that cannot be decoded
├── ModelError              checkpoint and architecture do not fit, no patch embedding, NaN logits
├── AttackError             an attack returned images outside its promises
├── TrainingError           a run that diverged
└── ResultError             a result file that cannot be read or written
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

# What a terminal or an editor would obey instead of showing: control characters, and marks that turn the direction of
# writing; and halves of a character, which no file can hold.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class NsbenchError(Exception):
    """Base of all errors that are shown to people as one line, without a traceback."""


class UsageError(NsbenchError):
    """The command was called wrongly."""


class UnknownName(UsageError):
    """A name that no registry holds."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = get_close_matches(name, known, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        super().__init__(f"unknown {kind} '{name}'.{hint} Known: {', '.join(known) or '(none)'}")


class DataError(NsbenchError):
    """A data set is absent, incomplete or not laid out as expected."""


class MissingSplit(DataError):
    """The source does not hold this split."""


class NotPartOfSource(MissingSplit):
    """The split has no meaning for the classes of this source."""


class CorruptImage(DataError):
    """An image file that cannot be decoded."""


class ModelError(NsbenchError):
    """A model that cannot be built, loaded or trusted."""


class AttackError(NsbenchError):
    """What an attack returned is not what its threat model allows."""


class TrainingError(NsbenchError):
    """Training cannot go on."""


class ResultError(NsbenchError):
    """A result file that cannot be read or written."""


def without_controls(text: str) -> str:
    """A stranger's text as it may be printed or exported: no terminal obeys it. Tabs and ends of lines stay."""
    return _CONTROLS.sub("", text)


def is_line(text: str) -> bool:
    """Whether it can be shown and shared as it is: on one line, with no character that is not seen.

    Such are controls, marks that turn the direction of text, halves of characters and private ones.
    """
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for character in text)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """An exception of the block that nobody expected carries a note of what was being done, such as "fitting ns"."""
    try:
        yield
    except NsbenchError:
        raise
    except Exception as error:
        error.add_note(what)
        raise
