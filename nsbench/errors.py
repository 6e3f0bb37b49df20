"""Everything that nsbench raises on purpose. Each message says what was given, what is wrong, what to do.

NsbenchError
├── UsageError              wrong names or options; exit status 2
│   └── UnknownName         an unknown suite, method, model, recipe ...; lists the known ones
├── DataError               data set absent, half copied, wrongly laid out
│   ├── MissingSplit        the source does not have this split; other suites go on
│   └── CorruptImage        one file that cannot be decoded
├── ModelError              checkpoint and architecture do not fit, no patch embedding, NaN logits
├── AttackError             an attack returned images outside its promises
├── TrainingError           a run that diverged
└── ResultError             a result file that cannot be read or written
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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
