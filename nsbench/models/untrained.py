"""Models without weights, for what an architecture decides by itself: shapes, ranks, whether a cut can be made."""

from __future__ import annotations

import timm
import torch

from nsbench.errors import UnknownName
from nsbench.models.catalogue import EMBEDDED, known_models
from nsbench.models.loading import build_vit_shapes10, named_failure, wrap
from nsbench.models.model import Model


def untrained_model(name: str, *, seed: int = 0, normalisation: str = "own", **options: object) -> Model:
    """A timm model as timm initialises it, drawn from `seed`; torch's global random state is not moved.

    `options` go to timm: num_classes, depth. Raises UnknownName, or ModelError where timm cannot build it so.
    """
    if name != EMBEDDED and not timm.is_model(name):
        raise UnknownName("model", name, [known for known in known_models() if ":" not in known])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with named_failure(name):
            network = build_vit_shapes10() if name == EMBEDDED else timm.create_model(name, pretrained=False, **options)
    return wrap(network, name=name, normalisation=normalisation)
