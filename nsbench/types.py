"""The vocabulary of nsbench: small frozen records, shared by every part.

No torch and no numpy here but as types, so that `nsbench list` and `nsbench --help` start at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

GROUPS = ("clean", "adversarial", "ood")  # the column groups of the paper's table 2
ROLES = (  # what a method is in a comparison
    "",  # one of those that are compared
    "subject",  # the one that the benchmark asks about; equal compute is measured by it
    "control",  # the same recipe, steps and data as all others, and nothing of a method's own
    "untouched",  # the checkpoint as it is
)
LARGEST_COUNT = 2**63 - 1  # what every reader of a result can hold
Scalar = bool | int | float | str | None
Setting = Scalar | tuple[Scalar, ...]  # a value of an attack's settings or of a recipe's fields
PROBABILITY_STEP = 2.0**-16  # probabilities are kept to this: it makes files small and hides no difference that counts


@dataclass(frozen=True, slots=True)
class ThreatModel:
    """What an attacker may change. `eps` is in [0, 1] pixel units and is shown as k/255."""

    norm: str  # "linf", "l2", "l1", "patch", "square" or "flow"
    eps: float | None = None  # largest allowed norm of the change of one image; None: unbounded
    patches: int = 0  # norm "patch": how many patches of the model's grid may be replaced
    share: float = 0.0  # of the image's side: how long the side of a "square" is, how far a "flow" moves a pixel

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    def __str__(self) -> str:
        if self.norm == "patch":
            return f"{self.patches} patch{'es' if self.patches != 1 else ''}"
        if self.norm == "square":
            return f"a square of {100 * self.share:g} % of the side"
        if self.norm == "flow":
            return f"flow of {100 * self.share:g} % of the side"
        if self.eps is None:
            return f"{self.norm} unbounded"
        return f"linf {self.eps * 255:g}/255" if self.norm == "linf" else f"{self.norm} {self.eps:g}"

    def pixels(self, sides: Sequence[int]) -> int:
        """The share of an image's shorter side, in whole pixels, 1 at least."""
        return max(1, round(self.share * min(sides)))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model's weights come from."""

    place: str  # "embedded", "file", "hf-hub", "local-dir", "torchvision", "transformers", "robustbench" or "code"
    name: str = ""  # what that place calls them: "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    revision: str = ""  # commit, where the place has them
    file: str = ""  # its name
    sha256: str = ""  # of its bytes

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


class AttackFunction(Protocol):
    """What `@attack` takes. Settings of its own are further keywords with defaults, which a condition may set."""

    __name__: str

    def __call__(
        self,
        model: nn.Module,
        images_BCHW: Tensor,
        labels_B: Tensor,
        /,
        *,
        ids: Sequence[str],
        seed: int,
        threat: ThreatModel,
    ) -> Tensor: ...


@dataclass(frozen=True)
class AttackFacts:
    """For the attack card: what stands neither in the signature nor in a condition's params. None: not stated."""

    steps: int | None = None
    restarts: int | None = None
    loss: str | None = None
    start: str | None = None
    library: str | None = None  # the distribution that does the work; None: nsbench


@dataclass(frozen=True)
class Passes:
    """Passes of images through a model: forward, and back to the input, each of one image."""

    forwards: float = 0
    backwards: float = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)

    def __mul__(self, times: float) -> Passes:
        return Passes(times * self.forwards, times * self.backwards)


@dataclass(frozen=True)
class FitPasses:
    """What a training does. Of a step for each image of its batch; of a round in all, where it learns a noise."""

    forwards: float = 1
    backwards: float = 0  # to activations or images alone
    trained: float = 1  # back to the weights: as far as the recipe trains them
    head_alone: float = 0  # share of the steps, in whole rounds, in which the head alone is trained
    round_least: Passes = Passes()
    round_most: Passes = Passes()  # more than the least where it is not known beforehand when a round's noise is learnt


