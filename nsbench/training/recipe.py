"""Recipes: everything that decides a finetuning run besides the method, as small TOML files beside this one.

Every method of a comparison runs under one and the same recipe. Fields of the noise are read by methods that use one.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nsbench.errors import UnknownName, UsageError
from nsbench.progress import SILENT, Progress

# timm's rand_augment_transform: magnitude, layers, probability, its deviation and bound, increasing, set of transforms
_NUMBER = r"\d+(\.\d+)?"
RANDAUGMENT = re.compile(rf"rand(-(m\d{{1,3}}|n\d{{1,3}}|p{_NUMBER}|mstd{_NUMBER}|mmax\d{{1,3}}|inc[01]|t\w+))+")
TRAINABLE = re.compile(r"all|(head|norm|bias|last_[1-9]\d{0,3})(\+(head|norm|bias|last_[1-9]\d{0,3}))*")
FOLDER = Path(__file__).parent / "recipes"
# fields that are younger than kept results: where they hold this, nothing states them
LATER = {"trainable": "all", "noise_start": "uniform"}


def _ratio(value: Any) -> Any:
    """A number, or a share of 255 as the field writes it: "8/255"."""
    return float(value.removesuffix("/255")) / 255 if isinstance(value, str) and value.endswith("/255") else value


def _numbers(value: Any) -> Any:
    """A range given on the command line: "0.6,1.0"."""
    return tuple(value.split(",")) if isinstance(value, str) else value


Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Budget = Annotated[float, Field(ge=0, le=1), BeforeValidator(_ratio)]  # of a pixel, which is in [0, 1]
Range = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], BeforeValidator(_numbers)]


class Recipe(BaseModel):
    """One training set-up. Defaults are the paper's (arXiv 2403.10476, appendix B) without augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    seed: int = 0
    # Optimisation: AdamW, betas 0.9 and 0.999
    rounds: Positive = 20  # a method that uses noise draws it once a round
    steps_per_round: Positive = 40
    batch_size: Positive = 128
    lr: Annotated[float, Field(gt=0, le=1)] = 1e-5
    min_lr: Annotated[float, Field(ge=0, le=1)] = 1e-6  # where the cosine ends
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0  # linear from min_lr
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # none on biases and other 1-d parameters
    trainable: str = "all"  # or "head", "last_2" (blocks and what is behind them), "norm", "bias", or sums: "norm+head"
    # Augmentation, through timm; 0 or "" switches a part off
    crop_scale: Range = (0.08, 1.0)  # RandomResizedCrop: share of the area
    crop_ratio: Range = (0.75, 1.3333)  # and aspect ratio
    interpolation: Literal["checkpoint", "random"] = "checkpoint"  # of the crop: the checkpoint's, or one of timm's two
    flip: Fraction = 0.5  # probability of a horizontal flip
    color_jitter: Annotated[float, Field(ge=0)] = 0.0  # brightness, contrast and saturation; not with randaugment
    randaugment: str = ""  # timm's notation, such as "rand-m9-mstd0.5-inc1"
    random_erasing: Fraction = 0.0  # probability; erased pixels become noise of the checkpoint's mean and std
    mixup: Annotated[float, Field(ge=0)] = 0.0  # alpha
    cutmix: Annotated[float, Field(ge=0)] = 0.0  # alpha; with both, each batch draws one of the two
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the last block; rises linearly from 0 at the first
    # Arithmetic
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of averaged weights, which are given back; 0: the last ones
    precision: Literal["float32", "bfloat16"] = "float32"  # of training steps (autocast); noise is learnt in float32
    micro_batch: Annotated[int, Field(ge=0)] = 0  # images per forward pass, gradients accumulated; 0: the whole batch
    compile: bool = False  # torch.compile for the training steps
    compute: Annotated[float, Field(ge=0)] = 0.0  # train until it has cost so many forward passes; 0: rounds x steps
    # Noise of the epsilon-approximate nullspace (equations 7 and 8): ns and random_noise
    epsilon: Annotated[float, Field(gt=0)] = 0.03  # MSE probability at which learning stops
    noise_lr: Annotated[float, Field(gt=0)] = 0.1
    noise_limit: Annotated[float, Field(gt=0)] = 3.0  # starts uniform in (-limit, limit)
    noise_start: Literal["uniform", "last"] = "uniform"  # the paper's; "last": of later rounds, the last round's noise
    noise_max_steps: Annotated[int, Field(ge=0)] = 3000
    noise_loss: Literal["l2", "squared_l2"] = "l2"
    noise_weight_decay: Annotated[float, Field(ge=0)] = 0.01  # of AdamW on the noise: PyTorch's default
    noise_batch: Positive = 128  # images of one inner step
    noise_batches: Annotated[int, Field(ge=0)] = 0  # of a round, taken in turn; 0: a new one at every inner step
    noise_stop: Literal["batch", "held-out"] = "batch"  # inside on its batch, or on held-out images too
    noise_held_out: Positive = 128  # images that a round's noise is not learnt on, to measure how universal it is
    noise_shrink: Annotated[float, Field(gt=0, lt=1)] = 0.8  # random_noise: its factor per batch
    outer: Literal["clean+noisy", "noisy"] = "clean+noisy"  # loss of a step with noise (algorithm 1, line 19)
    # Adversarial training: madry and trades
    attack_eps: Budget = 8 / 255  # l-infinity
    attack_step_size: Budget = 2 / 255
    attack_steps: Positive = 10
    madry_loss: Literal["adversarial", "clean+adversarial"] = "adversarial"  # the paper's; the authors' code has both
    trades_beta: Annotated[float, Field(ge=0)] = 6.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} is above lr {self.lr:g}")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(f"mixup and cutmix pair images, so batch_size {self.batch_size} must be even")
        if self.attack_step_size > self.attack_eps:
            raise ValueError(f"attack_step_size {self.attack_step_size:.4g} is above attack_eps {self.attack_eps:.4g}")
        if self.crop_scale[0] > self.crop_scale[1] or self.crop_scale[1] > 1 or self.crop_ratio[0] > self.crop_ratio[1]:
            raise ValueError("crop_scale and crop_ratio are 'low,high', and a crop is at most the whole image (1.0)")
        if self.randaugment and not RANDAUGMENT.fullmatch(self.randaugment):
            raise ValueError(f"randaugment '{self.randaugment}' must be in timm's notation, such as 'rand-m9-mstd0.5'")
        if not TRAINABLE.fullmatch(self.trainable):
            raise ValueError(
                f"trainable '{self.trainable}' is none of all, head, last_K, norm, bias, or sums: norm+head"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leaves none of the {self.steps} steps")
        return self

    @property
    def steps(self) -> int:
        """Training steps in all."""
        return self.rounds * self.steps_per_round

    @property
    def unsaid(self) -> set[str]:
        """Fields that neither the digest nor a result states: later ones that change nothing."""
        return {field for field, value in LATER.items() if getattr(self, field) == value}

    def digest(self) -> str:
        """16 hex digits over every field."""
        fields = self.model_dump(mode="json", exclude=self.unsaid)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def known_recipes() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str, overrides: Mapping[str, str] | None = None) -> Recipe:
    """The recipe file `name` with some fields replaced, given as text: {"rounds": "5"}.

    Raises UnknownName for a recipe that is not there and UsageError for a field or value that cannot be.
    """
    if name not in known_recipes():
        raise UnknownName("recipe", name, known_recipes())
    fields = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    for field in overrides or {}:
        if field not in Recipe.model_fields or field == "name":
            raise UnknownName("recipe field", field, [known for known in Recipe.model_fields if known != "name"])
    try:
        return Recipe(**(fields | dict(overrides or {}) | {"name": name}))
    except ValidationError as error:
        raise UsageError(f"recipe '{name}': {_refused(error, overrides or {})}") from error


