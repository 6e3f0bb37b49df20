"""Which weights a training moves: all, or parts of the network by name; and what the others save."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nsbench.errors import UsageError
from nsbench.models import Model
from nsbench.nullspace.layers import blocks_of


@dataclass(frozen=True)
class Probe:
    """The first part of a training, in which the head alone is trained; whole rounds of it.

    Raises UsageError for a share or a learning rate that cannot be.
    """

    share: float = 0.25  # of the training's steps
    lr: float = 1e-3  # of AdamW in this part, constant

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise UsageError(f"the probe's share is {self.share:g}; it must be at least 0, and below 1 to leave a rest")
        if not (math.isfinite(self.lr) and 0 < self.lr <= 1):
            raise UsageError(f"the probe's learning rate is {self.lr:g}, and must be above 0 and at most 1")

    def head_of(self, model: Model) -> list[nn.Parameter]:
        """What it trains. Raises UsageError for a model without a head of its own."""
        return meant_by(model, "head")

    def of(self, rounds: int) -> float:
        """The share of the steps of so many rounds: whole rounds."""
        return math.ceil(self.share * rounds) / rounds


def train_only(model: Model, words: str) -> None:
    """Give a gradient to the parameters that `words` name, and to no others. Raises as `meant_by`."""
    chosen = meant_by(model, words)
    model.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)


def meant_by(model: Model, words: str) -> list[nn.Parameter]:
    """The parameters that `Recipe.trainable` names.

    "head" is the classifier; "last_2" the last two blocks and all that the network registers behind them; "norm" scale
    and shift of every normalisation; "bias" every bias. "norm+head" is both. Raises UsageError where nothing is meant.
    """
    if words == "all":
        return list(model.parameters())
    found: list[nn.Parameter] = []
    for word in words.split("+"):
        part = _last(model, word) if word.startswith("last_") else _OF[word](model)
        if not part:
            raise UsageError(f"trainable={word}: model '{model.name}' has no such parameters; take all")
        found += part
    return found


def _head(model: Model) -> list[nn.Parameter]:
    classifier = model.vit.get_classifier() if hasattr(model.vit, "get_classifier") else ()
    modules = classifier if isinstance(classifier, tuple) else (classifier,)
    return [parameter for module in modules for parameter in module.parameters()]


def _norms(model: Model) -> list[nn.Parameter]:
    modules = [module for module in model.modules() if "norm" in type(module).__name__.lower()]
    return [parameter for module in modules for parameter in module.parameters(recurse=False)]


def _biases(model: Model) -> list[nn.Parameter]:
    return [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]


def _last(model: Model, word: str) -> list[nn.Parameter]:
    blocks, count = blocks_of(model.vit), int(word.removeprefix("last_"))
    if not blocks:
        raise UsageError(f"trainable={word}: model '{model.name}' has no blocks; take all, head, norm or bias")
    if count > len(blocks):
        raise UsageError(f"trainable={word}: model '{model.name}' has {len(blocks)} blocks")
    first = next(blocks[-count].parameters())
    parameters = list(model.vit.parameters())
    return parameters[next(i for i, parameter in enumerate(parameters) if parameter is first) :]


_OF = {"head": _head, "norm": _norms, "bias": _biases}


def training_mode(model: Model) -> None:
    """As `model.train()`; but a batch norm that is not trained keeps its statistics, and uses them."""
    model.train()
    for module in model.modules():
        own = [parameter for parameter in module.parameters(recurse=False)]
        if isinstance(module, _BatchNorm) and own and not any(parameter.requires_grad for parameter in own):
            module.eval()


@dataclass(frozen=True)
class Work:
    """What a backward pass does, as shares of one through the whole network for all of its weights.

    Measured in elements of weights, of which every one costs a multiplication per token: right for networks whose blocks
    see equally many tokens, and an approximation for those in stages. Weights of one dimension cost nothing.
    """

    activations: float  # how far back it goes: to the first parameter that is trained
    weights: float  # the share that is trained

    @classmethod
    def of(cls, model: Model) -> Work:
        parameters = list(_forwards(model))
        trained = [parameter.requires_grad for parameter in parameters]
        sizes = [parameter.numel() if parameter.ndim > 1 else 0 for parameter in parameters]
        if all(trained) or not sum(sizes):
            return cls(1.0, 1.0)
        first = trained.index(True) if any(trained) else 0  # with none, a gradient is one for the images
        mine = sum(size for size, one in zip(sizes, trained, strict=True) if one)
        return cls(sum(sizes[first:]) / sum(sizes), mine / sum(sizes))


def work_of(model: Model, words: str) -> Work:
    """That of a training of what `words` name; the model stays as it is. Raises as `meant_by`."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        train_only(model, words)
        return Work.of(model)
    finally:
        for parameter, trained in before:
            parameter.requires_grad_(trained)


def _forwards(model: Model) -> Iterator[nn.Parameter]:
    """Parameters in the order in which a forward pass comes by: that of registration, the patch embedding first."""
    if model.patch_embed is not None:
        yield from model.patch_embed.parameters()
    yield from model.vit.parameters()