@dataclass(frozen=True)
class Attack:
    """A registered attack. Calling it calls its function."""

    name: str
    function: Callable[..., Tensor]  # an AttackFunction and its settings
    facts: AttackFacts = AttackFacts()
    # passes(model, **settings), with a parameter `threat` that too: of one image at most; None: not known
    passes: Callable[..., Passes] | None = None
    code: str = ""  # digest of one's own code that registers it; "": it is installed and has a version

    def __call__(
        self,
        model: nn.Module,
        images_BCHW: Tensor,
        labels_B: Tensor,
        *,
        ids: Sequence[str],
        seed: int,
        threat: ThreatModel,
        **params: object,
    ) -> Tensor:
        return self.function(model, images_BCHW, labels_B, ids=ids, seed=seed, threat=threat, **params)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Of the function, its own settings among them."""
        return inspect.signature(self.function).parameters

    @property
    def takes_batch_size(self) -> bool:
        """It may be given more images than fit into memory, and sends at most `batch_size` through the model."""
        return "batch_size" in self.parameters

    def most_passes(self, model: object, params: Mapping[str, object], threat: ThreatModel | None) -> Passes | None:
        """Of one image, with these settings and else the defaults; None: the attack does not declare them."""
        if self.passes is None:
            return None
        given = {one.name: one.default for one in self.parameters.values() if one.default is not one.empty}
        asked = {"threat": threat} if "threat" in inspect.signature(self.passes).parameters else {}
        return self.passes(model, **{**given, **params, **asked})


@dataclass(frozen=True)
class Condition:
    """One evaluation setting: which images, how they are prepared, and what attacks them."""

    name: str  # unique within its suite, for people: "eps 1/255", "fog/3"
    split: str = "clean"  # a split of the data source: "clean", "a", "c/fog/3", ...
    attack: str | None = None  # name of a registered attack; None: the images as they are
    params: Mapping[str, Setting] = field(default_factory=dict)  # the attack's own settings
    threat: ThreatModel | None = None  # required where there is an attack; may state that of images attacked beforehand
    beforehand: ThreatModel | None = None  # the split's images were attacked before, within this budget
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
    # Of the softmax over the same classes, in steps of PROBABILITY_STEP; None in results of old versions.
    label_probability: np.ndarray | None = None  # float32, of the label
    confidence: np.ndarray | None = None  # float32, the largest
    top5: np.ndarray | None = None  # (n, 5 or K) int64, the most probable classes, best first

    @property
    def correct(self) -> np.ndarray:
        correct: np.ndarray = self.predictions == self.labels
        return correct

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Composition:
    """What a score is the mean of over images: for each condition, its weight where the image's outcome counts.

    The score is the sum over conditions of weight x share of the outcomes that count. A score that is no such sum has
    no composition, and then no test on the same images.
    """

    weights: Mapping[str, float]  # by condition, in the score's unit; conditions that are not named do not count
    counts: Literal["right", "wrong"] = "right"  # which outcomes count

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    @property
    def is_accuracy(self) -> bool:
        """The share of right outcomes of one condition."""
        return self.counts == "right" and sum(weight != 0 for weight in self.weights.values()) == 1

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most that an image can add, and so the score be."""
        weights = self.weights.values()
        return sum(min(weight, 0.0) for weight in weights), sum(max(weight, 0.0) for weight in weights)


@dataclass(frozen=True, slots=True)
class Score:
    """The headline figure of a suite with its 95 % interval."""

    value: float  # percent, as the column shows it
    low: float
    high: float
    n: int  # images behind it
    extra: Mapping[str, float] = field(default_factory=dict)  # figures that stand beside the headline
    made_of: Composition | None = None

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


ScoreFunction = Callable[[Mapping[str, Outcomes]], Score]  # outcomes by condition


