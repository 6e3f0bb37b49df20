"""What keeps a model as it is while somebody's code has it, which may change its weights, its parts and its hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from nsbench.models import Model, frozen

HELD = (  # what an nn.Module consists of, and what is called beside its forward pass
    *("_parameters", "_buffers", "_modules"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
)


class Guard:
    """Keeps a copy of a model's weights, and puts back what was changed."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parts = [(part, [dict(getattr(part, name)) for name in HELD]) for part in model.modules()]
        self.tensors = [(one, one.detach().clone()) for one in (*model.parameters(), *model.buffers())]

    @contextmanager
    def around(self) -> Iterator[None]:
        """Inside, the model is frozen and gradients are on; everything as it was afterwards."""
        with frozen(self.model), torch.enable_grad():
            try:
                yield
            finally:
                self.put_back()

    @torch.no_grad()
    def put_back(self) -> bool:
        """Whether anything had changed."""
        changed = False
        for part, kept in self.parts:
            for name, before in zip(HELD, kept, strict=True):
                now = getattr(part, name)
                if _named(now) != _named(before):
                    changed = True
                    now.clear()
                    now.update(before)
        for tensor, value in self.tensors:
            if not _same(tensor, value):
                changed = True
                tensor.data = value.clone()
        return changed


def _named(parts: Mapping[object, object]) -> list[tuple[object, int]]:
    """Names, and which objects they stand for."""
    return [(name, id(part)) for name, part in parts.items()]


def _same(tensor: Tensor, value: Tensor) -> bool:
    """Whether neither the kind nor an element has changed; not-a-number is equal to itself."""
    if tensor.device != value.device or tensor.dtype != value.dtype:
        return False
    return torch.equal(tensor, value) or bool(((tensor == value) | ((tensor != tensor) & (value != value))).all())
