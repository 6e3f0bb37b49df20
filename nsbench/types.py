"""The vocabulary of nsbench: small frozen records, shared by every part.

No torch here, and numpy only as a type, so that `nsbench list` and `nsbench --help` start at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

GROUPS = ("clean", "adversarial", "ood")  # the column groups of the paper's table 2


@dataclass(frozen=True)
class ThreatModel:
    """What an attacker may change. `eps` is in [0, 1] pixel units and is shown as k/255."""

    norm: str  # "linf", "l2" or "patch"
    eps: float | None = None  # largest allowed norm of the change of one image; None: unbounded
    patches: int = 0  # norm "patch": how many patches may be replaced

    def __str__(self) -> str:
        if self.norm == "patch":
            return f"{self.patches} patch{'es' if self.patches != 1 else ''}"
        if self.eps is None:
            return f"{self.norm} unbounded"
        return f"linf {self.eps * 255:g}/255" if self.norm == "linf" else f"{self.norm} {self.eps:g}"


@dataclass(frozen=True)
class Condition:
    """One evaluation setting: which images, how they are prepared, and what attacks them."""

    name: str  # unique within its suite, for people: "eps 1/255", "fog/3"
    split: str = "clean"  # a split of the data source: "clean", "a", "c/fog/3", ...
    attack: str | None = None  # name of a registered attack; None: the images as they are
    params: Mapping[str, Any] = field(default_factory=dict)  # the attack's own settings, plain values
    threat: ThreatModel | None = None  # required where there is an attack; may state that of images attacked beforehand
    preprocess: str = "checkpoint"  # "checkpoint": its own resize and crop; "none": images are ready, never resized
    limit: int | None = None  # evaluate a stable, class-stratified subset of this many images


@dataclass(frozen=True)
class Outcomes:
    """What happened to each of n images under one condition: parallel arrays of length n."""

    ids: np.ndarray  # stable image ids, str
    labels: np.ndarray  # int64, class index
    predictions: np.ndarray  # int64, argmax over the split's class subset (all classes where it has none)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    # "predictions_all": argmax over all K classes, where the split has a class subset
    # "predictions_uint8": prediction after rounding the adversarial image to 8 bits
    # "linf", "l2": norms of the adversarial change, [0, 1] pixel units; "steps": iterations used

    @property
    def correct(self) -> np.ndarray:
        return self.predictions == self.labels

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Score:
    """The headline figure of a suite with its 95 % interval."""

    value: float  # percent, as the column shows it
    low: float
    high: float
    n: int  # images behind it
    extra: Mapping[str, float] = field(default_factory=dict)  # figures that stand beside the headline


@dataclass(frozen=True)
class Suite:
    """A named list of conditions and the function that makes one score of their outcomes."""

    name: str
    title: str  # the column head
    group: str  # one of GROUPS
    build: Callable[[], list[Condition]]
    score: Callable[[Mapping[str, Outcomes]], Score]
    citation: str
    summary: str  # the exact protocol in one or two sentences; the column's tooltip
    version: int = 1  # raise it whenever a change of the suite can move a number
    order: int = 100  # position among the columns
    paper: bool = True  # one of the paper's eleven columns, which `--suite all` runs
    unit: str = "%"
    lower_is_better: bool = False

    def conditions(self) -> list[Condition]:
        return self.build()


@dataclass(frozen=True)
class Method:
    """A way to get a model from a checkpoint: `fit(model, train, recipe, ...) -> model`."""

    name: str
    title: str
    fit: Callable[..., Any]
    citation: str
    summary: str
    version: int = 1  # raise it whenever a change of the method can move a weight
    trains: bool = True  # False: the checkpoint is returned as it is, and no training data are needed
    order: int = 100
    parts: tuple[Method, ...] = ()  # of a chain such as madry+ns: each goes on from the model of the one before
