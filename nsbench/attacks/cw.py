"""Carlini-Wagner l2 attack (arXiv:1608.04644, section VI-A), with one c for all images; `cw_search` searches for each.

Own code, because torchattacks 3.5.1 stops when the loss summed over the batch rises (so an outcome depends on the
batch), takes the largest other logit of (1 - onehot) * z (which never falls below 0), and maps pixels that are
exactly 0 or 1 to infinity, where they stay. Here every image has its own objective, and takes every step.

Where an iterate is misclassified the margin's term is constant, and what is left of the gradient is known in closed
form. Most iterates are, so most cost one forward pass and nothing else: an image whose last iterate was misclassified
goes forward without a graph, and comes again with one only if it is right again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from nsbench.attacks.common import (
    Adam,
    Classifier,
    blocks,
    check_passes,
    check_threat,
    gradient,
    margin,
    mean_of,
    misclassified,
    room_for,
)
from nsbench.attacks.convergence import Breaking, Descent
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

MARGIN = 0.01
BOUND = math.atanh(1 - MARGIN)
SCALE = 0.5 / (1 - MARGIN)


def to_box(w: Tensor) -> Tensor:
    """Images in [0, 1] for w in [-BOUND, BOUND]: the tanh of the paper's equation in section V-B, stretched.

    Dividing by 1 - MARGIN puts the pixel values 0 and 1 at a finite w with a slope of about MARGIN, so that
    saturated pixels can move, and leaves the start exactly at the image instead of beside it.
    """
    return 0.5 + SCALE * torch.tanh(w)


def from_box(images_BCHW: Tensor) -> Tensor:
    """The inverse of `to_box`."""
    return torch.atanh((2 * images_BCHW - 1) * (1 - MARGIN))


def run_passes(steps: int) -> Passes:
    """Of one image in `minimise`, at most: one that is right again where it was expected to be wrong goes forward twice,
    which neither the first two steps nor the last one, nor two in a row, can be."""
    return Passes(steps + max(steps - 2, 0) // 2, max(steps - 1, 0))


@attack(
    loss="squared l2 norm + c x margin of the logits",
    start="the image",
    passes=lambda model, *, steps, eot, **_: run_passes(steps) * eot,
)
@torch.enable_grad()
def cw(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    c: PositiveFloat = 1.0,
    kappa: NonNegativeFloat = 0.0,
    steps: PositiveInt = 50,
    lr: PositiveFloat = 0.01,
    eot: PositiveInt = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Minimise ||x' - x||^2 + c max(z_y - max_other z, -kappa) over the tanh variable by Adam.

    Returns each image's misclassified iterate of the smallest l2 norm, and the image itself, unchanged, where no
    iterate is misclassified (or the image already was). All others take every step: Adam overshoots at first, and
    rules that stop on a rising objective or on a pause in progress end there, at up to twice the norm. Nothing is
    drawn: `ids` and `seed` have no effect. With `eot` above 1 the logits are the mean of so many passes of a model that
    draws. Raises UsageError for a threat model other than l2, unbounded.
    """
    check_threat("cw", threat, ["l2"], bounded=False)
    check_passes("cw", eot)
    c_B, descent, breaking = torch.full_like(images_BCHW[:, 0, 0, 0], c), Descent(steps), Breaking(labels_B)
    found, square_B = minimise(
        mean_of(model, eot), images_BCHW, labels_B, c_B, kappa, steps, lr, room_for(batch_size, eot), descent, breaking
    )
    descent.tell(~square_B.isfinite())
    breaking.tell(max(steps - 1, 0))
    return found


