"""Auto-PGD for l1 (Croce and Hein 2021, arXiv:2103.01208, algorithm 1 and section 4.2), at three radii.

A run begins at three times eps, goes on at twice and ends at eps, each from where the loss was largest at the radius
before; only what it meets at eps counts. A step goes along the signs of the steepest share of the values. That share
follows how many values the best point has changed, and a step is shortened when this number no longer falls.

Own code for the reason that `apgd` gives, with pyautoattack's projection; its iterates are held to 1e-5 by a test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nsbench.attacks.common import Classifier, misclassified, per_image, slope_of
from nsbench.attacks.refill import refill
from nsbench.errors import UsageError
from nsbench.types import Passes

RADII = (3.0, 2.0, 1.0)  # in eps
SHARE = 0.3  # of the steps at each radius but the last
WINDOW = 0.04  # of a radius's steps: after so many the number of changed values is looked at
FALLS = 0.95  # it falls where it is below so much of what it was
SHORTER, SHORTEST = 1.5, 10.0  # a step is divided by this, down to its radius divided by that
FEWER = 1.5  # values that the best point has changed, for each that a step moves


def climb_l1_passes(runs: int, steps: int) -> Passes:
    """Of one image in `climb_l1`, at most: each radius begins with a look."""
    return Passes(steps + len(RADII), steps + len(RADII)) * runs


@dataclass(frozen=True)
class _Rows:
    """Images at work, one row each."""

    image: Tensor  # which of the images
    run: Tensor
    stage: Tensor  # which of the radii
    step: Tensor  # steps taken at it
    clean: Tensor
    current: Tensor  # where it is
    slope: Tensor
    best: Tensor  # where its loss was largest at this radius
    best_slope: Tensor
    best_loss: Tensor
    size: Tensor  # of the next step
    changed: Tensor  # values, of the best point at the last check


def climb_l1(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    streams: Sequence[torch.Generator],
    eps: float,
    targets_BT: Tensor | None,
    runs: int,
    steps: int,
    early_stop: bool,
    batch_size: int | None,
) -> tuple[Tensor, Tensor]:
    """Adversarial images, unchanged where no run broke one, and which are broken (B,); as `apgd.climb`.

    Raises UsageError for fewer steps than leave one for each radius but the last.
    """
    if steps < len(RADII) - 1:
        raise UsageError(f"apgd: steps={steps} is too few in l1, whose three radii share them; give 2 or more")
    found, broken_B = images_BCHW.clone(), torch.zeros_like(labels_B, dtype=torch.bool)
    stages = _Stages.of(eps, steps, images_BCHW)

    def start(jobs: Sequence[tuple[int, int]]) -> _Rows:
        image, run = torch.tensor(jobs, device=labels_B.device).unbind(1)
        clean = images_BCHW[image]
        drawn = torch.cat([_drawn(clean[k : k + 1], streams[i]) for k, (i, _) in enumerate(jobs)])
        first = clean + drawn
        first = first + into_l1(first - clean, clean, stages.radii[0])  # and again below, as pyautoattack does
        zeros_B = torch.zeros_like(clean[:, 0, 0, 0])
        rows = _Rows(
            image,
            run,
            torch.zeros_like(image),
            torch.zeros_like(image),
            clean,
            current=first,
            slope=torch.zeros_like(clean),
            best=first,
            best_slope=torch.zeros_like(clean),
            best_loss=zeros_B - torch.inf,
            size=zeros_B,
            changed=torch.zeros_like(image),
        )
        return _moved(rows, stages, opens_B=torch.ones_like(image, dtype=torch.bool))

    def look(rows: _Rows) -> tuple[_Rows, Tensor, Tensor]:
        labels, counts_B = labels_B[rows.image], rows.stage == len(RADII) - 1
        ends_B = rows.step == stages.steps[rows.stage]
        targets_B = None if targets_BT is None else targets_BT[rows.image, rows.run]
        wanted = bool((~ends_B).any())
        logits_BK, loss_B, slope = slope_of(model, rows.current, labels, targets_B, rows.slope, wanted)
        wrong_B = misclassified(logits_BK, labels) & counts_B
        found[rows.image[wrong_B]] = rows.current[wrong_B]
        broken_B[rows.image[wrong_B]] = True
        stays_B = ~(ends_B & counts_B) & ~(wrong_B & early_stop)
        return _noted(rows, slope, loss_B.to(rows.best_loss.dtype)), stays_B, broken_B[rows.image]

    def move(rows: _Rows) -> _Rows:
        opens_B = rows.step == stages.steps[rows.stage]
        return _moved(_checked(rows, stages), stages, opens_B)

    with torch.no_grad():
        refill(len(labels_B), runs, batch_size, start, look, move)
    return found, broken_B


@dataclass(frozen=True)
class _Stages:
    """Of each radius."""

    radii: Tensor  # (3,)
    steps: Tensor  # at it
    window: Tensor  # steps between two checks

    @classmethod
    def of(cls, eps: float, steps: int, like: Tensor) -> _Stages:
        each = math.ceil(SHARE * steps)
        counts = [each, each, steps - 2 * each]
        windows = [max(int(WINDOW * count), 1) for count in counts]
        return cls(
            torch.tensor([radius * eps for radius in RADII], device=like.device, dtype=like.dtype),
            torch.tensor(counts, device=like.device),
            torch.tensor(windows, device=like.device),
        )


def _drawn(clean: Tensor, source: torch.Generator) -> Tensor:
    """A normal number for each value; pyautoattack draws as many again at each radius, for nothing."""
    drawn, *_ = (torch.randn(clean.shape, generator=source) for _ in range(1 + len(RADII)))
    return drawn.to(clean)


def _noted(rows: _Rows, slope: Tensor, loss_B: Tensor) -> _Rows:
    """The loss and its slope where each image is now."""
    better_B = loss_B > rows.best_loss
    better = per_image(better_B, slope)
    return replace(
        rows,
        slope=slope,
        best=torch.where(better, rows.current, rows.best),
        best_slope=torch.where(better, slope, rows.best_slope),
        best_loss=torch.where(better_B, loss_B, rows.best_loss),
    )


def _checked(rows: _Rows, stages: _Stages) -> _Rows:
    """Where a check is due: on from the best point with a whole step if it has become sparser, else a shorter step."""
    due_B = (rows.step > 0) & (rows.step % stages.window[rows.stage] == 0)
    if not due_B.any():
        return rows
    changed_B, radius_B = _changed(rows.best, rows.clean), stages.radii[rows.stage]
    sparser_B = changed_B / rows.changed < FALLS
    size_B = torch.where(sparser_B, radius_B, rows.size / SHORTER).clamp(radius_B / SHORTEST, radius_B)
    back = per_image(due_B & sparser_B, rows.clean)
    return replace(
        rows,
        current=torch.where(back, rows.best, rows.current),
        slope=torch.where(back, rows.best_slope, rows.slope),
        size=torch.where(due_B, size_B, rows.size),
        changed=torch.where(due_B, changed_B, rows.changed),
    )


def _moved(rows: _Rows, stages: _Stages, opens_B: Tensor) -> _Rows:
    """A step on; where a radius `opens_B`, to it from the best point of the radius before."""
    opens = per_image(opens_B, rows.clean)
    stage = torch.where(opens_B & (rows.step > 0), rows.stage + 1, rows.stage)
    change = torch.where(opens, rows.best, rows.current + _ahead(rows)) - rows.clean
    to = torch.where(opens, rows.best, rows.clean + change)  # summed as pyautoattack sums it: what differs is counted
    to = to + into_l1(change, rows.clean, stages.radii[stage])
    to = torch.where(opens, to.clamp(0, 1), to)
    return replace(
        rows,
        stage=stage,
        step=torch.where(opens_B, 0, rows.step + 1),
        current=to,
        best=torch.where(opens, to, rows.best),
        best_loss=torch.where(opens_B, -torch.inf, rows.best_loss),
        size=torch.where(opens_B, stages.radii[stage], rows.size),
        changed=torch.where(opens_B, _changed(to, rows.clean), rows.changed),
    )


def _ahead(rows: _Rows) -> Tensor:
    """The change of a step, before it is taken back into the radius: along the signs of the steepest values."""
    values = rows.clean[0].numel()
    slope_BN = rows.slope.flatten(1)
    share_B = rows.changed / values / FEWER
    last_B = ((1.0 - share_B) * values).clamp(0, values - 1).long()
    least_B1 = slope_BN.abs().sort(dim=1)[0].gather(1, last_B[:, None])
    signs_BN = (slope_BN * (slope_BN.abs() >= least_B1)).sign()
    ahead_BN = rows.size[:, None] * signs_BN / (signs_BN.abs().sum(dim=1, keepdim=True) + 1e-10)
    return ahead_BN.view_as(rows.slope)


def into_l1(change: Tensor, clean: Tensor, radius: Tensor | float) -> Tensor:
    """What has to be added to be within the radius, one for all or of each image, and inside [0, 1]."""
    from pyautoattack.autopgd_base import L1_projection

    back: Tensor = L1_projection(clean, change, radius)
    return back


def _changed(images_BCHW: Tensor, clean: Tensor) -> Tensor:
    """How many values differ, (B,)."""
    return (images_BCHW != clean).flatten(1).sum(dim=1)
