"""Each method against its formula, written out by hand; what it costs; chains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from training_reference import Pictures, Terms, assert_same_weights, recipe, reference, tiny_model, with_noise

import nsbench as nb
from nsbench import registry
from nsbench.errors import NsbenchError, UnknownName, UsageError
from nsbench.models import Model, frozen, weights_digest
from nsbench.nullspace import learn_noise, mse_probability, noise_influence, scale_noise
from nsbench.progress import SILENT
from nsbench.randomness import derive_seed
from nsbench.run.fit import Fitter
from nsbench.training import Recipe, Trained, finetune
from nsbench.training.augment import seeded

EPS, SIZE = 8 / 255, 2 / 255


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


def precise() -> Model:
    """In float64, so that AdamW does not make a step out of the rounding of a gradient near zero."""
    return tiny_model().double()


def fit(name: str, r: Recipe, model: Model | None = None) -> Trained:
    return registry.methods[name].fit(model or precise(), Pictures(), r, progress=SILENT)


def ascend(model: Model, images: torch.Tensor, start: torch.Tensor, loss: Callable, steps: int) -> torch.Tensor:
    """Signed steps in the l-infinity ball, as in both papers' own code."""
    current = start
    with frozen(model):
        for _ in range(steps):
            current = current.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(model(current)), current)
            current = current.detach() + SIZE * slope.sign()
            current = (images + (current - images).clamp(-EPS, EPS)).clamp(0, 1)
    return current.detach()


def madry_terms(r: Recipe, clean: bool) -> Terms:
    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        with seeded(derive_seed(r.seed, "training", "step", step)):
            start = (images + torch.empty_like(images).uniform_(-EPS, EPS)).clamp(0, 1)
        adversarial = ascend(model, images, start, lambda logits: cross_entropy(logits, labels), r.attack_steps)
        model.train()
        return [cross_entropy(model(x), labels) for x in ([images] if clean else []) + [adversarial]]

    return terms


def trades_terms(r: Recipe) -> Terms:
    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        with seeded(derive_seed(r.seed, "training", "step", step)):
            start = (images + 0.001 * torch.randn_like(images)).clamp(0, 1)
        with torch.no_grad():
            target = model(images).softmax(dim=1)
        adversarial = ascend(
            model,
            images,
            start,
            lambda logits: kl_div(logits.log_softmax(dim=1), target, reduction="sum"),
            r.attack_steps,
        )
        model.train()
        clean, other = model(images), model(adversarial)
        p, q = clean.softmax(dim=1), other.softmax(dim=1)
        return [cross_entropy(clean, labels), r.trades_beta * (p * (p.log() - q.log())).sum(dim=1).mean()]

    return terms


@pytest.mark.parametrize("loss", ["adversarial", "clean+adversarial"])
def test_madry_against_its_formula(loss: str) -> None:
    r = recipe(attack_steps=4, madry_loss=loss)
    expected, losses = reference(precise(), Pictures(), r, madry_terms(r, clean=loss == "clean+adversarial"))
    model = fit("madry", r)
    assert_same_weights(model, expected, 1e-9)
    assert model.history[0].losses["adversarial"] == pytest.approx(sum(step[-1] for step in losses) / 3, abs=1e-6)
    assert ("clean" in model.history[0].losses) == (loss == "clean+adversarial")


def test_trades_against_its_formula() -> None:
    r = recipe(attack_steps=4, trades_beta=6.0)
    expected, losses = reference(precise(), Pictures(), r, trades_terms(r))
    model = fit("trades", r)
    assert_same_weights(model, expected, 1e-9)
    assert model.history[0].losses["clean"] == pytest.approx(sum(step[0] for step in losses) / 3, abs=1e-6)
    assert model.history[0].losses["kl"] == pytest.approx(sum(step[1] for step in losses) / 3, abs=1e-6)


def test_adversarial_training_takes_soft_targets_and_erased_pixels() -> None:
    r = recipe(mixup=0.8, random_erasing=1.0, attack_steps=2)
    for name in ("madry", "trades"):
        assert all(value > 0 for value in fit(name, r).history[0].losses.values())


@pytest.mark.parametrize("outer", ["clean+noisy", "noisy"])
def test_ns_against_its_formula(outer: str) -> None:
    r = recipe(epsilon=1e-3, noise_limit=2.0, noise_max_steps=6, outer=outer)
    seen: list[torch.Tensor] = []
    original = registry.methods["ns"].fit(precise(), Pictures(), r, progress=SILENT)

    def perturb(model: Model, images: Any, round: int) -> Any:
        learnt = learn_noise(model, images.batches, epsilon=1e-3, limit=2.0, max_steps=6, seed=r.seed, round=round)
        seen.append(learnt.noise_1ND)
        return learnt

    finetune(precise(), Pictures(), r, perturb=perturb)
    both = with_noise(seen[0])
    expected, _ = reference(
        precise(), Pictures(), r, both if outer == "clean+noisy" else lambda *given: both(*given)[1:]
    )
    assert_same_weights(original, expected)
    assert ("clean" in original.history[0].losses) == (outer == "clean+noisy")


