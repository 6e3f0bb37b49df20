"""Registries: what a decorator makes of a function, and what it refuses."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nsbench.attacks
from nsbench import registry
from nsbench.errors import NsbenchError, UnknownName
from nsbench.registry import Registry, registries
from nsbench.registry.code import digest_of_file
from nsbench.types import Attack, AttackFacts, Condition, Score, ThreatModel

IMAGES, LABELS, THREAT = torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), ThreatModel("linf", 0.5)


@pytest.fixture(autouse=True)
def _empty_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {f"{name}s": Registry(name) for name in ("attack", "suite")} | {"methods": registry.Methods("method")}
    for name, one in empty.items():
        monkeypatch.setattr(registry, name, one)
        monkeypatch.setattr(registries, name, one)


def brighter(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    share: float = 1.0,
    batch_size: int | None = None,
) -> Tensor:
    return images + seed * share * float(threat.eps or 0)


def score(outcomes: object) -> Score:
    return Score(0.0, 0.0, 0.0, 1)


def test_an_attack_is_registered_with_its_facts_and_stays_a_function() -> None:
    assert registry.attack(steps=3, loss="margin", library="numpy")(brighter) is brighter
    found = registry.attacks["brighter"]
    facts = AttackFacts(steps=3, loss="margin", library="numpy")
    assert found == Attack("brighter", brighter, facts, code=digest_of_file(Path(__file__), __name__))
    assert (found.facts.restarts, found.facts.start) == (None, None)


def test_an_attack_needs_no_facts() -> None:
    assert registry.attack(brighter) is brighter
    assert registry.attacks["brighter"].facts == AttackFacts()


def test_facts_that_no_card_shows_are_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        registry.attack(colour="red")


def test_calling_an_attack_calls_its_function_with_its_settings() -> None:
    registry.attack(brighter)
    found = registry.attacks["brighter"](nn.Identity(), IMAGES, LABELS, ids=["a", "b"], seed=2, threat=THREAT, share=3)
    torch.testing.assert_close(found, IMAGES + 2 * 3 * 0.5)


def test_an_attack_tells_its_settings() -> None:
    registry.attack(brighter)
    parameters = registry.attacks["brighter"].parameters
    assert list(parameters)[-2:] == ["share", "batch_size"]
    assert parameters["share"].default == 1.0
    assert parameters["seed"].default is inspect.Parameter.empty


@pytest.mark.parametrize(("name", "takes"), [("pgd", True), ("cw", True), ("patchfool", True), ("fgsm", False)])
def test_which_attacks_take_a_batch_size(name: str, takes: bool) -> None:
    function = getattr(nsbench.attacks, name)
    assert Attack(name, function).takes_batch_size is takes


def test_a_name_is_taken_once() -> None:
    registry.attack(brighter)
    with pytest.raises(NsbenchError, match="attack 'brighter' is registered twice"):
        registry.attack(brighter)


def test_an_unknown_name_lists_the_known_ones() -> None:
    registry.attack(brighter)
    with pytest.raises(UnknownName, match=r"unknown attack 'brigther'\. Did you mean 'brighter'\? Known: brighter"):
        registry.attacks["brigther"]


def test_a_suite_takes_name_summary_and_fields() -> None:
    @registry.suite(title="D", group="ood", score=score, citation="here", order=3, lower_is_better=True)
    def darker() -> list[Condition]:
        """Accuracy on
        darker images."""
        return [Condition("dark")]

    found = registry.suites["darker"]
    assert (found.name, found.summary, found.order, found.lower_is_better) == (
        "darker",
        "Accuracy on darker images.",
        3,
        True,
    )
    assert found.paper
    assert found.conditions() == darker() == [Condition("dark")]
    with pytest.raises(NsbenchError, match="suite 'D': group 'odd' is none of clean, adversarial, ood"):
        registry.suite(title="D", group="odd", score=score, citation="here")


def test_a_method_and_its_chain() -> None:
    for name, version in (("first", 2), ("second", 3)):

        def fit(model: object, train: object, recipe: object, **run: object) -> object:
            """Gives the model back."""
            return model

        fit.__name__ = name
        assert registry.method(title=name.title(), citation="here", version=version, role="control")(fit) is fit
    found = registry.methods["second"]
    assert (found.summary, found.version, found.role, found.trains) == ("Gives the model back.", 3, "control", True)
    chain = registry.methods["first+second"]
    assert (chain.title, chain.version) == ("First + Second", 5)
    assert [part.name for part in chain.parts] == ["first", "second"]
    with pytest.raises(NsbenchError, match="its parts are fitted one by one"):
        chain.fit(None, None, None)
