"""One stored figure, typed: what was evaluated, what came out, and where it comes from.

These records are what a result file holds (see `store`), what the runner writes and what every reader is handed. They
are plain frozen dataclasses; pydantic checks them when a file is read, so that a wrong type names its field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nsbench.types import Origin, OwnSetting, Score, Setting, ThreatModel

SCHEMA: Literal[4] = 4
STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}  # pydantic's rules for reading
Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(max_length=300)]
Address = Annotated[str, Field(max_length=500, pattern=r"^(https?://[^\s\"'<>`\\]+)?$")]  # it becomes a link


@dataclass(frozen=True, slots=True)
class Convergence:
    """How an attack stood at its last step, over the images that it did not break; an attack of our own tells it."""

    unbroken: Count
    falling: Count  # of these: those whose loss still fell by more than 1 % over the last tenth of the steps
    margin_left: float | None = None  # mean share of the label's margin that was left at the last step
    # of the unbroken: at the pace of the last tenth of the steps they break within as many again; None: not recorded
    within_reach: Count | None = None

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class StillRight:
    """The attacked images that none of an attack's iterates up to this one broke, as the attack saw it."""

    iteration: Count  # 0: what it starts from
    images: Count

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class AttackCard:
    """What an attack did to a condition's images, counted by the harness. Means are over the attacked images."""

    images: Count  # that were attacked: those that were right before
    forwards: Annotated[float, Field(ge=0)]  # passes through the model, mean
    backwards: Annotated[float, Field(ge=0)]  # gradients that came back to the input, mean
    seconds: Seconds  # mean
    zero_gradients: Count = 0  # of the images looked at: those whose first gradient was zero in every pixel
    looked_at: Count = 0
    library: str = ""  # name and version of what did the work
    steps: float | None = None  # None: not known
    restarts: float | None = None
    loss: str | None = None
    start: str | None = None
    convergence: Convergence | None = None  # None: the attack does not tell it
    still_right: tuple[StillRight, ...] = ()  # after 0, 1, 2, 5, 10 ... iterations; (): the attack does not tell it

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """What the first logits of a model looked like."""

    images: Count
    probabilities: bool  # every row lies in [0, 1] and sums to 1
    repeat_change: float  # largest difference between two passes, as a share of the logits' standard deviation

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """One condition as it was evaluated."""

    name: str
    split: str
    attack: str | None
    params: Mapping[str, Setting]
    threat: ThreatModel | None
    preprocess: str
    n: Annotated[int, Field(ge=1)]  # images
    origin: str  # of the images: "official", "embedded", "generated-memory", ...
    data_digest: str
    accuracy: Percent  # top-1
    content_digest: str | None = None  # over the files' bytes, where they were read
    beforehand: ThreatModel | None = None  # the budget that the images were attacked in before; None: they were not
    surrogate_digest: str | None = None  # of the weights that they were attacked on, where that is known
    unreadable: Mapping[str, str] = field(default_factory=dict)  # id -> why: images that were left out
    unread: Count = 0  # pictures that lie inside the set and were not read, accepted by --allow-missing
    attack_card: AttackCard | None = None
    available: Annotated[int, Field(ge=1)] | None = None  # images without --limit; None: not recorded (before schema 3)
    resized_from: Annotated[int, Field(ge=1)] | None = None  # side of ready images that were resized for the model
    made_at: Annotated[int, Field(ge=1)] | None = None  # side at which corruptions were made; None: the official 224

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @property
    def size_apart(self) -> str:
        """In what the size of its ready images differs from the benchmark's; "" where it does not."""
        if self.resized_from is not None:
            return f"resized from {self.resized_from} px"
        return f"made at {self.made_at} px" if self.made_at is not None else ""

    @property
    def attacked(self) -> bool:
        """Here, or beforehand."""
        return self.attack is not None or self.beforehand is not None


