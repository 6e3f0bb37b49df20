"""One call of an attack: images and labels stay the harness's own, and whatever it raises is one line.

An attack is somebody's code: it may write into what it is given and raise anything. None of this may move a figure or end
a run; what it does to the model is undone by `Guard`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from nsbench.errors import AttackError, NsbenchError
from nsbench.models import Model
from nsbench.models.memory import out_of_memory
from nsbench.types import Attack, ThreatModel


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
