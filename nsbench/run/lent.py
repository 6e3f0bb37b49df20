"""What a method is given to train: a copy of the model, since a loop of one's own may train what it is given in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from nsbench.errors import TrainingError
from nsbench.models import Model
from nsbench.randomness import derive_seed
from nsbench.run.guard import Guard
from nsbench.training.augment import seeded
from nsbench.training.calls import numbered


@contextmanager
def lent(method: str, parent: Model, start: Model, seed: int) -> Iterator[tuple[Model, Model]]:
    """Copies of the two models, which are one model where these are; inside, draws follow the seed.

    Where they cannot be copied they are lent as they are, and TrainingError is raised if the method changes them, after
    their weights have been put back: everything else of the run starts from them.
    """
    try:
        copies = deepcopy((parent, start))
    except Exception as error:  # noqa: BLE001  of whatever a network of one's own is made of
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
    else:
        with numbered(), seeded(derive_seed(seed, "fit"), parent.device):
            yield copies
        return
    guards = [Guard(model) for model in {id(one): one for one in (parent, start)}.values()]
    try:
        with numbered(), seeded(derive_seed(seed, "fit"), parent.device):
            yield parent, start
    finally:
        changed = any([guard.put_back() for guard in guards])  # a list: every one is put back
    if changed:
        raise TrainingError(
            f"{method} trains the model that it is given, which must stay as it is, and '{parent.name}' cannot be copied "
            f"for it ({why}); build a model of its own in the method"
        )