def minimise(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    c_B: Tensor,
    kappa: float,
    steps: int,
    lr: float,
    batch_size: int | None = None,
    descent: Descent | None = None,
    breaking: Breaking | None = None,
) -> tuple[Tensor, Tensor]:
    """One run with each image's own c: the nearest successful iterates and their squared l2 norms (B,).

    The squared norm is infinity where no iterate succeeds and 0 where the image was misclassified from the start;
    both come back as they were. `descent` is told of the objective, `breaking` of the successes: the first iterate is
    the image itself, so the last one has the number steps - 1.
    """
    best, best_B = images_BCHW.clone(), torch.full_like(c_B, torch.inf)
    active, clean, labels, c = torch.arange(len(images_BCHW), device=images_BCHW.device), images_BCHW, labels_B, c_B
    w, free_B = from_box(images_BCHW), torch.zeros_like(labels_B, dtype=torch.bool)
    adversarial, square_B, adam = to_box(w), torch.zeros_like(c_B), Adam(w)
    for step in range(steps):
        success_B, free_B, push, margin_B = _push(
            model, adversarial, labels, c, free_B, kappa, batch_size, step < steps - 1
        )
        if descent:
            loss_B = square_B + c * margin_B.clamp_min(-kappa)
            descent.look(step, active, loss_B, margin_B, len(images_BCHW))
        if breaking:
            breaking.note(active, success_B, step)
        better_B = success_B & (square_B < best_B[active])
        best_B[active[better_B]] = square_B[better_B]
        if step:  # an image that was wrong from the start stays as it is
            best[active[better_B]] = adversarial[better_B].clamp(0, 1)
        elif success_B.any():
            stays_B = ~success_B
            active, clean, labels, c, w, free_B, adversarial, square_B, push = (
                rows[stays_B] for rows in (active, clean, labels, c, w, free_B, adversarial, square_B, push)
            )
            adam = Adam(w)
        if step == steps - 1 or not len(active):
            break
        for part in blocks(w):
            square_B[part] = _move(w[part], adversarial[part], clean[part], push[part], adam, lr, part)
    return best, best_B


def _move(w: Tensor, adversarial: Tensor, clean: Tensor, push: Tensor, adam: Adam, lr: float, at: slice) -> Tensor:
    """One step of w, and of the adversarial images with it, in place; returns their squared l2 distances (B,)."""
    slope = push.add_(adversarial, alpha=2).sub_(clean, alpha=2)
    tanh = adversarial.sub_(0.5).div_(SCALE)
    slope.addcmul_(slope * tanh, tanh, value=-1).mul_(SCALE)  # the slope of the box is SCALE (1 - tanh^2)
    w.add_(adam.step(slope, lr, at)).clamp_(-BOUND, BOUND)
    torch.tanh(w, out=adversarial).mul_(SCALE).add_(0.5)
    distance_B: Tensor = torch.linalg.vector_norm(torch.sub(adversarial, clean, out=slope).flatten(1), dim=1)
    return distance_B.square_()


def _push(
    model: Classifier,
    adversarial: Tensor,
    labels_B: Tensor,
    c_B: Tensor,
    free_B: Tensor,
    kappa: float,
    batch_size: int | None,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the margin's term: success (B,), where it is constant (B,), its gradient, which is zero there, and the margin.

    `free_B` says where it is expected to be constant: these images go forward first, without a graph. Unless a
    gradient is `wanted`, so do all. No more than `batch_size` images go through the model at a time.
    """
    success_B, slope, margins_B = torch.zeros_like(free_B), torch.zeros_like(adversarial), torch.zeros_like(c_B)
    size = batch_size or max(len(labels_B), 1)
    expected_B, free_B = free_B | (not wanted), free_B.clone()

    def look(part: Tensor, images_BCHW: Tensor) -> Tensor:
        logits_BK = model(images_BCHW)
        margin_B = margin(logits_BK, labels_B[part])
        free_B[part], margins_B[part] = margin_B.detach() < -kappa, margin_B.detach().to(c_B.dtype)
        success_B[part] = misclassified(logits_BK, labels_B[part]) & (margin_B.detach() <= -kappa)
        return margin_B

    with torch.no_grad():
        for part in expected_B.nonzero().squeeze(1).split(size):
            look(part, adversarial[part])
    if wanted:
        for part in (~(expected_B & free_B)).nonzero().squeeze(1).split(size):
            variable = adversarial[part].requires_grad_()
            slope[part] = gradient(c_B[part] * look(part, variable).clamp_min(-kappa), variable)
    return success_B, free_B, slope, margins_B
