"""fgsm, pgd and what all attacks share, against closed forms and torchattacks.

A linear model's loss rises fastest along one direction everywhere, so its strongest l-inf and l2 attacks are known;
a two-class model whose logit is the squared distance to a centre has its nearest adversarial point on that line.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nsbench.attacks
from nsbench import registry
from nsbench.attacks import cw, cw_search, fgsm, pgd
from nsbench.attacks.common import (
    Adam,
    cross_entropy,
    gradient,
    l2_norm,
    margin,
    misclassified,
    normal,
    project_l2,
    project_linf,
    uniform,
)
from nsbench.errors import ModelError, UsageError
from nsbench.types import ThreatModel

SHAPE = (3, 4, 4)


class Linear(nn.Module):
    """Two classes: z_0 = 0 and z_1 = <a, x> - b."""

    def __init__(self) -> None:
        super().__init__()
        direction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
        self.direction = nn.Parameter(direction / direction.norm())
        self.offset = nn.Parameter(torch.tensor(float((self.direction * 0.5).sum()) + 0.3))

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.direction).flatten(1).sum(dim=1) - self.offset
        return torch.stack([torch.zeros_like(score), score], dim=1)


class Quadratic(nn.Module):
    """Two classes: 0 inside the ball of radius r around the grey image, 1 outside; z_1 = ||x - 0.5||^2 - r^2."""

    radius = 0.8

    def forward(self, images: Tensor) -> Tensor:
        score = (images - 0.5).square().flatten(1).sum(dim=1) - self.radius**2
        return torch.stack([torch.zeros_like(score), score], dim=1)


class Small(nn.Module):
    """A small random network of three classes, smooth, with dropout to tell the modes apart."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 3))

    def forward(self, images: Tensor) -> Tensor:
        return 4 * self.layers(images)


def pictures(n: int, low: float = 0.3, high: float = 0.7) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(n)) * (high - low) + low


def names(n: int) -> list[str]:
    return [f"image {i}" for i in range(n)]


def run(attack: Callable, model: nn.Module, images: Tensor, threat: ThreatModel, **params) -> tuple[Tensor, Tensor]:
    """Adversarial images and the labels, which are the model's own predictions."""
    labels = model.eval()(images).argmax(dim=1)
    return attack(model, images, labels, ids=names(len(images)), seed=0, threat=threat, **params), labels


def test_importing_the_package_registers_every_attack() -> None:
    assert set(nsbench.attacks.__all__) <= set(registry.attacks)


@pytest.mark.parametrize("eps", [0.01, 0.1])
@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_linf_on_a_linear_model_moves_every_pixel_by_eps(attack: Callable, eps: float) -> None:
    model, images = Linear(), pictures(16)
    params = {} if attack is fgsm else {"early_stop": False}
    found, labels = run(attack, model, images, ThreatModel("linf", eps), **params)
    towards = (1 - 2 * labels).view(-1, 1, 1, 1)  # class 1 gains along the direction, class 0 against it
    torch.testing.assert_close(found, images + eps * towards * model.direction.sign(), atol=2e-6, rtol=0)


