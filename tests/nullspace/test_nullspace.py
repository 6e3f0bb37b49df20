"""Noise of the epsilon-approximate nullspace, against a loop written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from nsbench.errors import TrainingError, UsageError
from nsbench.models import Model, Preprocessing, weights_digest
from nsbench.nullspace import LOSSES, learn_noise, mse_probability, noise_influence
from nsbench.randomness import derive_seed


def tiny_model(spread: float = 0.5) -> Model:
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=2, num_classes=5)
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():  # all anew: timm's own initialisation draws from the global state
        for parameter in vit.parameters():
            start = 1.0 if parameter.mean() == 1 else 0.0  # the scale of a layer norm
            parameter.copy_(start + torch.randn(parameter.shape, generator=draws) * spread)
    return Model(vit, name="tiny", preprocessing=Preprocessing(16), mean=(0.5,) * 3, std=(0.5,) * 3)


def pictures(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def test_mse_probability_in_closed_form() -> None:
    certain, other = torch.tensor([[100.0, 0.0], [100.0, 0.0]]), torch.tensor([[0.0, 100.0], [100.0, 0.0]])
    assert mse_probability(certain, other).item() == pytest.approx(1.0)  # (1 + 1) on one of two images
    assert mse_probability(torch.zeros(3, 4), torch.zeros(3, 4)).item() == 0
    half = mse_probability(torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])).item()
    assert half == pytest.approx(2 * 0.25**2)


def reference(
    model: Model,
    batches: list[torch.Tensor],
    start: torch.Tensor,
    epsilon: float,
    lr: float,
    max_steps: int,
    squared: bool,
) -> tuple[torch.Tensor, int, float]:
    """Equations 7 and 8 with AdamW (betas 0.9, 0.999; weight decay 0.01) in plain arithmetic."""
    noise, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step in range(max_steps + 1):
        images = batches[step % len(batches)]
        variable = noise.clone().requires_grad_()
        clean, noisy = model(images).detach(), model.head(model.encode(model.embed(images) + variable))
        distance = ((noisy.softmax(1) - clean.softmax(1)) ** 2).sum(1).mean().item()
        if distance < epsilon or step == max_steps:
            return noise, step, distance
        change = ((noisy - clean) ** 2).sum(1)
        gradient = torch.autograd.grad((change if squared else change.sqrt()).mean(), variable)[0]
        noise = noise * (1 - lr * 0.01)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        unbiased = second / (1 - 0.999 ** (step + 1))
        noise = noise - lr * (first / (1 - 0.9 ** (step + 1))) / (unbiased.sqrt() + 1e-8)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch_size", [None, 2, 4])
def test_against_a_hand_written_loop(loss: str, batch_size: int | None) -> None:
    model, images = tiny_model(), pictures()
    draw = torch.rand(1, 4, 12, generator=torch.Generator().manual_seed(derive_seed(7, "nullspace noise", 2)))
    start = (2 * draw - 1) * 3
    batches = list(images.split(batch_size or 6))
    expected, steps, distance = reference(model, batches, start, 1e-2, 0.1, 200, loss == "squared_l2")
    learnt = learn_noise(
        model, images, epsilon=1e-2, lr=0.1, limit=3.0, max_steps=200, loss=loss, batch_size=batch_size, seed=7, round=2
    )
    assert steps > 3
    assert learnt.steps == steps
    assert learnt.mse_probability == pytest.approx(distance, abs=1e-6)
    torch.testing.assert_close(learnt.noise_1ND, expected, rtol=0, atol=1e-4)
    assert learnt.norm == pytest.approx(expected.norm().item(), rel=1e-4)


def test_stops_as_soon_as_it_is_inside() -> None:
    model, images = tiny_model(), pictures()
    loose, tight = (learn_noise(model, images, epsilon=epsilon, max_steps=500) for epsilon in (1e-1, 1e-3))
    for epsilon, learnt in ((1e-1, loose), (1e-3, tight)):
        assert learnt.converged
        assert learnt.mse_probability < epsilon
        assert noise_influence(model, images, learnt.noise_1ND) == pytest.approx(learnt.mse_probability, abs=1e-6)
        before = learn_noise(model, images, epsilon=epsilon, max_steps=learnt.steps - 1)
        assert not before.converged
        assert before.mse_probability >= epsilon
    assert loose.steps < tight.steps


def test_nothing_to_learn_takes_no_step() -> None:
    learnt = learn_noise(tiny_model(), pictures(), epsilon=2.1, limit=1.0)
    assert (learnt.steps, learnt.converged) == (0, True)
    assert learnt.noise_1ND.abs().max() <= 1
    assert learnt.noise_1ND.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.3)  # uniform in (-1, 1)


def test_it_begins_where_it_is_told() -> None:
    model, images = tiny_model(), pictures()
    loose = learn_noise(model, images, epsilon=1e-1, max_steps=500)
    assert loose.steps
    again = learn_noise(model, images, epsilon=1e-1, max_steps=500, start=loose.noise_1ND)
    assert (again.steps, again.converged) == (0, True), "it is inside already"
    torch.testing.assert_close(again.noise_1ND, loose.noise_1ND, rtol=0, atol=0)
    fresh, warm = (
        learn_noise(model, images, epsilon=1e-3, max_steps=500, start=start) for start in (None, loose.noise_1ND)
    )
    assert warm.converged
    assert warm.steps < fresh.steps


def test_who_watches_is_told_the_distance_of_every_step() -> None:
    told: list[tuple[int, float]] = []
    learnt = learn_noise(
        tiny_model(), pictures(), epsilon=1e-12, max_steps=3, watch=lambda step, distance: told.append((step, distance))
    )
    assert [step for step, _ in told] == [0, 1, 2, 3]
    assert told[-1] == (learnt.steps, learnt.mse_probability)


def test_the_step_limit_is_kept_and_told() -> None:
    learnt = learn_noise(tiny_model(), pictures(), epsilon=1e-12, max_steps=3)
    assert (learnt.steps, learnt.converged) == (3, False)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_nan_where_the_logits_are_equal(loss: str) -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    LOSSES[loss](logits, logits.detach()).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(3, 5))


def test_zero_noise_has_no_influence() -> None:
    assert noise_influence(tiny_model(), pictures(), torch.zeros(1, 4, 12)) == 0


def test_the_model_stays_as_it_was() -> None:
    model = tiny_model().train()
    digest = weights_digest(model)
    with torch.no_grad():
        learn_noise(model, pictures(), max_steps=2)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert weights_digest(model) == digest


def test_seed_and_round_decide_the_draw() -> None:
    model, images = tiny_model(), pictures()

    def draw(**kwargs: int) -> torch.Tensor:
        return learn_noise(model, images, max_steps=1, **kwargs).noise_1ND  # type: ignore[arg-type]

    torch.manual_seed(0)
    first = draw(seed=1, round=0)
    assert torch.equal(first, draw(seed=1, round=0))
    assert not torch.equal(first, draw(seed=2, round=0))
    assert not torch.equal(first, draw(seed=1, round=1))


def test_trouble_is_named() -> None:
    model = tiny_model()
    with pytest.raises(UsageError, match="l2, squared_l2"):
        learn_noise(model, pictures(), loss="l1")
    with torch.no_grad():
        model.vit.head.bias[0] = float("nan")
    with pytest.raises(TrainingError, match="NaN logits at step 0"):
        learn_noise(model, pictures())
