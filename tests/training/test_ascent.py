"""Sharpness-aware minimisation: against its closed form, against another implementation, and what it leaves behind."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_optimizer import SAM
from torch import nn
from torch.nn.functional import cross_entropy
from training_reference import Pictures, Stop, assert_same_weights, recipe, stop_in, tiny_model

from nsbench import registry
from nsbench.errors import UsageError
from nsbench.models import Model, weights_digest
from nsbench.progress import SILENT
from nsbench.randomness import generator
from nsbench.training import Recipe, Trained, finetune
from nsbench.training.ascent import ascended, gradient_norm
from nsbench.training.optimisation import optimiser_of

DRAWING: dict[str, Any] = {"rounds": 2, "mixup": 0.8, "random_erasing": 0.5, "drop_path": 0.3, "ema": 0.9, "flip": 0.5}


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


def sam(r: Recipe, rho: float, **run: Any) -> Trained:
    return registry.methods["sam"].fit(tiny_model().double(), Pictures(), r, progress=SILENT, rho=rho, **run)


class Bowl(nn.Module):
    """w -> w'Hw / 2, whose gradient is Hw."""

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        root = torch.randn(6, 6, generator=draws, dtype=torch.float64)
        self.H = root @ root.T
        self.first = nn.Parameter(torch.randn(4, generator=draws, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(2, generator=draws, dtype=torch.float64))

    def gradient(self) -> torch.Tensor:
        self.zero_grad()
        w = torch.cat([self.first, self.second])
        (w @ self.H @ w / 2).backward()
        return torch.cat([self.first.grad, self.second.grad])


def test_the_gradient_of_a_quadratic_is_the_closed_form() -> None:
    bowl = Bowl()
    w = torch.cat([bowl.first, bowl.second]).detach().clone()
    slope = bowl.gradient()
    torch.testing.assert_close(gradient_norm(bowl), (bowl.H @ w).norm())
    with ascended(bowl, 0.3):
        found = bowl.gradient()
        reached = torch.cat([bowl.first, bowl.second]).detach().clone()
    torch.testing.assert_close(found, bowl.H @ (w + 0.3 * bowl.H @ w / (bowl.H @ w).norm()))
    torch.testing.assert_close(reached, w + 0.3 * slope / slope.norm())
    assert torch.equal(torch.cat([bowl.first, bowl.second]), w)
    assert torch.equal(torch.cat([bowl.first.grad, bowl.second.grad]), found)


def test_a_gradient_of_zero_moves_nothing() -> None:
    bowl = Bowl()
    bowl.H = torch.zeros_like(bowl.H)
    bowl.gradient()
    with ascended(bowl, 0.3):
        assert bowl.first.isfinite().all()


def squared_norm(groups: list[dict[str, Any]], weight_adaptive: bool) -> torch.Tensor:
    return sum(p.grad.square().sum() for group in groups for p in group["params"]).reshape(1)  # type: ignore[union-attr]


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_steps_equal_those_of_pytorch_optimizer(micro_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW under a constant learning rate; the ascent is that of the whole batch in parts, too.

    The library sums the norm in float32, which moves weights by 1e-7; here it is summed in float64.
    """
    monkeypatch.setattr("pytorch_optimizer.optimizer.sam.get_global_gradient_norm", squared_norm)
    r = recipe(schedule="constant", micro_batch=micro_batch)
    found = sam(r, 0.2)
    model, train = tiny_model().double().requires_grad_(True), Pictures()
    groups = [{key: group[key] for key in ("params", "weight_decay")} for group in optimiser_of(model, r).param_groups]
    optimiser = SAM(groups, torch.optim.AdamW, rho=0.2, lr=r.lr)
    order = np.concatenate([generator(r.seed, "training", "order", epoch).permutation(10) for epoch in (0, 1)])
    for step in range(r.steps):
        chosen = order[step * 4 : step * 4 + 4]
        images = torch.from_numpy(train.pixels[chosen]).permute(0, 3, 1, 2).float() / 255

        labels = torch.from_numpy(train.labels[chosen])

        def closure(images: torch.Tensor = images, labels: torch.Tensor = labels) -> torch.Tensor:
            optimiser.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            return loss

        closure()
        optimiser.step(closure)
    assert_same_weights(found, model.timm_state_dict(), 1e-12)


def test_radius_zero_is_the_control_bit_for_bit_with_every_draw() -> None:
    r = recipe(**DRAWING)
    control = finetune(tiny_model(), Pictures(), r)
    flat = finetune(tiny_model(), Pictures(), r, ascent=0.0)
    assert weights_digest(flat.model) == weights_digest(control.model)
    assert [entry.losses["clean"] for entry in flat.history] == [entry.losses["clean"] for entry in control.history]
    assert flat.history[0].losses["clean_ascended"] == flat.history[0].losses["clean"], "the same draws in both passes"


def test_the_worst_weights_are_a_radius_away_and_the_same_images_are_seen_there() -> None:
    weights: list[torch.Tensor] = []
    images: list[torch.Tensor] = []

    def losses(model: Model, seen: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        weights.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
        images.append(seen)
        return {"clean": criterion(model(seen), targets)}

    r = recipe(**DRAWING)
    found = finetune(tiny_model().double(), Pictures(), r, losses=losses, ascent=0.2)
    before, worst = weights[::2], weights[1::2]
    for one, other in zip(before, worst, strict=True):
        assert (other - one).norm().item() == pytest.approx(0.2, abs=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(images[::2], images[1::2], strict=True))
    assert found.history[0].losses["clean_ascended"] > found.history[0].losses["clean"]


def test_what_the_second_pass_fails_in_leaves_the_weights_where_they_were() -> None:
    model = tiny_model().requires_grad_(True)
    cross_entropy(model(torch.rand(4, 3, 16, 16)), torch.arange(4)).backward()
    digest = weights_digest(model)

    def fail() -> None:
        with ascended(model, 0.5):
            assert weights_digest(model) != digest
            raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError):
        fail()
    assert weights_digest(model) == digest


def test_running_statistics_move_once() -> None:
    def net() -> Model:
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)
        )
        layers.num_classes = 5  # type: ignore[assignment]
        like = tiny_model()
        return Model(layers, name="cnn", preprocessing=like.preprocessing, mean=like.mean, std=like.std)

    one = recipe(steps_per_round=1)
    control, other = (finetune(net(), Pictures(), one, ascent=radius).model for radius in (None, 0.1))
    assert torch.equal(control.vit[1].running_mean, other.vit[1].running_mean)
    assert not torch.equal(net().vit[1].running_mean, other.vit[1].running_mean)
    assert not torch.equal(control.vit[0].weight, other.vit[0].weight)


def test_central_differences_at_the_worst_weights() -> None:
    model = tiny_model().double().requires_grad_(True)
    draws = torch.Generator().manual_seed(4)
    images, labels = torch.rand(4, 3, 16, 16, generator=draws).double(), torch.arange(4)

    def loss(at: Model) -> torch.Tensor:
        return cross_entropy(at(images), labels)

    loss(model).backward()
    with ascended(model, 0.2):
        model.zero_grad()
        loss(model).backward()
        moved = deepcopy(model)
    direction = [torch.randn(p.shape, generator=draws, dtype=p.dtype) for p in model.parameters()]
    slope = sum((p.grad * d).sum() for p, d in zip(model.parameters(), direction, strict=True))
    sides = []
    with torch.no_grad():
        for sign in (1, -1):
            there = deepcopy(moved)
            for p, d in zip(there.parameters(), direction, strict=True):
                p.add_(sign * 1e-5 * d)
            sides.append(loss(there))
    torch.testing.assert_close(slope, (sides[0] - sides[1]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    r = recipe(**(DRAWING | {"rounds": 3}))
    whole = sam(r, 0.2)
    with pytest.raises(Stop):
        sam(r, 0.2, checkpoint=tmp_path / "training", on_round=stop_in(2))
    rest = sam(r, 0.2, checkpoint=tmp_path / "training")
    assert weights_digest(rest.model) == weights_digest(whole.model)


def test_it_costs_twice_as_much() -> None:
    assert sam(recipe(), 0.2).history[0].forward_equivalents == 2 * 3 * 4 * 3
    bounded = sam(recipe(compute=2 * 3 * 4 * 5, rounds=1), 0.2)
    assert [entry.step for entry in bounded.history] == [3, 5]


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_a_radius_that_is_none_is_refused_before_anything_is_read(rho: float) -> None:
    with pytest.raises(UsageError, match=rf"radius of the ascent is {rho:g}, and must be 0 or more"):
        registry.methods["sam"].fit(tiny_model(), Pictures(0), recipe(), progress=SILENT, rho=rho)