def test_l2_pgd_on_a_linear_model_moves_along_the_normal() -> None:
    model, images, eps = Linear(), pictures(16, 0.45, 0.55), 0.4
    found, labels = run(pgd, model, images, ThreatModel("l2", eps), random_start=False, early_stop=False)
    towards = (1 - 2 * labels).view(-1, 1, 1, 1)
    torch.testing.assert_close(found, images + eps * towards * model.direction, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("factor", "broken"), [(0.98, False), (1.02, True)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_on_a_quadratic_model_succeeds_exactly_beyond_the_nearest_point(
    norm: str, factor: float, broken: bool
) -> None:
    model, images = Quadratic(), pictures(8, 0.45, 0.55)
    change, n = (images - 0.5).flatten(1), images[0].numel()
    if norm == "l2":  # the sphere is nearest along the radius
        needed = model.radius - change.norm(dim=1)
    else:  # every pixel moves outwards by t: sum (|d| + t)^2 = r^2
        mean, square = change.abs().mean(dim=1), change.square().sum(dim=1)
        needed = -mean + (mean.square() - (square - model.radius**2) / n).sqrt()
    for image, eps in zip(images, (needed * factor).tolist(), strict=True):
        found, labels = run(pgd, model, image[None], ThreatModel(norm, eps), random_start=False)
        assert bool(misclassified(model(found), labels)) is broken


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_fgsm_and_pgd_equal_torchattacks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks
    model, images = Small(), pictures(32, 0.0, 1.0)
    found, labels = run(fgsm, model, images, ThreatModel("linf", 4 / 255))
    torch.testing.assert_close(found, torchattacks.FGSM(model, eps=4 / 255)(images, labels), atol=1e-6, rtol=0)
    found, labels = run(
        pgd,
        model,
        images,
        ThreatModel("linf", 8 / 255),
        steps=7,
        step_size=2 / 255,
        random_start=False,
        early_stop=False,
    )
    theirs = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=7, random_start=False)(images, labels)
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=0)


