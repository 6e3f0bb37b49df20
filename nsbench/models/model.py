"""A timm vision transformer cut at the patch embedding: logits = head(encode(embed(images))).

Shapes: B images, C = 3 channels, H x W pixels, N patches, D embedding width, K classes. The cut is where the paper
(arXiv 2403.10476, section 3) adds its noise: right after the patch embedding, before the class token and the
position embedding. timm's own `forward_features` does the rest, so every variant (distillation and register tokens,
pooled heads, pre-norm) runs timm's own arithmetic and the logits are timm's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from nsbench.errors import ModelError
from nsbench.models.architecture import Architecture
from nsbench.models.class_map import ClassMap
from nsbench.models.last_block import can_be_shortened, shortened
from nsbench.models.preprocessing import Preprocessing
from nsbench.types import Origin

TRANSFORMER = ("forward_features", "forward_head", "get_classifier")  # what the cut needs of a network
Triple = tuple[float, float, float]


class Seam(nn.Module):
    """Takes the place of the patch embedding in timm's model, and returns tokens as they are.

    Other attributes (grid size, patch size ...) are the patch embedding's: timm's position embedding reads them.
    """

    def __init__(self, patch_embed: nn.Module) -> None:
        super().__init__()
        self.original = (patch_embed,)  # in a tuple, so that its parameters are not registered a second time

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "original" not in self.__dict__:  # while being unpickled
                raise
            return getattr(self.__dict__["original"][0], name)

    def forward(self, tokens_BND: torch.Tensor) -> torch.Tensor:
        return tokens_BND


class Model(nn.Module):
    """Maps images (B, 3, H, W) in [0, 1] to logits (B, K). Takes over `vit`, a timm model.

    `vit` is timm's model without its patch embedding, which is `patch_embed`; `timm_state_dict` has timm's names.
    A model without a patch embedding (a CNN) gives logits, and raises ModelError where tokens are asked for.
    """

    vit: Any  # a timm model: nn.Module with forward_features, forward_head and get_classifier
    mean_3HW: torch.Tensor
    std_3HW: torch.Tensor
    patch_embed: nn.Module | None
    cast_from = ""  # types of the checkpoint's floats that are not the model's, such as "float16"
    said: tuple[str, ...] = ()  # where preparation and weights come from, if not from timm's configuration of the name
    class_token_only = False  # see the function of this name
    origin: Origin | None = None  # where the weights come from
    architecture: Architecture | None = None  # what timm builds `vit` from; None: not timm's, or not known
    own_preparation = True  # images are prepared as the weights declare it; False: as a caller or one's own code says
    code_digest = ""  # of the user's own code that computes the logits
    config_digest = ""  # of what a config.json decides of the network beside its weights' shapes: heads, activation ...
    classes: tuple[int, ...] | None = None  # the logits are those of these classes alone; None: of all (see subset.py)

    def __init__(
        self,
        vit: nn.Module,
        *,
        name: str,
        preprocessing: Preprocessing,
        mean: Triple,
        std: Triple,
        normalisation: str = "own",
    ) -> None:
        super().__init__()
        self.name, self.preprocessing, self.normalisation = name, preprocessing, normalisation
        self.mean, self.std = mean, std
        self.register_buffer("mean_3HW", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std_3HW", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.vit = vit
        self.class_map: ClassMap | None = None  # from the outputs of `vit` to the classes of a data source
        self.eval()
        self.patch_embed = self._cut()

    @property
    def num_classes(self) -> int:
        if self.classes is not None:
            return len(self.classes)
        return self.class_map.classes if self.class_map else int(self.vit.num_classes)

    @property
    def marks(self) -> tuple[str, ...]:
        """What decides the logits beside weights and a name: own code, a config.json, a class map."""
        mapped = (self.class_map.digest,) if self.class_map else ()
        return (*filter(None, [self.code_digest, self.config_digest]), *mapped)

    @property
    def input_size(self) -> int:
        """Side of the input in pixels."""
        return self.preprocessing.size

    @property
    def device(self) -> torch.device:
        return self.mean_3HW.device

    def normalise(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return (images_BCHW - self.mean_3HW) / self.std_3HW

    def embed(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Patch tokens (B, N, D) of images in [0, 1]: before class token and position embedding."""
        if self.patch_embed is None:
            raise ModelError(
                f"model '{self.name}' has no patch embedding that gives tokens (B, N, D); "
                "noise and patches need a vision transformer such as vit_tiny_patch16_224"
            )
        tokens_BND: torch.Tensor = self.patch_embed(self.normalise(images_BCHW))
        return tokens_BND

    def encode(self, tokens_BND: torch.Tensor) -> torch.Tensor:
        """Features (B, D): class token, position embedding, blocks, final norm, pooling.

        A distilled model has two classifiers, and gives the features of both: (B, 2, D).
        """
        with shortened(self.vit) if self.class_token_only else nullcontext():
            features: torch.Tensor = self.vit.forward_features(tokens_BND)  # (B, T, D)
        features = features[:, :2] if self._distilled else self.vit.forward_head(features, pre_logits=True)
        return features

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of what `encode` gave; a distilled model averages its two classifiers."""
        classifier = self.vit.get_classifier()
        logits_BK: torch.Tensor
        if self._distilled:
            logits_BK = (classifier[0](features[:, 0]) + classifier[1](features[:, 1])) / 2
        else:
            logits_BK = classifier(features)
        return self.of_its_classes(logits_BK)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        if self.patch_embed is not None:
            return self.head(self.encode(self.embed(images_BCHW)))
        return self.of_its_classes(self.vit(self.normalise(images_BCHW)))

    def of_its_classes(self, logits_BO: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of the network's outputs (B, O)."""
        logits_BK: torch.Tensor = self.class_map(logits_BO) if self.class_map else logits_BO
        return logits_BK if self.classes is None else logits_BK[:, list(self.classes)]

    def _cut(self) -> nn.Module | None:
        """Take the patch embedding out of `vit`; None, and `vit` as it was, where that would change the logits."""
        patch_embed = getattr(self.vit, "patch_embed", None)
        if not isinstance(patch_embed, nn.Module) or not all(hasattr(self.vit, name) for name in TRANSFORMER):
            return None
        size = self.input_size
        probe_1CHW = torch.linspace(-1, 1, 3 * size * size, device=self.device).view(1, 3, size, size)
        with torch.no_grad():
            expected = self.vit(probe_1CHW)
            try:
                tokens = patch_embed(probe_1CHW)
                self.vit.patch_embed = Seam(patch_embed)
                equal = tokens.ndim == 3 and torch.equal(self.head(self.encode(tokens)), expected)
            except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
                equal = False  # this family's forward pass needs more than tokens (B, N, D)
        if equal:
            return patch_embed
        self.vit.patch_embed = patch_embed
        return None

    @property
    def _distilled(self) -> bool:
        return isinstance(self.vit.get_classifier(), tuple)

    def timm_state_dict(self) -> dict[str, torch.Tensor]:
        """All weights under the names that timm gives them."""
        state: dict[str, torch.Tensor] = self.vit.state_dict()
        if self.patch_embed is not None:
            state |= {f"patch_embed.{name}": value for name, value in self.patch_embed.state_dict().items()}
        return state

    def load_timm_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The reverse of `timm_state_dict`, strictly."""
        prefix = "patch_embed."
        inner = dict(state)
        if self.patch_embed is not None:
            inner = {name: value for name, value in state.items() if not name.startswith(prefix)}
            outer = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            self.patch_embed.load_state_dict(outer)
        self.vit.load_state_dict(inner)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients of the weights; everything as it was afterwards."""
    training = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., object]) -> Iterator[None]:
    """Inside, `hook(module, inputs, output)` is called after each forward pass; what it returns replaces the output."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def class_token_only(model: Model) -> Iterator[None]:
    """Inside, `encode` computes of the last block only what reaches the class token: less work, for many passes.

    The logits are the same up to rounding. Nothing changes for a model with another pooling or another kind of block or
    attention, nor where the logits of one test image differ by more than rounding.
    """
    before = model.class_token_only
    model.class_token_only = before or (can_be_shortened(model.vit) and _agrees_when_shortened(model))
    try:
        yield
    finally:
        model.class_token_only = before


@contextmanager
def every_token(model: Model) -> Iterator[None]:
    """Inside, the whole last block is computed, also where `class_token_only` is around."""
    before, model.class_token_only = model.class_token_only, False
    try:
        yield
    finally:
        model.class_token_only = before


@torch.no_grad()
def _agrees_when_shortened(model: Model) -> bool:
    size = model.input_size
    probe_1CHW = torch.linspace(0, 1, 3 * size * size, device=model.device).view(1, 3, size, size)
    with frozen(model):
        expected_1K = model(probe_1CHW)
        with shortened(model.vit):
            difference_1K = model(probe_1CHW) - expected_1K
    return bool(difference_1K.abs().max() <= 1e-4 * expected_1K.abs().max())  # no where the logits are NaN
