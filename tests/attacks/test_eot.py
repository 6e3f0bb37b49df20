"""Averaging passes: one pass is the attack as it was, and many follow what a model that draws gives on average."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_attacks import Small, names, pictures
from torch import Tensor, nn

from nsbench.attacks import cw, cw_search, fgsm, pgd, stadv
from nsbench.attacks.common import averaged, cross_entropy, gradient, mean_of
from nsbench.errors import UsageError
from nsbench.types import ThreatModel

LINF, L2, FLOW = ThreatModel("linf", 0.02), ThreatModel("l2"), ThreatModel("flow", share=0.1)


class Noisy(nn.Module):
    """Two classes; the gradient is a direction plus noise of thrice its size, drawn in every pass for every image."""

    def __init__(self, noise: float = 3.0) -> None:
        super().__init__()
        self.noise = noise
        self.register_buffer("direction", torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1)).sign())

    def forward(self, images: Tensor) -> Tensor:
        drawn = self.direction + self.noise * torch.randn_like(images)
        score = (drawn * (images - 0.5)).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def attacked(attack: Callable, eot: int, **params: object) -> tuple[Tensor, Tensor]:
    """Which images the model on average gets wrong afterwards: they start 0.4 from its boundary, eps allows 0.96."""
    torch.manual_seed(0)
    model = Noisy()
    images = (0.5 + 0.4 / 48 * model.direction).expand(200, 3, 4, 4).clone()
    found = attack(
        model, images, torch.ones(200, dtype=torch.long), ids=names(200), seed=0, threat=LINF, eot=eot, **params
    )
    return Noisy(noise=0.0)(found).argmax(dim=1) == 0, found


@pytest.mark.parametrize(("attack", "params"), [(fgsm, {}), (pgd, {"steps": 3, "early_stop": False})])
def test_many_passes_break_more_than_one(attack: Callable, params: dict) -> None:
    """On average 0.63 of a sign step's pixels go the right way with one pass, and 0.91 with sixteen."""
    one, many = (int(attacked(attack, eot, **params)[0].sum()) for eot in (1, 16))
    assert one < 60
    assert many > 190


@pytest.mark.parametrize(
    ("attack", "threat"),
    [(fgsm, LINF), (pgd, LINF), (pgd, ThreatModel("l2", 0.3)), (cw, L2), (cw_search, L2), (stadv, FLOW)],
)
def test_a_model_that_draws_nothing_gets_the_same_images(attack: Callable, threat: ThreatModel) -> None:
    """One pass to the bit; several but for rounding, of which a sign step makes nothing here."""
    model, images = Small().eval(), pictures(24, 0.0, 1.0)
    labels = model(images).argmax(dim=1)
    call = {"ids": names(24), "seed": 1, "threat": threat}
    plain = attack(model, images, labels, **call)
    assert torch.equal(attack(model, images, labels, eot=1, **call), plain)
    assert torch.allclose(attack(model, images, labels, eot=4, **call), plain, atol=1e-5)


def test_one_pass_is_one_call_and_no_gradient_unless_it_is_asked_for() -> None:
    model, calls = Small().eval(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    variable, labels = pictures(4).requires_grad_(), torch.zeros(4, dtype=torch.long)
    logits, loss, slope = averaged(model, variable, labels, 1)
    assert len(calls) == 1
    assert torch.equal(logits, model(variable))
    assert torch.equal(slope(), gradient(cross_entropy(model(variable), labels), variable))
    assert loss.requires_grad


def test_means_are_those_of_the_passes() -> None:
    """Against the passes themselves, drawn again."""
    model, variable, labels = Noisy(), pictures(5).requires_grad_(), torch.ones(5, dtype=torch.long)
    torch.manual_seed(7)
    logits, loss, slope = averaged(model, variable, labels, 3)
    torch.manual_seed(7)
    passes = [model(variable) for _ in range(3)]
    losses = torch.stack([cross_entropy(one, labels) for one in passes])
    assert torch.allclose(logits, torch.stack(passes).mean(dim=0))
    assert torch.allclose(loss, losses.mean(dim=0))
    assert torch.allclose(slope(), gradient(losses.mean(dim=0), variable), atol=1e-6)
    torch.manual_seed(7)
    assert torch.allclose(mean_of(model, 3)(variable), torch.stack(passes).mean(dim=0))
    assert mean_of(model, 1) is model


@pytest.mark.parametrize(("attack", "threat"), [(fgsm, LINF), (pgd, LINF), (cw, L2), (cw_search, L2), (stadv, FLOW)])
def test_no_pass_is_refused(attack: Callable, threat: ThreatModel) -> None:
    with pytest.raises(UsageError, match=r"eot=0 is not possible; give the number of passes to average, 1 or more"):
        attack(Small(), pictures(1), torch.tensor([0]), ids=["a"], seed=0, threat=threat, eot=0)