def test_fgsm_of_a_model_in_half_precision_does_not_depend_on_the_batch() -> None:
    """A label that is nearly sure has a gradient of about e^-14, which divided by 64 is zero."""

    class Sure(Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return (logits + 14 * logits.sign()).half()

    model, images = Sure(), pictures(64, 0.3, 0.7)
    together, _ = run(fgsm, model, images, ThreatModel("linf", 4 / 255))
    one_by_one = torch.cat([run(fgsm, model, one[None], ThreatModel("linf", 4 / 255))[0] for one in images])
    assert torch.equal(together, one_by_one)
    assert (together != images).float().mean() > 0.9


@settings(max_examples=25, deadline=None)
@given(eps=st.floats(0, 0.6), norm=st.sampled_from(["linf", "l2"]), seed=st.integers(0, 9), n=st.integers(1, 5))
def test_budget_and_range_hold(eps: float, norm: str, seed: int, n: int) -> None:
    model, images = Small().eval(), pictures(n, 0.0, 1.0).round(decimals=1)  # pixels at the edges too
    labels = torch.arange(n) % 3  # right and wrong ones
    for attack in [fgsm, pgd] if norm == "linf" else [pgd]:
        found = attack(model, images, labels, ids=names(n), seed=seed, threat=ThreatModel(norm, eps))
        assert found.shape == images.shape
        assert found.dtype == torch.float32
        assert not found.requires_grad
        assert found.min() >= 0
        assert found.max() <= 1
        size = (found - images).abs().amax() if norm == "linf" else l2_norm(found - images).amax()
        assert size <= eps + 1e-6


def test_more_steps_and_restarts_never_help_the_defender() -> None:
    model, images = Small(), pictures(64)
    threat = ThreatModel("linf", 0.06)
    accuracy = []
    for params in ({"steps": 1}, {"steps": 20}, {"steps": 20, "restarts": 3}):
        found, labels = run(pgd, model, images, threat, **params)
        accuracy.append(float((~misclassified(model(found), labels)).float().mean()))
    assert accuracy == sorted(accuracy, reverse=True)
    assert 0 < accuracy[-1] < 1


@pytest.mark.parametrize(
    ("attack", "threat"),
    [
        (fgsm, ThreatModel("linf", 0.05)),
        (pgd, ThreatModel("linf", 0.05)),
        (pgd, ThreatModel("l2", 0.4)),
        (cw, ThreatModel("l2")),
        (cw_search, ThreatModel("l2")),
    ],
)
def test_outcome_does_not_depend_on_batch_or_order(attack: Callable, threat: ThreatModel) -> None:
    model, images, ids = Small().eval(), pictures(64, 0.0, 1.0), names(64)
    labels = (model(images).argmax(dim=1) + (torch.arange(64) % 8 == 0)) % 3  # some are wrong from the start

    def attacked(order: Tensor, size: int) -> Tensor:
        found = torch.empty_like(images)
        for part in order.split(size):
            found[part] = attack(model, images[part], labels[part], ids=[ids[i] for i in part], seed=5, threat=threat)
        return found

    whole = attacked(torch.arange(64), 64)
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    for other in (attacked(torch.arange(64), 1), attacked(torch.arange(64), 7), attacked(shuffled, 7)):
        assert torch.equal(misclassified(model(other), labels), misclassified(model(whole), labels))
        torch.testing.assert_close(l2_norm(other - images), l2_norm(whole - images), atol=1e-3, rtol=1e-2)


def test_draws_follow_seed_and_image_alone() -> None:
    images = pictures(3)
    whole = uniform(images, ["a", "b", "c"], 0, "start")
    assert torch.equal(whole[1:2], uniform(images[:1], ["b"], 0, "start"))
    for other in (uniform(images, ["a", "b", "c"], 1, "start"), uniform(images, ["a", "b", "c"], 0, "end")):
        assert not torch.equal(whole, other)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert normal(images, ["a", "b", "c"], 0, "start").min() < 0


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(pgd, Linear(), pictures(2), ThreatModel("linf", 0.1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("attack", "threat"),
    [
        (fgsm, ThreatModel("linf", 0.05)),
        (pgd, ThreatModel("l2", 0.1)),
        (cw, ThreatModel("l2")),
        (cw_search, ThreatModel("l2")),
    ],
)
def test_the_model_stays_as_it_was(attack: Callable, threat: ThreatModel) -> None:
    model, images = Small().eval(), pictures(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clean = images.clone()
    with torch.no_grad():  # an attack needs gradients whatever its caller has switched off
        run(attack, model, images, threat)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert torch.equal(images, clean)


def test_adam_is_adam() -> None:
    targets = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    theirs = torch.zeros_like(targets, requires_grad=True)
    ours, optimiser, adam = torch.zeros_like(targets), torch.optim.Adam([theirs], lr=0.1), Adam(targets)
    for _ in range(20):
        optimiser.zero_grad()
        (theirs - targets).pow(4).sum().backward()
        optimiser.step()
        ours = ours + adam.step(4 * (ours - targets).pow(3), 0.1)
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-5)


def test_margin_knows_negative_logits() -> None:
    logits, labels = torch.tensor([[5.0, -3.0, -4.0], [-9.0, -2.0, -1.0]]), torch.tensor([0, 0])
    assert margin(logits, labels).tolist() == [8.0, -8.0]
    assert misclassified(logits, labels).tolist() == [False, True]
    assert cross_entropy(logits, labels).shape == (2,)


@settings(max_examples=50, deadline=None)
@given(eps=st.floats(0, 2), scale=st.floats(0, 10))
def test_projections_are_idempotent_and_inside(eps: float, scale: float) -> None:
    images = pictures(3, 0.0, 1.0)
    far = images + scale * torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    for project, size in ((project_linf, lambda d: d.flatten(1).abs().amax(dim=1)), (project_l2, l2_norm)):
        once = project(far, images, eps)
        assert (size(once - images) <= eps + 1e-5).all()
        torch.testing.assert_close(project(once, images, eps), once, atol=1e-5, rtol=0)


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(UsageError, match=r"fgsm: threat model 'l2 0\.5' is not supported; give norm linf"):
        run(fgsm, Linear(), pictures(1), ThreatModel("l2", 0.5))
    with pytest.raises(UsageError, match="does not fit; give an eps"):
        run(pgd, Linear(), pictures(1), ThreatModel("linf"))
    with pytest.raises(UsageError, match="the attack is unbounded"):
        run(cw, Linear(), pictures(1), ThreatModel("l2", 1.0))
    with pytest.raises(ModelError, match="no gradient"):
        gradient(torch.ones(2), pictures(2))
