"""Targeted FAB, the fast adaptive boundary attack (Croce and Hein 2020, arXiv:1907.02044), l-inf, l2 and l1.

The projections onto a hyperplane inside the box are pyautoattack's. The steps around them are own code: pyautoattack
takes every image of a batch through every step. Nothing is drawn, and every iterate is that of pyautoattack, which a
test holds to 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import PositiveInt
from torch import Tensor

from nsbench.attacks.common import (
    NORMS,
    PROJECT,
    Classifier,
    blocks,
    check_threat,
    gradient,
    likely_targets,
    logits_of,
    misclassified,
    most_targets,
    per_image,
)
from nsbench.attacks.refill import refill
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

LARGEST_PULL = 0.1  # weight of the image itself in a step
OVERSHOT = 1.05  # how far a step goes, where the hyperplane is at 1
BACK = 0.9  # share of its change that an image keeps once it is misclassified
TINY = 1e-12


def approach_passes(targets: int, steps: int) -> Passes:
    """Of one image in `approach`, at most: each step looks at where it is and at where it goes."""
    return Passes(2, 1) * (targets * steps)


def _passes(model: object, *, steps: int, targets: int, **_: object) -> Passes:
    return Passes(1) + approach_passes(most_targets(model, targets), steps)


@attack(loss="distance to the boundary", start="the image", passes=_passes)
def fab(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: PositiveInt = 100,
    targets: PositiveInt = 9,
    early_stop: bool = True,
    batch_size: int | None = None,
) -> Tensor:
    """Step to the linearised boundary towards each of the `targets` most probable other classes in turn.

    A step goes beyond the boundary and is drawn towards the image; from a misclassified iterate it goes back. An image
    leaves with its first misclassified iterate within eps, or with the nearest one of the target's run if `early_stop`
    is False; one that no run breaks within eps comes back as it is. Nothing is drawn: `ids` and `seed` have no effect.
    Raises UsageError for another norm.
    """
    eps = check_threat("fab", threat, ["linf", "l2", "l1"])
    logits_BK = logits_of(model, images_BCHW, batch_size)
    found = images_BCHW.clone()
    right_B = ~misclassified(logits_BK, labels_B)
    found[right_B], _ = approach(
        model,
        images_BCHW[right_B],
        labels_B[right_B],
        likely_targets(logits_BK[right_B], targets),
        threat.norm,
        eps,
        steps,
        early_stop,
        batch_size,
    )
    return PROJECT[threat.norm](found, images_BCHW, eps)  # takes back at most a rounding error


@dataclass(frozen=True)
class _Rows:
    """Images at work, one row each."""

    image: Tensor  # which of the images
    run: Tensor  # which of its targets
    step: Tensor  # steps taken
    clean: Tensor
    current: Tensor
    nearest: Tensor  # its nearest misclassified iterate
    distance: Tensor  # of that one


def approach(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    targets_BT: Tensor,
    norm: str,
    eps: float,
    steps: int,
    early_stop: bool,
    batch_size: int | None,
) -> tuple[Tensor, Tensor]:
    """Adversarial images within eps, unchanged where no target gave one, and which are broken (B,)."""
    found, broken_B = images_BCHW.clone(), torch.zeros_like(labels_B, dtype=torch.bool)
    length, onto = NORMS[norm], _hyperplane(norm)

    def start(jobs: Sequence[tuple[int, int]]) -> _Rows:
        image, run = torch.tensor(jobs, device=labels_B.device).unbind(1)
        clean = images_BCHW[image]
        infinite_B = torch.full_like(clean[:, 0, 0, 0], torch.inf)
        return _Rows(image, run, torch.zeros_like(image), clean, clean, clean, infinite_B)

    def look(rows: _Rows) -> tuple[_Rows, Tensor, Tensor]:
        labels = labels_B[rows.image]
        variable = rows.current.detach().requires_grad_()
        with torch.enable_grad():
            logits_BK = model(variable)
            towards = logits_BK.gather(1, targets_BT[rows.image, rows.run][:, None])
            ahead_B = (towards - logits_BK.gather(1, labels[:, None])).squeeze(1)
            slope = gradient(ahead_B, variable)
        step = rows.step + 1
        current = torch.empty_like(slope)
        for part in blocks(slope):
            current[part] = _step(
                rows.current[part], rows.clean[part], ahead_B[part].detach(), slope[part], length, onto
            )
        wrong_B, distance_B = misclassified(model(current), labels), length(current - rows.clean)
        better_B = wrong_B & (distance_B < rows.distance)
        nearest = torch.where(per_image(better_B, current), current, rows.nearest)
        distance_B = torch.where(better_B, distance_B, rows.distance)
        reached_B = distance_B <= eps
        stays_B = (step < steps) & ~(reached_B & early_stop)
        leaves_B = reached_B & ~stays_B
        found[rows.image[leaves_B]] = nearest[leaves_B]
        broken_B[rows.image[leaves_B]] = True
        back = rows.clean + (current - rows.clean) * BACK
        current = torch.where(per_image(wrong_B, current), back, current)
        rows = replace(rows, step=step, current=current, nearest=nearest, distance=distance_B)
        return rows, stays_B, leaves_B

    with torch.no_grad():
        refill(len(labels_B), targets_BT.shape[1] if steps else 0, batch_size, start, look, lambda rows: rows)
    return found, broken_B


Onto = Callable[[Tensor, Tensor, Tensor], Tensor]


def _hyperplane(norm: str) -> Onto:
    """`project(points_BD, w_BD, b_B)`: the shortest change to <w, x> = b that keeps to [0, 1]."""
    from pyautoattack import fab_projections

    project: Onto = getattr(fab_projections, f"projection_{norm}")
    return project


def _step(
    current: Tensor, clean: Tensor, ahead_B: Tensor, slope: Tensor, length: Callable[[Tensor], Tensor], onto: Onto
) -> Tensor:
    """A step from where the images are and one from the images themselves to the hyperplane, mixed by their lengths."""
    w_BD = slope.flatten(1)
    b_B = (slope * current).flatten(1).sum(dim=1) - ahead_B.to(slope.dtype)
    both = onto(torch.cat([current.flatten(1), clean.flatten(1)]), torch.cat([w_BD, w_BD]), torch.cat([b_B, b_B]))
    length_B, clean_length_B = length(both).clamp_min(1e-8).chunk(2)
    change, clean_change = (part.view_as(current) for part in both.chunk(2))
    pull = per_image((length_B / (length_B + clean_length_B)).clamp(0, LARGEST_PULL), current)
    return ((current + OVERSHOT * change) * (1 - pull) + (clean + OVERSHOT * clean_change) * pull).clamp(0, 1)
