"""Auto-PGD (Croce and Hein 2020, arXiv:2003.01690, algorithm 1) on the cross-entropy or a targeted loss.

Here are l-inf and l2; l1 is in `apgd_l1`.

Own code: pyautoattack draws for a whole batch and takes every image through every step. Here each image has a stream
of draws, a step size and a count of its own, so that it may enter and leave the batch at any time. The draws are those
that pyautoattack makes for a batch of this one image, and the steps are its steps: a test holds the iterates to 1e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import PositiveInt
from torch import Tensor

from nsbench.attacks.apgd_l1 import climb_l1, climb_l1_passes
from nsbench.attacks.common import (
    PROJECT,
    Classifier,
    check_threat,
    likely_targets,
    logits_of,
    misclassified,
    most_targets,
    per_image,
    require_classes,
    slope_of,
    stream,
)
from nsbench.attacks.refill import refill
from nsbench.errors import UsageError
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

LOSSES = ("ce", "dlr-targeted")
RHO = 0.75  # the step is halved unless the loss rose in more than this share of the steps since the last check
PULL = 0.75  # weight of the step against the momentum
TINY = 1e-12


def climb_passes(runs: int, steps: int) -> Passes:
    """Of one image in `climb`, at most: a last iterate goes back, too, where others of its batch go on."""
    return Passes(steps + 1, steps + 1 if steps else 0) * runs


def _passes(
    model: object, *, threat: ThreatModel, loss: str, steps: int, restarts: int, targets: int, **_: object
) -> Passes:
    runs = restarts * (most_targets(model, targets) if loss == "dlr-targeted" else 1)
    return Passes(1) + (climb_l1_passes if threat.norm == "l1" else climb_passes)(runs, steps)


@attack(start="random in the budget", passes=_passes)
def apgd(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    loss: str = "ce",
    steps: PositiveInt = 100,
    restarts: PositiveInt = 1,
    targets: PositiveInt = 9,
    early_stop: bool = True,
    batch_size: int | None = None,
) -> Tensor:
    """Ascend the `loss` in steps of each image's own size, which starts at 2 eps and is halved when it gets nowhere.

    "ce" is the cross-entropy. "dlr-targeted" takes each of the `targets` most probable other classes in turn (all,
    where there are fewer), with `restarts` runs for each. An image leaves with its first misclassified iterate, or with
    the last one of the run if `early_stop` is False; one that no run breaks comes back as it is. In l1 the steps are
    shared by three radii (`apgd_l1`), of which iterates at the last one count. Raises UsageError for another loss, for a
    norm other than linf, l2 and l1, for a targeted loss on fewer than four classes, and in l1 for fewer than two steps.
    """
    eps = check_threat("apgd", threat, ["linf", "l2", "l1"])
    if loss not in LOSSES:
        raise UsageError(f"apgd: loss '{loss}' is none of {', '.join(LOSSES)}")
    logits_BK = logits_of(model, images_BCHW, batch_size)
    right = (~misclassified(logits_BK, labels_B)).nonzero().squeeze(1)
    streams, targets_BT, runs = [stream(seed, "apgd", ids[i]) for i in right.tolist()], None, restarts
    if loss == "dlr-targeted":
        require_classes("apgd", logits_BK.shape[1])
        targets_BT = likely_targets(logits_BK[right], targets).repeat_interleave(restarts, dim=1)
        runs = targets_BT.shape[1]
    images, labels, found = images_BCHW[right], labels_B[right], images_BCHW.clone()
    found[right], _ = climb(
        model, images, labels, streams, threat.norm, eps, targets_BT, runs, steps, early_stop, batch_size
    )
    return PROJECT[threat.norm](found, images_BCHW, eps)  # takes back at most a rounding error


@dataclass(frozen=True)
class _Rows:
    """Images at work, one row each."""

    image: Tensor  # which of the images
    run: Tensor
    step: Tensor  # steps taken
    clean: Tensor
    current: Tensor  # where it is
    before: Tensor  # and was one step ago
    slope: Tensor
    best: Tensor  # where its loss was largest
    best_slope: Tensor
    best_loss: Tensor
    size: Tensor  # of the next step
    loss: Tensor  # at the last step
    rises: Tensor  # steps since the last check that raised the loss
    checked_loss: Tensor  # best_loss at the last check
    halved: Tensor  # whether the last check halved the size


def climb(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    streams: Sequence[torch.Generator],
    norm: str,
    eps: float,
    targets_BT: Tensor | None,
    runs: int,
    steps: int,
    early_stop: bool,
    batch_size: int | None,
) -> tuple[Tensor, Tensor]:
    """Adversarial images, unchanged where no run broke one, and which are broken (B,).

    The loss is the cross-entropy, or with targets (one for each run) the targeted DLR loss.
    """
    if norm == "l1":
        return climb_l1(model, images_BCHW, labels_B, streams, eps, targets_BT, runs, steps, early_stop, batch_size)
    found, broken_B = images_BCHW.clone(), torch.zeros_like(labels_B, dtype=torch.bool)
    checks = _checks(steps, labels_B.device)
    move = _move_linf if norm == "linf" else _move_l2

    def start(jobs: Sequence[tuple[int, int]]) -> _Rows:
        image, run = torch.tensor(jobs, device=labels_B.device).unbind(1)
        clean = images_BCHW[image]
        first = torch.cat([_start(clean[k : k + 1], streams[i], norm, eps) for k, (i, _) in enumerate(jobs)])
        none, zeros_B = torch.zeros_like(clean), torch.zeros_like(clean[:, 0, 0, 0])
        return _Rows(
            image,
            run,
            torch.zeros_like(image),
            clean,
            current=first,
            before=first,
            slope=none,
            best=first,
            best_slope=none,
            best_loss=zeros_B - torch.inf,
            size=zeros_B + 2 * eps,
            loss=zeros_B,
            rises=zeros_B,
            checked_loss=zeros_B,
            halved=torch.ones_like(zeros_B, dtype=torch.bool),
        )

    def look(rows: _Rows) -> tuple[_Rows, Tensor, Tensor]:
        labels, unfinished_B = labels_B[rows.image], rows.step < steps
        targets_B = None if targets_BT is None else targets_BT[rows.image, rows.run]
        wanted = bool(unfinished_B.any())
        logits_BK, loss_B, slope = slope_of(model, rows.current, labels, targets_B, rows.slope, wanted)
        wrong_B = misclassified(logits_BK, labels)
        found[rows.image[wrong_B]] = rows.current[wrong_B]
        broken_B[rows.image[wrong_B]] = True
        stays_B = unfinished_B & ~(wrong_B & early_stop)
        return _noted(rows, slope, loss_B.to(rows.loss.dtype)), stays_B, broken_B[rows.image]

    with torch.no_grad():
        refill(len(labels_B), runs, batch_size, start, look, lambda rows: move(_checked(rows, checks), eps))
    return found, broken_B


def _start(clean: Tensor, source: torch.Generator, norm: str, eps: float) -> Tensor:
    """A point on the surface of the budget around one image, clipped to [0, 1]; draws a number for each pixel."""
    if norm == "linf":
        drawn = (2 * torch.rand(clean.shape, generator=source) - 1).to(clean)
        return (clean + eps * (drawn / (drawn.abs().max() + TINY))).clamp(0, 1)
    drawn = torch.randn(clean.shape, generator=source).to(clean)
    return (clean + eps * _direction(drawn)).clamp(0, 1)


def _checks(steps: int, device: torch.device) -> Tensor:
    """After each number of steps how many the check then looks back on, and 0 where there is none, (steps + 1,)."""
    windows, at, window = [0] * (steps + 1), 0, max(int(0.22 * steps), 1)
    while (at := at + window) <= steps:
        windows[at] = window
        window = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return torch.tensor(windows, device=device)


def _noted(rows: _Rows, slope: Tensor, loss_B: Tensor) -> _Rows:
    """The loss and its slope where each image is now. The first step is compared with a loss of 0, as in pyautoattack."""
    started_B, better_B = rows.step > 0, loss_B > rows.best_loss
    better = per_image(better_B, slope)
    return replace(
        rows,
        slope=slope,
        best=torch.where(better, rows.current, rows.best),
        best_slope=torch.where(better, slope, rows.best_slope),
        best_loss=torch.where(better_B, loss_B, rows.best_loss),
        rises=rows.rises + (started_B & (loss_B > rows.loss)),
        loss=torch.where(started_B, loss_B, rows.loss),
    )


def _checked(rows: _Rows, checks: Tensor) -> _Rows:
    """Where a check is due and the loss hardly rose, half the step, from where the loss was largest."""
    window_B = checks[rows.step]
    due_B = window_B > 0
    if not due_B.any():
        return rows
    stalled_B = (rows.rises <= RHO * window_B) | (~rows.halved & (rows.checked_loss >= rows.best_loss))
    halve_B = due_B & stalled_B
    halve = per_image(halve_B, rows.clean)
    return replace(
        rows,
        current=torch.where(halve, rows.best, rows.current),
        slope=torch.where(halve, rows.best_slope, rows.slope),
        size=torch.where(halve_B, rows.size / 2, rows.size),
        rises=torch.where(due_B, torch.zeros_like(rows.rises), rows.rises),
        checked_loss=torch.where(due_B, rows.best_loss, rows.checked_loss),
        halved=torch.where(due_B, halve_B, rows.halved),
    )


def _move_linf(rows: _Rows, eps: float) -> _Rows:
    low, high = (rows.clean - eps).clamp_min(0), (rows.clean + eps).clamp_max(1)
    ahead = torch.clamp(rows.current + per_image(rows.size, rows.slope) * rows.slope.sign(), low, high)
    return _moved(rows, torch.clamp(_with_momentum(rows, ahead), low, high))


def _move_l2(rows: _Rows, eps: float) -> _Rows:
    ahead = _into_l2(rows.current + per_image(rows.size, rows.slope) * _direction(rows.slope), rows.clean, eps)
    return _moved(rows, _into_l2(_with_momentum(rows, ahead), rows.clean, eps))


def _with_momentum(rows: _Rows, ahead: Tensor) -> Tensor:
    """The step's end, pulled on by the step before; there is none at first."""
    pull = per_image(torch.where(rows.step > 0, PULL, 1.0).to(ahead), ahead)
    return rows.current + (ahead - rows.current) * pull + (rows.current - rows.before) * (1 - pull)


def _moved(rows: _Rows, to: Tensor) -> _Rows:
    return replace(rows, step=rows.step + 1, before=rows.current, current=to)


def _direction(change: Tensor) -> Tensor:
    return change / (_length(change) + TINY)


def _length(change: Tensor) -> Tensor:
    """l2 norm of each image, (B, 1, 1, 1), summed as pyautoattack sums it: a norm rounded otherwise moves iterates."""
    return per_image(change.square().flatten(1).sum(dim=1).sqrt(), change)


def _into_l2(images_BCHW: Tensor, clean: Tensor, eps: float) -> Tensor:
    change = images_BCHW - clean
    length = _length(change)
    return (clean + change / (length + TINY) * length.clamp_max(eps)).clamp(0, 1)
