"""What is planned against what is counted: trainings of every method, and evaluations worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from training_reference import Pictures, recipe, tiny_model

from nsbench import registry
from nsbench.progress import SILENT
from nsbench.run.cost import FitCost, Work, equal_compute, fit_cost, pair_cost
from nsbench.run.job import Job
from nsbench.run.known import Memory
from nsbench.run.options import RunOptions
from nsbench.run.own_settings import with_settings
from nsbench.training import Recipe, Trained
from nsbench.types import Condition, Passes, Suite, ThreatModel


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


def job(r: Recipe) -> Job:
    """A job on pictures with a tiny model: what is asked of one here."""
    source: Any = SimpleNamespace(split=lambda name, progress: Pictures())
    return Job(RunOptions((), ()), source, tiny_model(), "", r, "cpu", SILENT, 0)


def planned_and_counted(name: str, r: Recipe, settings: dict[str, str] | None = None) -> tuple[FitCost, int]:
    method = with_settings(registry.methods[name], settings or {})
    found = fit_cost(job(r), method)
    trained = method.fit(tiny_model(), Pictures(), r, progress=SILENT, **method.given)
    assert found is not None
    assert isinstance(trained, Trained)
    return found, sum(entry.forward_equivalents for entry in trained.history)


MORE = {
    "augmix_pr": {"augmix_pr.transform": "rotate"},  # four tiles leave no middle to fill
    "dat": {"dat.discretiser": "shapes10"},
    "robustvit": {"robustvit.masks": "model"},
}
FEW = {"rounds": 2, "steps_per_round": 2, "attack_steps": 2, "noise_max_steps": 3}
TRAINED = ["augmix", "augmix_pr", "dat", "finetune", "lp_ft", "madry", "mixup", "pr", "randaugment", "randaugment_pr"]
TRAINED += ["robustvit", "sam", "trades", "wise_ft"]


def test_every_method_of_the_package_is_tried_here() -> None:
    assert {*TRAINED, "ns", "random_noise"} == {m.name for m in registry.methods.values() if m.trains}


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_costs_what_is_planned(name: str) -> None:
    found, counted = planned_and_counted(name, recipe(**FEW), MORE.get(name))
    assert found.least == found.most
    assert counted == pytest.approx(found.most.forward_equivalents, rel=0.02)  # of whole images: Q is a part of one


@pytest.mark.parametrize("name", ["finetune", "lp_ft", "madry", "sam"])
def test_a_training_of_a_part_costs_less(name: str) -> None:
    found, counted = planned_and_counted(name, recipe(**FEW, trainable="last_1", batch_size=32))
    assert counted == pytest.approx(found.most.forward_equivalents, rel=0.02)
    whole = fit_cost(job(recipe(**FEW, batch_size=32)), registry.methods[name])
    assert whole
    assert counted < whole.most.forward_equivalents


@pytest.mark.parametrize("settings", [{"madry_loss": "clean+adversarial"}, {"attack_steps": 4}])
def test_a_training_costs_what_its_recipe_says(settings: dict[str, Any]) -> None:
    found, counted = planned_and_counted("madry", recipe(**FEW | settings))
    assert found.most.forward_equivalents == counted
    found, counted = planned_and_counted("madry", recipe(**FEW | settings), {"madry.attack": "apgd"})
    assert found.most.forward_equivalents == counted


@pytest.mark.parametrize("name", ["ns", "random_noise"])
@pytest.mark.parametrize("stop", ["batch", "held-out"])
@pytest.mark.parametrize("batches", [0, 2])
@pytest.mark.parametrize("epsilon", [1e-30, 0.01, 10.0])
def test_the_noise_is_inside_its_range(name: str, stop: str, batches: int, epsilon: float) -> None:
    fields = FEW | {"noise_stop": stop, "noise_batches": batches, "epsilon": epsilon, "noise_max_steps": 60}
    found, counted = planned_and_counted(name, recipe(**fields))
    least, most = found.least.forward_equivalents, found.most.forward_equivalents
    assert least <= counted <= most
    if epsilon == 10.0 and stop == "batch":  # inside at once
        assert counted == least
    if epsilon == 1e-30 and stop == "batch":  # never
        assert counted == most


def test_a_budget_ends_with_the_step_that_reaches_it() -> None:
    found, counted = planned_and_counted("madry", recipe(**FEW, compute=100))
    assert found.least.forward_equivalents == 100 <= counted <= found.most.forward_equivalents == 100 + 7 * 4


def test_equal_compute_is_what_the_subject_takes() -> None:
    one = job(recipe(**FEW))
    ns, madry = registry.methods["ns"], registry.methods["madry"]
    subject, found = fit_cost(one, ns), equal_compute(one, madry, ns)
    assert subject
    assert found
    assert found.least.forward_equivalents == subject.least.forward_equivalents
    assert found.most.forward_equivalents == subject.most.forward_equivalents + 7 * 4


def test_an_interpolation_of_a_chain_trains_nothing() -> None:
    found = fit_cost(job(recipe(**FEW)), registry.methods["wise_ft"], chained=True)
    assert found
    assert found.most == Work()


def test_a_method_of_ones_own_need_not_declare_any() -> None:
    assert fit_cost(job(recipe(**FEW)), replace(registry.methods["finetune"], passes=None)) is None


class Numbered(Pictures):
    def __init__(self, name: str, n: int) -> None:
        super().__init__(n)
        self.name = name


def suite_of(*conditions: Condition) -> Suite:
    return Suite("s", "S", "clean", lambda: list(conditions), lambda outcomes: None, "", "")  # type: ignore[arg-type, return-value]


def test_images_are_looked_at_once_and_attacked_each_time() -> None:
    memory, model, linf = Memory(), tiny_model(), ThreatModel("linf", 0.1)
    clean, part = Numbered("clean", 10), Numbered("clean", 10).limited(5)
    first = pair_cost(model, suite_of(Condition("part")), [part], memory)
    assert (first.images, first.passes) == (5, Passes(5))
    steps = Condition("pgd", attack="pgd", threat=linf, params={"steps": 2})
    both = pair_cost(model, suite_of(Condition("clean"), steps), [clean, clean], memory)
    # five images more as they are; then three iterates of each, and two that judge it
    assert (both.images, both.passes) == (20, Passes(5 + 10 * (3 + 2), 10 * 3))
    other = pair_cost(model, suite_of(Condition("ready", preprocess="none")), [clean], memory)
    assert other.passes == Passes(10)


def test_an_attack_that_declares_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = replace(registry.attacks["pgd"], passes=None)
    monkeypatch.setitem(registry.attacks._items, "pgd", silent)
    found = pair_cost(
        tiny_model(),
        suite_of(Condition("x", attack="pgd", threat=ThreatModel("linf", 0.1))),
        [Numbered("clean", 4)],
        Memory(),
    )
    assert (found.unknown, found.passes) == (("pgd",), Passes(4 + 2 * 4))


def test_passes_add_up() -> None:
    assert sum([Passes(1, 2), Passes(3)], Passes()) == Passes(4, 2)
    assert Passes(2, 1) * 3 == Passes(6, 3)
    assert (Work(Passes(1, 2), 3) + Work(training=4)).forward_equivalents == 10
