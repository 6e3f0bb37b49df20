"""A model cut elsewhere than at the patch embedding, so that noise can be learnt at any depth and in any architecture.

`at_layer(model, k)` is the same model with logits = head(encode(embed(images))), where `embed` gives what block k
gives; k = 0 is the patch embedding, "input" the pixels themselves, for CNNs too. `learn_noise` and everything else
that asks for embed, encode and head works on it unchanged.

`encode` runs timm's own forward pass on one black image, and a hook puts the tokens in place of what the block gave:
everything behind the block is timm's own arithmetic on the whole batch, what lies before it costs one image.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import PatchEmbed
from torch import nn

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model
from nsbench.models.model import frozen, hooked

INPUT = "input"


class _Reached(Exception):
    """Ends a forward pass at the cut: nothing behind it is needed."""


class LayerModel(Model):
    """`base` cut after one of its modules. Shares the weights of `base`; `layer` says where the cut is."""

    def __init__(self, base: Model, layer: str, module: nn.Module | None) -> None:
        nn.Module.__init__(self)  # not Model's: the base is built already, and shared
        self.base = base
        self.layer = layer
        self.name, self.preprocessing, self.normalisation = base.name, base.preprocessing, base.normalisation
        self.mean, self.std = base.mean, base.std
        self.vit, self.patch_embed = base.vit, base.patch_embed
        self.mean_3HW, self.std_3HW = base.mean_3HW, base.std_3HW
        self.cut = (module,)  # in a tuple, so that it is not registered a second time

    @property
    def class_token_only(self) -> bool:  # the base runs the blocks
        return self.base.class_token_only

    @class_token_only.setter
    def class_token_only(self, wanted: bool) -> None:
        self.base.class_token_only = wanted

    def embed(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """What the block gives: (B, ...), the class token and other prefixes among it; the pixels for "input"."""
        module = self.cut[0]
        if module is None:
            return images_BCHW
        found: list[torch.Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            found.append(output)
            raise _Reached

        with hooked(module, keep):
            try:
                self.base(images_BCHW)
            except _Reached:
                return found[0]
        raise ModelError(f"model '{self.name}' does not pass through layer {self.layer}")

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (B, K): everything behind the block, the classifier included."""
        module = self.cut[0]
        if module is None:
            return self._logits(tokens)
        black_1CHW = torch.zeros(1, 3, self.input_size, self.input_size, device=self.device)
        with hooked(module, lambda _module, _inputs, _output: tokens):
            return self._logits(black_1CHW)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits as they are: `encode` goes all the way."""
        return features

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of the base."""
        return self._logits(images_BCHW)

    def _logits(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        logits_BK: torch.Tensor = self.base(images_BCHW)  # the call and not `forward`: hooks on the base count
        return logits_BK


def at_layer(model: Model, layer: int | str) -> Model:
    """The model cut after block `layer` (1 ... L), after its patch embedding (0), or at its pixels ("input").

    Raises UsageError for a layer that is not there, naming those that are, and ModelError where the cut would change
    the logits.
    """
    if str(layer) == "0" and model.patch_embed is not None:
        return model
    places = layers(model)
    if str(layer) not in places:
        raise UsageError(f"layer '{layer}': model '{model.name}' has {describe(places)}")
    view = LayerModel(model, str(layer), places[str(layer)])
    probe_2CHW = torch.linspace(0, 1, 6 * model.input_size**2, device=model.device).view(
        2, 3, model.input_size, model.input_size
    )
    with frozen(model), torch.no_grad():
        expected_2K, found_2K = model(probe_2CHW), view.encode(view.embed(probe_2CHW))
    if found_2K.shape != expected_2K.shape or not torch.allclose(found_2K, expected_2K, rtol=1e-4, atol=1e-5):
        raise ModelError(
            f"model '{model.name}' cannot be cut at layer {layer}: what lies behind it also uses what "
            "lies before it; choose another layer"
        )
    return view


def layers(model: Model) -> dict[str, nn.Module | None]:
    """Where a model can be cut: "input", "0" for a patch embedding, then its transformer blocks or a CNN's stages."""
    found: dict[str, nn.Module | None] = {INPUT: None}
    stem = getattr(model.vit, "stem", None)  # what MLP-Mixers call it; a CNN's stem is another thing
    patch_embed = getattr(model.vit, "patch_embed", stem if isinstance(stem, PatchEmbed) else None)
    if isinstance(patch_embed, nn.Module):
        found["0"] = patch_embed
    for number, block in enumerate(blocks_of(model.vit), 1):
        found[str(number)] = block
    return found


def describe(places: dict[str, nn.Module | None]) -> str:
    """ "input, 0 (patch embedding), 1 ... 12 (blocks)"."""
    blocks = [place for place in places if place not in (INPUT, "0")]
    words = [INPUT, *(["0 (patch embedding)"] if "0" in places else [])]
    return ", ".join([*words, *([f"1 ... {blocks[-1]} (blocks)"] if blocks else [])])


def blocks_of(network: Any) -> list[nn.Module]:
    """Of a plain transformer (ViT, DeiT, BEiT: `blocks`), or of one in stages (Swin: `layers[i].blocks`)."""
    stages = [network, *_listed(network, "layers"), *_listed(network, "stages")]
    return [block for stage in stages for block in _listed(stage, "blocks")]


def _listed(module: Any, name: str) -> list[nn.Module]:
    found = getattr(module, name, None)
    return list(found) if isinstance(found, nn.Sequential | nn.ModuleList) else []
