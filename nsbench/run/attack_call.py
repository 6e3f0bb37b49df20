"""One call of an attack, after which the model is what it was, and images and labels are the harness's own.

An attack is somebody's code: it may write into what it is given, leave the model in training mode or change its weights,
and raise anything. None of this may move a figure or end a run.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from nsbench.errors import AttackError, NsbenchError
from nsbench.models import Model, frozen
from nsbench.models.memory import out_of_memory
from nsbench.types import Attack, ThreatModel

HELD = (  # what an nn.Module consists of, and what is called beside its forward pass
    *("_parameters", "_buffers", "_modules"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
)


class Guard:
    """Keeps a copy of a model's weights, and puts them back where a call changed them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parts = [(part, [dict(getattr(part, name)) for name in HELD]) for part in model.modules()]
        self.tensors = [*model.parameters(), *model.buffers()]
        self.values = [tensor.detach().clone() for tensor in self.tensors]

    @contextmanager
    def around(self) -> Iterator[None]:
        """Inside, the model is frozen and gradients are on; everything as it was afterwards."""
        with frozen(self.model), torch.enable_grad():
            try:
                yield
            finally:
                self._put_back()

    @torch.no_grad()
    def _put_back(self) -> None:
        for part, kept in self.parts:
            for name, before in zip(HELD, kept, strict=True):
                now = getattr(part, name)
                if _named(now) != _named(before):
                    now.clear()
                    now.update(before)
        for tensor, value in zip(self.tensors, self.values, strict=True):
            same_kind = tensor.device == value.device and tensor.dtype == value.dtype
            if not (same_kind and torch.equal(tensor, value)):
                tensor.data = value.clone()


def _named(parts: Mapping[object, object]) -> list[tuple[object, int]]:
    """Names, and which objects they stand for."""
    return [(name, id(part)) for name, part in parts.items()]


def call_attack(
    attack: Attack,
    model: Model,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: list[str],
    seed: int,
    threat: ThreatModel,
    params: Mapping[str, object],
) -> Tensor:
    """What it returns for copies of these images and labels, in the images' type and without a graph.

    Raises AttackError, in one line, for anything that it raises by mistake, and where it returns no images.
    """
    with _in_one_line(attack.name):
        returned = attack(
            model, images_BCHW.clone(), labels_B.clone(), ids=list(ids), seed=seed, threat=threat, **params
        )
    if not isinstance(returned, Tensor):
        raise AttackError(f"attack '{attack.name}' returned a {type(returned).__name__}; return the adversarial images")
    return returned.detach().to(images_BCHW)


@contextmanager
def _in_one_line(attack: str) -> Iterator[None]:
    """Too little memory stays what it is: fewer images at a time may fit."""
    try:
        yield
    except NsbenchError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = " ".join(str(error).split())[:200]
        where = f"{Path(last.filename).name}:{last.lineno}"
        raise AttackError(f"attack '{attack}' raised {type(error).__name__}: {why} ({where})") from error