HELD_OUT = {"noise_batch": 2, "noise_batches": 20, "noise_held_out": 16, "noise_stop": "held-out"}


def test_ns_learns_each_round_s_noise_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def spy(model: Model, batches: Any, **given: Any) -> Any:
        learnt = learn_noise(model, batches, **given)
        calls.append(given | {"found": learnt.noise_1ND})
        return learnt

    monkeypatch.setattr(nb, "learn_noise", spy)
    told = {"epsilon": 2e-3, "noise_lr": 0.07, "noise_limit": 1.5, "noise_max_steps": 9, "noise_loss": "squared_l2"}
    r = recipe(rounds=3, seed=5, noise_weight_decay=0.3, noise_start="last", **told, **HELD_OUT)
    registry.methods["ns"].fit(tiny_model(), Pictures(40), r, progress=SILENT)
    assert [one["round"] for one in calls] == [0, 1, 2]
    for one in calls:
        assert (one["epsilon"], one["lr"], one["limit"], one["max_steps"]) == (2e-3, 0.07, 1.5, 9)
        assert (one["loss"], one["weight_decay"], one["seed"], len(one["held_out"])) == ("squared_l2", 0.3, 5, 16)
    assert calls[0]["start"] is None
    assert torch.equal(calls[1]["start"], calls[0]["found"])
    assert torch.equal(calls[2]["start"], calls[1]["found"])


def test_random_noise_is_scaled_each_round_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def spy(model: Model, batches: Any, **given: Any) -> Any:
        calls.append(given)
        return scale_noise(model, batches, **given)

    monkeypatch.setattr(nb, "scale_noise", spy)
    r = recipe(rounds=2, seed=5, epsilon=2e-3, noise_shrink=0.6, **HELD_OUT)
    registry.methods["random_noise"].fit(tiny_model(), Pictures(40), r, progress=SILENT)
    assert [one["round"] for one in calls] == [0, 1]
    for one in calls:
        assert (one["epsilon"], one["shrink"], one["seed"], len(one["held_out"])) == (2e-3, 0.6, 5, 16)


@pytest.mark.parametrize("name", ["ns", "random_noise"])
def test_held_out_images_stop_the_noise_of_a_training(name: str) -> None:
    """Learnt on two images at a time alone, it is still outside on others."""
    by_stop = {}
    for stop in ("batch", "held-out"):
        r = recipe(rounds=3, epsilon=1e-3, noise_max_steps=800, **HELD_OUT | {"noise_stop": stop})
        history = registry.methods[name].fit(tiny_model(), Pictures(40), r, progress=SILENT).history
        assert all(entry.noise.converged for entry in history)
        by_stop[stop] = [entry.noise.mse_probability_held_out for entry in history]
    assert max(by_stop["held-out"]) < 1e-3 < max(by_stop["batch"])


def test_random_noise_shrinks_by_batches_until_it_is_inside() -> None:
    model, pictures = tiny_model(), Pictures(40)
    images = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2).float() / 255
    found = scale_noise(model, images.split(4), epsilon=2e-3, seed=1, round=2)
    start = torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(derive_seed(1, "random noise", 2)))
    assert found.converged
    assert found.steps > 0
    torch.testing.assert_close(found.noise_1ND, start * 0.8**found.steps)
    batches = images.split(4)
    distances = [noise_influence(model, batches[k % 10], start * 0.8**k) for k in range(found.steps + 1)]
    assert [d < 2e-3 for d in distances] == [False] * found.steps + [True]
    assert found.mse_probability == pytest.approx(distances[-1], rel=1e-5)
    with pytest.raises(UsageError, match=r"shrink 1 must be between 0 and 1"):
        scale_noise(model, images, shrink=1.0)


def test_random_noise_trains_like_ns_with_other_noise() -> None:
    r = recipe(rounds=2, epsilon=1e-3, noise_batches=20)
    history = fit("random_noise", r).history
    assert all(entry.noise.converged and entry.noise.mse_probability < 1e-3 for entry in history)
    assert history[0].noise.norm != history[1].noise.norm


# The stop


def images_of(n: int) -> torch.Tensor:
    return torch.from_numpy(Pictures(n).pixels).permute(0, 3, 1, 2).float() / 255


def test_held_out_images_must_be_inside_too() -> None:
    model, images = tiny_model(), images_of(24)
    shown, hidden = images[:4], images[4:]
    lucky = learn_noise(model, shown, epsilon=1e-3, max_steps=800, seed=3)
    fair = learn_noise(model, shown, held_out=hidden, epsilon=1e-3, max_steps=800, seed=3)
    assert lucky.converged
    assert noise_influence(model, hidden, lucky.noise_1ND) > 1e-3
    assert fair.steps > lucky.steps
    if fair.converged:
        assert noise_influence(model, hidden, fair.noise_1ND) < 1e-3


