"""A budget that grows, and APGD: against the formula, against another implementation, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack
from torch.nn.functional import cross_entropy
from training_reference import Pictures, Stop, Terms, assert_same_weights, recipe, reference, stop_in, tiny_model

from nsbench import registry
from nsbench.errors import UsageError
from nsbench.models import Model, frozen, weights_digest
from nsbench.progress import SILENT
from nsbench.randomness import derive_seed
from nsbench.training import Adversary, Recipe, Trained, adversarial, finetune
from nsbench.training.augment import seeded

EPS = 8 / 255


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


def fit(name: str, r: Recipe, **run: Any) -> Trained:
    return registry.methods[name].fit(tiny_model().double(), Pictures(), r, progress=SILENT, **run)


def images_of(n: int) -> torch.Tensor:
    return torch.from_numpy(Pictures(n).pixels).permute(0, 3, 1, 2).float() / 255


def growing_pgd(r: Recipe, warmup: float) -> Terms:
    """Madry's step, with budget and step size as they are at that step."""

    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        share = min(1.0, step / r.steps / warmup)
        eps, size = r.attack_eps * share, r.attack_step_size * share
        with seeded(derive_seed(r.seed, "training", "step", step)):
            current = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
        with frozen(model):
            for _ in range(r.attack_steps):
                current = current.detach().requires_grad_(True)
                (slope,) = torch.autograd.grad(cross_entropy(model(current), labels), current)
                current = current.detach() + size * slope.sign()
                current = (images + (current - images).clamp(-eps, eps)).clamp(0, 1)
        model.train()
        return [cross_entropy(model(current.detach()), labels)]

    return terms


@pytest.mark.parametrize("warmup", [0.5, 1.0])
def test_the_budget_grows_linearly_from_nothing(warmup: float) -> None:
    r = recipe(attack_steps=3, steps_per_round=5)
    expected, _ = reference(tiny_model().double(), Pictures(), r, growing_pgd(r, warmup))
    assert_same_weights(fit("madry", r, eps_warmup=warmup), expected, 1e-9)


@pytest.mark.parametrize("name", ["madry", "trades"])
def test_budgets_of_a_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    seen: list[float] = []
    kind = torchattacks.PGD if name == "madry" else torchattacks.TPGD
    original = kind.__init__

    def note(self: Any, model: Model, eps: float, alpha: float, steps: int) -> None:
        seen.append(eps / EPS)
        assert alpha / eps == pytest.approx(1 / 4) if eps else alpha == 0
        original(self, model, eps=eps, alpha=alpha, steps=steps)

    monkeypatch.setattr(kind, "__init__", note)
    r = recipe(attack_steps=1, rounds=2, steps_per_round=4, micro_batch=2)
    fit(name, r, eps_warmup=0.5)
    assert seen[::2] == seen[1::2] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1])  # both parts of a step
    seen.clear()
    fit(name, r)
    assert seen == [1.0] * 16


def test_growth_goes_on_where_a_training_was_interrupted(tmp_path: Path) -> None:
    r = recipe(attack_steps=2, rounds=3)
    whole = fit("madry", r, eps_warmup=1.0, attack="apgd")
    with pytest.raises(Stop):
        fit("madry", r, eps_warmup=1.0, attack="apgd", checkpoint=tmp_path / "training", on_round=stop_in(2))
    rest = fit("madry", r, eps_warmup=1.0, attack="apgd", checkpoint=tmp_path / "training")
    assert weights_digest(rest.model) == weights_digest(whole.model)


# APGD


@pytest.mark.parametrize("count", [1, 7])
def test_apgd_equals_pyautoattack(count: int) -> None:
    model, images = tiny_model(), images_of(count)
    labels = torch.arange(count) % 5
    r = recipe(attack_steps=12)
    with seeded(3):
        found = adversarial(model, images, labels, r, attack="apgd")
    other = APGDAttack(model, n_iter=12, norm="Linf", eps=EPS, loss="ce", device=torch.device("cpu"))
    other.init_hyperparam(images)
    with seeded(3), frozen(model):
        best, *_ = other.attack_single_run(images, labels)
    torch.testing.assert_close(found, best, rtol=0, atol=1e-6)
    assert (found - images).abs().max() <= EPS + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


