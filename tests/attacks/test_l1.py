"""l1: the projection against scipy's solver, the strongest attack of a linear model against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from test_attacks import Linear, Small, names, pictures, run
from torch import Tensor

from nsbench.attacks import pgd
from nsbench.attacks.common import misclassified, project_l1
from nsbench.types import ThreatModel


def solved(point: np.ndarray, clean: np.ndarray, eps: float) -> np.ndarray:
    """min ||clean + up - down - point||^2 over 0 <= up <= 1 - clean, 0 <= down <= clean, sum(up + down) <= eps."""
    n = len(point)

    def aim(changes: np.ndarray) -> tuple[float, np.ndarray]:
        apart = clean + changes[:n] - changes[n:] - point
        return 0.5 * float(apart @ apart), np.concatenate([apart, -apart])

    found = minimize(
        aim,
        np.zeros(2 * n),
        jac=True,
        method="SLSQP",
        bounds=[(0, one) for one in np.concatenate([1 - clean, clean])],
        constraints={"type": "ineq", "fun": lambda c: eps - c.sum(), "jac": lambda c: -np.ones(2 * n)},
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert found.success
    return clean + found.x[:n] - found.x[n:]


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.7, 1.5, 3.0, 20.0])
def test_the_projection_is_that_of_a_solver(eps: float) -> None:
    source = torch.Generator().manual_seed(4)
    clean = torch.rand(6, 12, generator=source, dtype=torch.float64)
    clean[0], clean[1, :4] = clean[0].round(), 1.0  # at the bounds too
    points = clean + torch.randn(6, 12, generator=source, dtype=torch.float64) * 0.5
    points[2] = clean[2] + 0.3  # all changes alike
    found = project_l1(points.view(6, 3, 2, 2), clean.view(6, 3, 2, 2), eps).flatten(1)
    for one, point, image in zip(found, points, clean, strict=True):
        theirs = solved(point.numpy(), image.numpy(), eps)
        np.testing.assert_allclose(one.numpy(), theirs, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(eps=st.floats(0, 60), seed=st.integers(0, 9), scale=st.sampled_from([0.0, 0.01, 1.0, 30.0]))
def test_projected_points_are_inside_and_stay(eps: float, seed: int, scale: float) -> None:
    source = torch.Generator().manual_seed(seed)
    clean = torch.rand(3, 3, 8, 8, generator=source).round(decimals=1)
    point = clean + scale * torch.randn(3, 3, 8, 8, generator=source)
    found = project_l1(point, clean, eps)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - clean).double().abs().flatten(1).sum(dim=1).max() <= eps * (1 + 1e-5) + 1e-6
    torch.testing.assert_close(project_l1(found, clean, eps), found, atol=1e-6, rtol=0)


def best_gain(slope_N: Tensor, clean_N: Tensor, eps: float) -> float:
    """Of a linear score: the budget goes to the steepest values, each as far as its room."""
    gain, left = 0.0, eps
    for at in slope_N.abs().argsort(descending=True).tolist():
        room = float(1 - clean_N[at] if slope_N[at] > 0 else clean_N[at])
        gain += float(slope_N[at].abs()) * min(room, left)
        left -= min(room, left)
    return gain


@pytest.mark.parametrize("eps", [0.3, 2.0, 6.0])
def test_a_linear_model_is_attacked_as_strongly_as_can_be(eps: float) -> None:
    model, images = Linear(), pictures(6)
    found, labels = run(
        pgd, model, images, ThreatModel("l1", eps), steps=300, step_size=0.05, early_stop=False, random_start=False
    )
    for image, after, label in zip(images, found, labels, strict=True):
        towards = (1 - 2 * int(label)) * model.direction.flatten()
        gain = float((towards * (after - image).flatten()).sum())
        assert gain <= best_gain(towards, image.flatten(), eps) + 1e-5
        assert gain >= 0.97 * best_gain(towards, image.flatten(), eps)


def test_starts_fill_the_ball() -> None:
    """In 48 dimensions the l1 norm of a uniform point is eps times a Beta(48, 1) variable, of mean 48 / 49."""
    images = torch.full((400, 3, 4, 4), 0.5)
    found = pgd(
        Small().eval(), images, torch.zeros(400, dtype=torch.long), ids=names(400), seed=0,
        threat=ThreatModel("l1", 0.4), steps=0, early_stop=False,
    )  # fmt: skip
    norms = (found - images).abs().flatten(1).sum(dim=1) / 0.4
    assert norms.max() <= 1 + 1e-5
    assert abs(norms.mean() - 48 / 49) < 5 * 0.02 / 20
    assert abs(float((found > images).float().mean()) - 0.5) < 0.02


def test_seats_move_no_outcome() -> None:
    model, images = Small().eval(), pictures(40, 0.0, 1.0)
    labels = model(images).argmax(dim=1)
    threat, call = ThreatModel("l1", 1.0), {"steps": 8, "seed": 3, "ids": names(40)}
    whole = pgd(model, images, labels, threat=threat, **call)
    broken = misclassified(model(whole), labels)
    assert 0 < broken.sum() < 40
    for size in (1, 7):
        other = pgd(model, images, labels, threat=threat, batch_size=size, **call)
        assert torch.equal(misclassified(model(other), labels), broken)


def test_flat_images_whose_values_round_alike_stay_inside() -> None:
    """Thousands of equal changes are rounded in one direction."""
    clean = torch.full((4, 3, 64, 64), 0.0)
    clean += torch.tensor([0.7, 0.9, 0.51, 0.99]).view(4, 1, 1, 1)
    for size in (1e-4, 3.3e-4, 0.01):
        found = project_l1(clean + size, clean, 0.9 * 12288 * size)
        norm = (found - clean).double().abs().flatten(1).sum(dim=1)
        assert norm.max() <= 0.9 * 12288 * size
        assert norm.min() >= 0.9 * 12288 * size * 0.99
