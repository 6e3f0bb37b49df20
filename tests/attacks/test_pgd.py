"""PGD against plain loops, run by run and image by image: restarts, starts, steps, and which iterate comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import Tensor, nn

from nsbench.attacks import pgd
from nsbench.attacks.convergence import Endings, marks
from nsbench.types import ThreatModel

RESTARTS, STEPS, IMAGES = 3, 4, 24
THREATS = {"linf": ThreatModel("linf", 0.03), "l2": ThreatModel("l2", 0.15), "l1": ThreatModel("l1", 2.0)}


class Bumpy(nn.Module):
    """Logits with many local optima, so that starts matter, and most often of class 0."""

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(4)
        self.first = torch.randn(48, 24, generator=draws, dtype=torch.float64)
        self.last = torch.randn(24, 5, generator=draws, dtype=torch.float64)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = torch.sin(15 * images_BCHW.flatten(1) @ self.first) @ self.last
        return logits_BK + 12 * torch.eye(5, dtype=logits_BK.dtype)[0]


class Sure(nn.Module):
    """Always right about class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.seen.append(images_BCHW.detach().clone())
        return torch.stack([images_BCHW.flatten(1).mean(dim=1) + 2, images_BCHW.flatten(1).mean(dim=1)], dim=1)


def images(count: int = IMAGES, value: float | None = None) -> Tensor:
    drawn = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return drawn if value is None else torch.full_like(drawn, value)


def names(count: int) -> list[str]:
    return [f"clean/{i}" for i in range(count)]


def starts(norm: str, count: int, restarts: int, value: float | None = None) -> Tensor:
    """(count, restarts, 3, 4, 4): where each restart begins."""
    model, clean = Sure(), images(count, value)
    call = {"ids": names(count), "seed": 0, "threat": THREATS[norm], "steps": 1, "restarts": restarts}
    pgd(model, clean, torch.zeros(count, dtype=torch.long), **call)
    return torch.stack(model.seen[::2], dim=1)


def ascended(model: Bumpy, clean: Tensor, label: Tensor, first: Tensor, norm: str) -> list[Tensor]:
    """All iterates of one run of one image, by a loop that stops nowhere; steps of 2.5 eps / steps."""
    eps = THREATS[norm].eps
    assert eps is not None
    found, size = [first], 2.5 * eps / STEPS
    for _ in range(STEPS):
        point = found[-1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(point), label), point)
        if norm == "linf":
            moved = (found[-1] + size * slope.sign()).clamp(clean - eps, clean + eps)
        else:
            change = found[-1] + size * slope / slope.norm() - clean
            moved = clean + change * min(1.0, eps / change.norm().item())
        found.append(moved.clamp(0, 1))
    return found


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_comes_back_is_that_of_plain_loops(norm: str, early_stop: bool) -> None:
    """The first misclassified iterate of all restarts in turn; else the last one of the restart with the highest loss."""
    model, clean = Bumpy(), images()
    labels, begin = torch.zeros(IMAGES, dtype=torch.long), starts(norm, IMAGES, RESTARTS)
    expected, broke_at, by_restart = [], [], []
    for i in range(IMAGES):
        one, label = clean[i : i + 1], labels[i : i + 1]
        runs = [ascended(model, one, label, begin[i : i + 1, r], norm) for r in range(RESTARTS)]
        iterates = [each for run in runs for each in (run if early_stop else run[-1:])]
        wrong = [n for n, each in enumerate(iterates) if model(each).argmax() != label]
        losses = [float(F.cross_entropy(model(run[-1]), label)) for run in runs]
        best = int(np.argmax(losses))
        expected.append(iterates[wrong[0]] if wrong else runs[best][-1])
        broke_at.append(wrong[0] if wrong else len(iterates))
        by_restart.append(best)
    per_run = STEPS + 1 if early_stop else 1
    unbroken = [best for best, n in zip(by_restart, broke_at, strict=True) if n == RESTARTS * per_run]
    assert any(unbroken), "no image is taken from a later restart"
    assert any(per_run <= n < RESTARTS * per_run for n in broke_at), "no image is broken by a later restart"

    told = Endings()
    call = {"ids": names(IMAGES), "seed": 0, "threat": THREATS[norm], "steps": STEPS, "restarts": RESTARTS}
    with told.heard():
        found = pgd(model, clean, labels, **call, early_stop=early_stop, batch_size=5)
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-9, rtol=0)
    if early_stop:
        last = RESTARTS * per_run - 1
        still = {mark: sum(n > mark for n in broke_at) for mark in marks(last)}
        assert {one.iteration: one.images for one in told.still_right} == still


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_restarts_begin_at_points_drawn_evenly_from_the_budget(norm: str) -> None:
    """Far from the bounds of pixels; the share of the budget's volume within a point's norm is uniform."""
    eps = THREATS[norm].eps
    assert eps is not None
    change = starts(norm, 100, 4, value=0.5).flatten(0, 1).flatten(1) - 0.5
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    norms = torch.linalg.vector_norm(change, order, dim=1).double() / eps
    assert norms.max() <= 1 + 1e-6
    if norm == "l1":  # no value comes to a bound
        assert change.abs().max() < 0.5
    assert kstest((norms ** change.shape[1]).numpy(), "uniform").pvalue > 1e-3
    assert len(change.unique(dim=0)) == 400  # no two images, and no two restarts, begin at one point
    assert (change.mean(dim=0).abs() < 4 * change.std(dim=0) / 20).all()  # in no direction more than in another
    if norm == "linf":
        assert kstest((change.flatten().double() / eps / 2 + 0.5).numpy(), "uniform").pvalue > 1e-3


def test_a_step_in_l1_moves_so_many_values_by_the_step_together() -> None:
    model, clean = Bumpy(), images(5, value=0.5)
    labels = model(clean).argmax(dim=1)
    call = {"ids": names(5), "seed": 0, "threat": THREATS["l1"], "steps": 1, "random_start": False, "early_stop": False}
    change = (pgd(model, clean, labels, **call, step_size=0.6, moved=0.1) - clean).flatten(1)
    assert ((change != 0).sum(dim=1) == 5).all()  # a tenth of 48 values
    torch.testing.assert_close(change.abs().sum(dim=1), torch.full((5,), 0.6, dtype=torch.float64), atol=1e-9, rtol=0)
    point = clean.clone().requires_grad_()
    slope = torch.autograd.grad(F.cross_entropy(model(point), labels, reduction="sum"), point)[0].flatten(1)
    steepest = slope.abs().topk(5, dim=1).indices
    assert (change.gather(1, steepest) * slope.gather(1, steepest) > 0).all()
