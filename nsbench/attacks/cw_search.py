"""Carlini-Wagner l2 attack with a binary search for each image's own c (arXiv:1608.04644, sections V and VI).

A small c gives near adversarial images but fails on robust ones; a large one succeeds, farther away. The search is
the authors': c rises tenfold until the image is broken, then halves the gap between the largest c that failed and
the smallest that succeeded. It starts at c = 1 (their code: 0.001 and 9 search steps), so that its first run is `cw`
and no image ends up farther than there. torchattacks has no search.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from nsbench.attacks.common import Classifier, check_passes, check_threat, mean_of, room_for
from nsbench.attacks.convergence import NEVER, Breaking, Descent
from nsbench.attacks.cw import minimise, run_passes
from nsbench.registry import attack
from nsbench.types import ThreatModel

GROWTH = 10.0


@attack(
    loss="squared l2 norm + c x margin of the logits",
    start="the image",
    passes=lambda model, *, search_steps, steps, eot, **_: run_passes(steps) * search_steps * eot,
)
@torch.enable_grad()
def cw_search(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    c: PositiveFloat = 1.0,
    search_steps: PositiveInt = 9,
    kappa: NonNegativeFloat = 0.0,
    steps: PositiveInt = 50,
    lr: PositiveFloat = 0.01,
    eot: PositiveInt = 1,
    batch_size: int | None = None,
) -> Tensor:
    """`cw` for `search_steps` values of c per image, the first of them `c`.

    Returns each image's misclassified iterate of the smallest l2 norm over all values, and the image itself,
    unchanged, where there is none (or it already was misclassified). Nothing is drawn: `ids` and `seed` have no
    effect. `eot` is that of CW. Raises UsageError for a threat model other than l2, unbounded.
    """
    check_threat("cw_search", threat, ["l2"], bounded=False)
    check_passes("cw_search", eot)
    network, room = mean_of(model, eot), room_for(batch_size, eot)
    best = images_BCHW.clone()
    c_B = torch.full_like(images_BCHW[:, 0, 0, 0], c)
    lower_B, upper_B = torch.zeros_like(c_B), torch.full_like(c_B, torch.inf)
    nearest_B = upper_B.clone()
    active, breaking = torch.arange(len(images_BCHW), device=images_BCHW.device), Breaking(labels_B)
    for search in range(search_steps):
        if not len(active):
            break
        descent, now = Descent(steps), Breaking(labels_B[active])
        found, square_B = minimise(
            network, images_BCHW[active], labels_B[active], c_B[active], kappa, steps, lr, room, descent, now
        )
        breaking.note(active, now.first_B < NEVER, search * steps + now.first_B)
        if search == search_steps - 1:
            descent.tell(~(nearest_B[active].isfinite() | square_B.isfinite()))
        better_B = square_B < nearest_B[active]
        best[active[better_B]], nearest_B[active[better_B]] = found[better_B], square_B[better_B]
        broken_B = square_B.isfinite()
        upper_B[active[broken_B]] = c_B[active[broken_B]]
        lower_B[active[~broken_B]] = c_B[active[~broken_B]]
        active = active[square_B > 0]  # wrong from the start: nothing to search for
        c_B = torch.where(upper_B.isfinite(), (lower_B + upper_B) / 2, lower_B * GROWTH)
    breaking.tell(max(search_steps * steps - 1, 0))
    return best