@dataclass(frozen=True)
class Suite:
    """A named list of conditions and the function that makes one score of their outcomes."""

    name: str
    title: str  # the column head
    group: str  # one of GROUPS
    build: Callable[[], list[Condition]]
    score: ScoreFunction
    citation: str
    summary: str  # the exact protocol in one or two sentences; the column's tooltip
    version: int = 1  # raise it whenever a change of the suite can move a number
    order: int = 100  # position among the columns
    paper: bool = True  # one of the paper's eleven columns, which `--suite all` runs
    unit: str = "%"
    lower_is_better: bool = False
    watched: bool = False  # --watch evaluates it during a training
    code: str = ""  # digest of one's own code that registers it; "": it is installed, and `version` says what changed

    def conditions(self) -> list[Condition]:
        return self.build()


@dataclass(frozen=True, slots=True)
class OwnSetting:
    """A setting of a method's own, beside the recipe that all methods share."""

    value: Setting
    default: Setting

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @property
    def changed(self) -> bool:
        return self.value != self.default


class FitFunction(Protocol):
    """What `@method` takes: `fit(model, train, recipe, ...)` gives a model, or the model with its training history.

    The runner also hands over the keywords RUN_KEYWORDS: `start`, the model that a chain started from, which is `model`
    itself where nothing came before, to a function that asks for it. Further keywords with defaults are settings of the
    method's own, which `--set METHOD.NAME=VALUE` changes. Model, split and recipe are defined in rooms that import this
    one, so their types are not named here.
    """

    __name__: str

    def __call__(self, model: Any, train: Any, recipe: Any, /, *args: Any, **run: Any) -> Any: ...


RUN_KEYWORDS = ("progress", "workers", "checkpoint", "on_round", "start")  # of a fit function, given by the runner


@dataclass(frozen=True)
class Method:
    """A way to get a model from a checkpoint: `fit(model, train, recipe, ...) -> model`."""

    name: str
    title: str
    fit: FitFunction
    citation: str
    summary: str
    version: int = 1  # raise it whenever a change of the method can move a weight
    trains: bool = True  # False: the checkpoint is returned as it is, and no training data are needed
    role: str = ""  # one of ROLES
    order: int = 100
    parts: tuple[Method, ...] = ()  # of a chain such as madry+ns: each goes on from the model of the one before
    code: str = ""  # digest of one's own code that registers it; "": it is installed, and `version` says what changed
    given: Mapping[str, Setting] = field(default_factory=dict)  # settings of its own that are not the defaults
    # needs(train, **given): a digest of what decides the weights beside images and recipe; raises where it is not there
    needs: Callable[..., str] | None = None
    # requires(model, recipe, **settings): raises where the method cannot train this model
    requires: Callable[..., object] | None = None
    # what a training does, or passes(model, train, recipe, chained=..., **settings) that says it; None: not known
    passes: FitPasses | Callable[..., FitPasses] | None = None

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The settings of its own: keywords with a default; () of a chain, whose parts have theirs."""
        signature = {} if self.parts else inspect.signature(self.fit).parameters
        return {
            name: parameter
            for name, parameter in signature.items()
            if parameter.kind is parameter.KEYWORD_ONLY
            and parameter.default is not parameter.empty
            and name not in RUN_KEYWORDS
        }

    @property
    def own(self) -> Mapping[str, OwnSetting]:
        """Every setting of its own and of its parts, as `--set` names them: "sam.rho"."""
        found = {
            f"{self.name}.{name}": OwnSetting(self.given.get(name, parameter.default), parameter.default)
            for name, parameter in self.parameters.items()
        }
        for part in self.parts:
            found |= part.own
        return found

    def passes_of(self, model: object, train: object, recipe: object, chained: bool = False) -> FitPasses | None:
        """What a training of it does, `chained` behind another one; None: it does not declare it. Raises as `needs`."""
        if not callable(self.passes):
            return self.passes
        return self.passes(model, train, recipe, chained=chained, **self._settings)

    def require(self, model: object, recipe: object) -> None:
        """Raises what `requires` raises where the method cannot train this model."""
        if self.requires:
            self.requires(model, recipe, **self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        return {name: parameter.default for name, parameter in self.parameters.items()} | dict(self.given)

    @property
    def takes_start(self) -> bool:
        """It asks for the model that its chain started from."""
        return "start" in inspect.signature(self.fit).parameters
