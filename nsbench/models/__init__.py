"""Models: timm vision transformers behind one face, `logits = head(encode(embed(images)))`, normalisation inside.

`known_models` needs no torch; everything else is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nsbench.models.catalogue import known_models

if TYPE_CHECKING:
    from nsbench.models.checkpoint import save_weights, weights_digest
    from nsbench.models.faster import faster_linear
    from nsbench.models.loading import build_vit_shapes10, with_weights, wrap
    from nsbench.models.model import Model, class_token_only, frozen
    from nsbench.models.places import load_model
    from nsbench.models.preprocessing import Preprocessing

_LAZY = {
    "Model": "model",
    "Preprocessing": "preprocessing",
    "build_vit_shapes10": "loading",
    "class_token_only": "model",
    "faster_linear": "faster",
    "frozen": "model",
    "load_model": "places",
    "save_weights": "checkpoint",
    "weights_digest": "checkpoint",
    "with_weights": "loading",
    "wrap": "loading",
}

__all__ = [
    "Model",
    "Preprocessing",
    "build_vit_shapes10",
    "class_token_only",
    "faster_linear",
    "frozen",
    "known_models",
    "load_model",
    "save_weights",
    "weights_digest",
    "with_weights",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"nsbench.models.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'nsbench.models' has no attribute '{name}'")
