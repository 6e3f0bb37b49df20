"""A model over some of its classes: what is asked for where a set holds only these.

What is judged among 200 classes has to be attacked among the same 200. An attack that sees all 1000 stops at a class that
does not count, and takes its targets and margins from such classes.

Shapes: B images, K classes of the model, C classes of the subset.
"""

from __future__ import annotations

from copy import copy

import torch

from nsbench.models.model import Model


def over_classes(model: Model, classes: tuple[int, ...] | None) -> Model:
    """The model with the logits of these classes alone, in their order; the model itself for None.

    Its weights are shared, and the model stays as it is.
    """
    if classes is None:
        return model
    made = view_of(model)
    made.classes = classes
    return made


def labels_within(labels_B: torch.Tensor, classes: tuple[int, ...] | None) -> torch.Tensor:
    """The position of each label among the classes, (B,); a copy of the labels for None."""
    if classes is None:
        return labels_B.clone()
    names_C = torch.tensor(classes, device=labels_B.device)
    return (names_C == labels_B[:, None]).int().argmax(dim=1)


def view_of(model: Model) -> Model:
    """The same parts in another model, whose logits may be read otherwise; the model stays as it is."""
    made = copy(model)
    made._modules = dict(model._modules)  # its own list of the same parts
    return made