def test_apgd_also_moves_images_that_are_misclassified_already_and_finds_more_loss_than_pgd() -> None:
    model, images = tiny_model(), images_of(20)
    wrong = (model(images).argmax(dim=1) + 1) % 5
    r = recipe(attack_steps=10)
    with seeded(3):
        found = adversarial(model, images, wrong, r, attack="apgd")
    assert ((found - images).flatten(1).abs().amax(dim=1) > 1 / 255).all()
    with seeded(3):
        plain = adversarial(model, images, wrong, r)
    losses = [cross_entropy(model(x), wrong).item() for x in (images, plain, found)]
    assert losses[0] < losses[1] < losses[2] + 1e-3


def test_its_draws_are_those_of_the_step() -> None:
    model, images, labels = tiny_model(), images_of(4), torch.arange(4)
    r = recipe(attack_steps=1)

    def made(seed: int) -> tuple[torch.Tensor, float]:
        with seeded(seed):
            return adversarial(model, images, labels, r, attack="apgd"), torch.rand(1).item()

    first, again, other = made(1), made(1), made(2)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert not torch.equal(first[0], other[0])
    assert first[1] != other[1], "the generator is not seeded anew on the way"


def test_modes_and_flags_are_as_before() -> None:
    model = tiny_model().train()
    adversarial(model, images_of(4), torch.arange(4), recipe(attack_steps=2), attack="apgd")
    assert model.vit.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_training_on_it_and_what_it_costs() -> None:
    entry = fit("madry", recipe(attack_steps=5), attack="apgd").history[0]
    assert entry.forward_equivalents == (2 * (1 + 5) + 3) * 4 * 3  # a gradient at the start and at every step
    assert entry.losses.keys() == {"adversarial"}


def test_central_differences_of_what_a_step_descends() -> None:
    """The images are fixed once they are made, so the gradient is that of the loss on them."""
    model, labels = tiny_model().double(), torch.arange(4)
    with seeded(1):
        made = adversarial(model, images_of(4).double(), labels, recipe(attack_steps=3), attack="apgd")
    assert not made.requires_grad
    assert made.dtype == torch.float64
    weight = model.vit.blocks[0].mlp.fc1.weight
    (slope,) = torch.autograd.grad(cross_entropy(model(made), labels), weight)
    with torch.no_grad():
        sides = []
        for sign in (1, -2):
            weight[0, 0] += sign * 1e-5
            sides.append(cross_entropy(model(made), labels))
    torch.testing.assert_close(slope[0, 0], (sides[0] - sides[1]) / 2e-5, rtol=1e-6, atol=1e-9)


# What cannot be


def test_settings_that_cannot_be_are_refused_before_the_training() -> None:
    for settings, message in (
        ({"attack": "fgsm"}, "attack 'fgsm' is none of pgd, apgd"),
        ({"eps_warmup": 1.5}, "eps_warmup 1.5 is no share of the steps"),
        ({"eps_warmup": float("nan")}, "eps_warmup nan is no share of the steps"),
    ):
        with pytest.raises(UsageError, match=message):
            registry.methods["madry"].fit(tiny_model(), Pictures(0), recipe(), progress=SILENT, **settings)
    for fields in ({"mixup": 0.8}, {"cutmix": 1.0}):
        with pytest.raises(UsageError, match="apgd needs one label an image, and recipe 'test' mixes them"):
            registry.methods["madry"].fit(tiny_model(), Pictures(0), recipe(**fields), progress=SILENT, attack="apgd")
    assert Adversary(recipe(mixup=0.8)).attack == "pgd"


def test_losses_are_told_how_much_is_done_only_where_they_ask() -> None:
    told: list[float] = []

    def losses(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any, *, done: float) -> Any:
        told.append(done)
        return {"clean": criterion(model(images), targets)}

    asked = finetune(tiny_model(), Pictures(), recipe(rounds=2, steps_per_round=2), losses=losses)
    assert told == [0, 0.25, 0.5, 0.75]
    control = finetune(tiny_model(), Pictures(), recipe(rounds=2, steps_per_round=2))
    assert weights_digest(asked.model) == weights_digest(control.model)
