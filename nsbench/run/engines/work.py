"""What travels between the process that plans and writes, and the workers that fit and evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsbench.run.evaluate import Evaluation
    from nsbench.run.kept_fits import FitCard
    from nsbench.run.options import RunOptions

Files = Mapping[str, bytes]  # content by file name


@dataclass(frozen=True)
class Sent:
    """What every worker of a run needs, once: the options, and files that they name and that a worker may lack.

    Data does not travel.
    """

    options: RunOptions
    files: Files  # by their place below a worker's own folder
    included: tuple[str, ...]  # places of files of one's own with suites, methods and attacks
    moved: Mapping[str, str]  # field of the options -> place of the file that it names
    version: str  # of nsbench
    digest: str  # of all of it


@dataclass(frozen=True, slots=True)
class FitWork:
    """The training of a method, or of the last part of a chain."""

    method: str
    seed: int
    compute: float | None  # budget in forward passes; None: the recipe's steps
    key: str  # of the weights
    weights: tuple[str, ...] = ()  # keys of the fits that it starts from, in their order

    def __str__(self) -> str:
        return f"the training of {self.method} (seed {self.seed})"


@dataclass(frozen=True, slots=True)
class PairWork:
    """The evaluation of a method on a suite: on all images, or on one part of each condition's."""

    method: str
    suite: str
    seed: int
    compute: float | None
    identity: str  # of the result
    weights: tuple[str, ...] = ()  # keys of the fits whose weights it needs, in their order
    part: int = 0
    parts: int = 1

    def __str__(self) -> str:
        part = f", part {self.part + 1} of {self.parts}" if self.parts > 1 else ""
        return f"{self.method} x {self.suite} (seed {self.seed}{part})"


Work = FitWork | PairWork


@dataclass(frozen=True)
class Fit:
    """Weights with their card and history, as files."""

    files: Files
    said: tuple[str, ...] = ()  # lines for people


@dataclass(frozen=True)
class Measured:
    """A finished pair: the files of its result, which is not stored yet."""

    record: bytes
    outcomes: bytes
    pictures: bytes
    doubts: tuple[str, ...] = ()  # signs that a figure flatters
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Where:
    """What provenance states of the worker."""

    versions: Mapping[str, str]
    commit: str | None
    device: str
    peak_memory_mib: int | None
    batch_size: int
    seconds: float


@dataclass(frozen=True)
class Part:
    """What became of one part of the images of a pair's conditions."""

    evaluations: Mapping[str, Evaluation]
    card: FitCard
    where: Where
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Why the work cannot be done, here or elsewhere."""

    why: str


@dataclass(frozen=True)
class Trouble:
    """Why this machine can do no work of the run: its disk is full, it lacks the data. Others may do it."""

    why: str
    host: str = ""

    def with_host(self) -> Trouble:
        """With the machine in its words: for where no other machine can do the work."""
        return Trouble(f"{self.why} (on {self.host})", self.host)


Answer = Fit | Measured | Part | Refused | Trouble
Perform = Callable[[Sent, Work, list[Files]], Answer]  # what a worker does, with the fits that the work starts from


@dataclass(frozen=True)
class Reply:
    """An answer, and the machine that gave it, as its engine calls it."""

    node: str
    answer: Answer