def test_an_iterator_gives_a_new_batch_at_every_step_and_a_list_comes_again() -> None:
    model, images, asked = tiny_model(), images_of(40), []

    def stream() -> Iterator[torch.Tensor]:
        for number, part in enumerate(images.split(4)):
            asked.append(number)
            yield part

    learn_noise(model, stream(), epsilon=1e-12, max_steps=7)
    assert asked == list(range(8))
    learn_noise(model, list(images.split(4))[:2], epsilon=1e-12, max_steps=7)


def test_recipe_zero_batches_means_new_ones() -> None:
    counts = []

    def perturb(model: Model, images: Any, round: int) -> Any:
        parts = [next(images.batches) for _ in range(5)]
        counts.append(len({part.numpy().tobytes() for part in parts}))
        return None

    finetune(tiny_model(), Pictures(60), recipe(noise_batches=0, noise_max_steps=10, noise_held_out=8), perturb=perturb)
    assert counts == [5]


# Cost, in forward passes of one image


def test_costs_are_counted_in_forward_equivalents() -> None:
    batch, steps = 4, 3
    plain = fit("finetune", recipe()).history[0].forward_equivalents
    assert plain == 3 * batch * steps  # forward, gradients of activations, gradients of weights
    assert fit("madry", recipe(attack_steps=5)).history[0].forward_equivalents == (2 * 5 + 3) * batch * steps
    # TRADES: the target of the attack, its steps, and two passes that are trained on
    assert fit("trades", recipe(attack_steps=5)).history[0].forward_equivalents == (1 + 2 * 5 + 6) * batch * steps
    inner = 1 * batch + 3 * batch + 2 * 2 * batch  # clean once, three noisy passes, two gradients; held out: see below
    ns = fit("ns", recipe(epsilon=1e-9, noise_max_steps=2)).history[0].forward_equivalents
    assert ns == 6 * batch * steps + inner - 2 * batch + 2 * batch  # two backward passes for the input; influence


def test_equal_compute_ends_where_the_cost_does() -> None:
    budget = 3 * 4 * 7
    model = fit("finetune", recipe(compute=budget, rounds=1, steps_per_round=3))
    assert [entry.step for entry in model.history] == [3, 6, 7]
    assert sum(entry.forward_equivalents for entry in model.history) == budget
    assert model.history[-1].lr < 2e-3  # the cosine has come down as far as the budget is used
    dear = fit("madry", recipe(compute=budget, attack_steps=5))
    assert [entry.step for entry in dear.history] == [2]


# Chains


def test_a_chain_goes_on_from_the_model_of_the_one_before(tmp_path: Any) -> None:
    chain = registry.methods["finetune+ns"]
    assert (chain.name, chain.title, chain.trains) == ("finetune+ns", "finetune (control) + NS", True)
    assert "finetune+ns" in registry.methods
    assert "finetune+nothing" not in registry.methods
    with pytest.raises(UnknownName):
        registry.methods["finetune+nothing"]
    with pytest.raises(NsbenchError, match="fitted one by one"):
        chain.fit(None, None, None)
    parent, r, source = tiny_model(), recipe(noise_max_steps=2), Source()
    fitter = Fitter(r, source, SILENT, folder=tmp_path)
    assert fitter.key(chain, parent, "p") != fitter.key(registry.methods["ns"], parent, "p")
    found = fitter.fit(chain, parent, "p")
    assert found.key == fitter.key(chain, parent, "p")
    by_hand = registry.methods["ns"].fit(fit("finetune", r, tiny_model()).model, Pictures(), r, progress=SILENT)
    assert found.weights_digest == weights_digest(by_hand.model)
    assert [stage.method for stage in found.card.lineage] == ["finetune", "ns"]
    assert [entry.stage for entry in found.card.history] == ["finetune", "ns"]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2  # each kept by itself
    assert fitter.fit(chain, parent, "p").card == found.card


def test_a_chain_whose_part_was_not_counted_has_no_known_cost(tmp_path: Any) -> None:
    chain, parent = registry.methods["pretrained+finetune+ns"], tiny_model()
    fitter = Fitter(recipe(noise_max_steps=2), Source(), SILENT, folder=tmp_path)
    counted = fitter.fit(chain, parent, "p").card
    assert counted.forward_equivalents == sum(entry.forward_equivalents for entry in counted.history)
    for path in tmp_path.glob("*.json"):
        card = json.loads(path.read_text())["card"]
        if card["method"] == "finetune":  # as older versions kept it: without a digest
            path.write_text(json.dumps(card | {"forward_equivalents": None}))
    assert fitter.fit(chain, parent, "p").card.forward_equivalents is None  # and not the cost of ns alone


class Source:
    """A data source with a training split and nothing else."""

    def split(self, name: str, progress: Any) -> Pictures:
        return Pictures()


def test_mse_probability_of_equal_logits_is_zero() -> None:
    logits = torch.randn(3, 5)
    assert mse_probability(logits, logits) == 0