def adapted(
    recipe: Recipe, changes: Mapping[str, object], progress: Progress = SILENT, *, nothing_else: bool = False
) -> Recipe:
    """The recipe with the augmentation that a method brings; a line says what it does to the recipe's own.

    `nothing_else`: the method brings nothing beside it, so that an unchanged recipe makes it its own control.
    Raises UsageError for a field or value that cannot be.
    """
    try:
        found = Recipe(**(recipe.model_dump() | dict(changes)))
    except ValidationError as error:
        raise UsageError(f"recipe '{recipe.name}' with what this method changes: {_refused(error, changes)}") from error
    own = [field for field in changes if getattr(recipe, field)]  # 0 and "" are off
    kept = [field for field in own if getattr(found, field) == getattr(recipe, field)]
    off = [field for field in own if not getattr(found, field)]
    words = [f"has {_listed(recipe, kept)} already"] if kept else []
    words += [f"has {_listed(recipe, off)}, which this method leaves out"] if off else []
    words += [
        f"has {_listed(recipe, [field])}, and this method {_listed(found, [field])} in its place"
        for field in own
        if field not in kept + off
    ]
    if nothing_else and found == recipe:
        words.append("stays as it is, and this method adds nothing else: its weights are those of the control")
    elif words and found == recipe:
        words.append("stays as it is, and this method adds its loss alone")
    if words:
        progress.line(f"recipe '{recipe.name}' " + "; it ".join(words), style="yellow")
    return found


def _listed(recipe: Recipe, fields: Sequence[str]) -> str:
    """ "mixup 0.8, cutmix 1"."""
    values = [(field, getattr(recipe, field)) for field in fields]
    return ", ".join(
        f"{field} {value:g}" if isinstance(value, float) else f"{field} {value}" for field, value in values
    )


def _refused(error: ValidationError, given: Mapping[str, object]) -> str:
    """The first thing that is wrong, with the value as it was given."""
    first = error.errors()[0]
    where = str(first["loc"][0]) if first["loc"] else ""
    value = f"{where}={given.get(where, first['input'])}: " if where else ""
    return value + str(first["msg"]).removeprefix("Value error, ")