@dataclass(frozen=True, slots=True)
class NoiseOfRound:
    """The noise that a round trained with."""

    norm: float  # l2
    mse_probability_held_out: float  # on images that it was not learnt on
    mse_probability: float | None = None  # on the batch that ended the learning; None: it was not learnt
    steps: int | None = None  # of the learning
    converged: bool | None = None  # inside epsilon before the steps ran out

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a training."""

    round: Count  # from 1
    step: Count  # steps finished after it
    lr: float  # of its last step
    losses: Mapping[str, float]  # by term: mean over the round's steps
    noise: NoiseOfRound | None = None
    accuracies: Mapping[str, float] = field(default_factory=dict)  # by watched suite, percent, where it was watched
    forward_equivalents: Count = 0  # forward passes of one image that the round cost
    noise_seconds: Seconds = 0.0
    seconds: Seconds = 0.0
    micro_batch: int | None = None  # images a pass, where memory was short
    stage: str = ""  # the method, in a chain of several
    facts: Mapping[str, int | float | str] = field(
        default_factory=dict
    )  # what the method tells of it beside the losses

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class Stage:
    """One method of a chain and the weights that it gave."""

    method: str
    weights_digest: str

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class RecipeUsed:
    """The recipe that a model was trained by: every field with its value."""

    name: str
    seed: int
    settings: Mapping[str, Setting]  # all fields but name and seed

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class About:
    """Whose a row is and where more is said, as its author states it."""

    title: Text = ""  # of the paper or project
    authors: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    paper: Address = ""
    code: Address = ""
    weights: Address = ""
    licence: Text = ""
    date: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a figure comes from."""

    nsbench: str
    versions: Mapping[str, str]  # of Python and of every library that can move a number
    commit: str | None
    device: str
    date: str  # UTC
    command: str
    weights_digest: str  # of the evaluated model
    parent_digest: str  # of the checkpoint that it was finetuned from
    fit_key: str  # digest of everything that decides the weights
    data_digest: str
    limit: Annotated[int, Field(ge=1)] | None  # --limit; None: there was none
    preprocessing: str  # in words
    normalisation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int
    method_version: int
    recipe: RecipeUsed | None  # None: nothing was trained
    history: tuple[Round, ...] = ()
    lineage: tuple[Stage, ...] = ()
    fit_seconds: Seconds | None = None  # None here and below: not recorded
    seconds: Seconds | None = None  # of the evaluation
    forward_equivalents: Count | None = None  # forward passes of one image that the training cost
    peak_memory_mib: Count | None = None
    outputs: OutputCheck | None = None
    prepared: tuple[str, ...] = ()  # what the checkpoint declares or the caller asked for, and where it stood
    checkpoint: str = ""  # name of the file
    name: str = ""  # that the caller gave it
    about: About | None = None
    own_settings: Mapping[str, OwnSetting] = field(default_factory=dict)  # of the method: "sam.rho"
    origin: Origin | None = None  # of the weights that it was finetuned from; None: not recorded

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, slots=True)
class Result:
    """One figure of the leaderboard with all that is needed to show, compare and trust it."""

    source: str
    model: str
    method: str
    suite: str
    seed: Count
    score: Score
    unit: str
    lower_is_better: bool
    title: str  # of the suite: the column head
    group: str
    order: int
    paper: bool  # one of the paper's eleven columns
    suite_version: int
    summary: str  # the suite's protocol
    citation: str
    method_title: str
    method_summary: str
    method_order: int
    method_role: str  # one of types.ROLES
    conditions: Annotated[tuple[ConditionResult, ...], Field(min_length=1)]
    provenance: Provenance
    identity: str  # digest of everything that was evaluated; equal identities are the same measurement
    schema: Literal[4] = SCHEMA
    outcomes_format: Literal["parquet", "npz"] = "parquet"
    outcomes_sha256: str = ""
    paper_suites: tuple[str, ...] = ()  # the paper's columns that mean something for the source; (): all eleven
    image_ids: Literal["canonical", "names"] = "canonical"  # of the outcomes; names of files before schema 4
    path: Path | None = field(default=None, compare=False)  # of the file that it was read from or written to
    file_sha256: str = field(
        default="", init=False, compare=False, repr=False
    )  # of the file that it was read from; "":
    # it was not read, or was changed since: `replace` does not copy what is no argument

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    def condition(self, name: str) -> ConditionResult:
        """The condition of this name. Raises KeyError."""
        return {one.name: one for one in self.conditions}[name]

    @property
    def unreadable(self) -> bool:
        """Images could not be read and were left out."""
        return any(one.unreadable for one in self.conditions)
