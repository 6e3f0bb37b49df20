"""The scale of the logits changes no prediction, so it must change no robust accuracy; where it does, a flag says so."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from health_rows import Row, names, right_on

import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
from nsbench import registry
from nsbench.attacks.convergence import Descent, Endings
from nsbench.health import fisher_exact, flags
from nsbench.models import Model, load_model
from nsbench.results import AttackCard, Convergence, read_results
from nsbench.run.evaluate import Evaluation, evaluate
from nsbench.run.opening import open_source
from nsbench.types import Condition, ThreatModel

UNBOUNDED = ThreatModel("l2")
QUICK: dict[str, tuple[Condition, int]] = {  # attack -> with fewer steps than its suite's where that takes long; images
    "fgsm": (Condition("x", attack="fgsm", threat=ThreatModel("linf", 4 / 255)), 100),
    "pgd": (Condition("x", attack="pgd", threat=ThreatModel("linf", 4 / 255), params={"steps": 10}), 100),
    "mifgsm": (Condition("x", attack="mifgsm", threat=ThreatModel("linf", 4 / 255)), 100),
    "cw": (Condition("x", attack="cw", threat=UNBOUNDED), 40),
    "cw_search": (Condition("x", attack="cw_search", threat=UNBOUNDED, params={"search_steps": 4, "steps": 30}), 16),
    "patchfool": (Condition("x", attack="patchfool", threat=ThreatModel("patch", patches=1), params={"steps": 60}), 24),
    "apgd": (Condition("x", attack="apgd", threat=ThreatModel("linf", 4 / 255), params={"steps": 20}), 100),
    "fab": (Condition("x", attack="fab", threat=ThreatModel("linf", 4 / 255), params={"steps": 10, "targets": 2}), 40),
    "square": (Condition("x", attack="square", threat=ThreatModel("linf", 4 / 255), params={"queries": 40}), 40),
    "patch": (Condition("x", attack="patch", threat=ThreatModel("square", share=0.1), params={"steps": 20}), 24),
    "stadv": (Condition("x", attack="stadv", threat=ThreatModel("flow", share=0.01), params={"steps": 20}), 24),
    "autoattack": (Condition("x", attack="autoattack", threat=ThreatModel("linf", 4 / 255)), 4),
}


def scaled(model: Model, scale: float) -> Model:
    changed = deepcopy(model)
    with torch.no_grad():
        for parameter in changed.vit.get_classifier().parameters():
            parameter.mul_(scale)
    return changed


@cache
def attacked(name: str, scale: float) -> Evaluation:
    condition, images = QUICK[name]
    return evaluate(
        scaled(load_model("vit_shapes10"), scale), open_source("shapes10").split("clean").limited(images), condition
    )


def raised(folder: Path, name: str, found: Evaluation) -> list[str]:
    row = Row(folder)
    row.add(name, {"x": (QUICK[name][0], found.outcomes, found.attack_card)})
    found = names(flags(row.results))
    return [one for one in found if one != "attack stopped early"]  # which is about these few steps, at any scale


def test_every_attack_is_tried() -> None:
    assert set(QUICK) == set(registry.attacks)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in ("autoattack", "patchfool") else ()) for name in QUICK],
)
def test_robust_accuracy_does_not_follow_the_scale_of_the_logits_or_a_flag_says_so(tmp_path: Path, name: str) -> None:
    plain = attacked(name, 1.0)
    right, n = int(plain.outcomes.correct.sum()), len(plain.outcomes)
    assert raised(tmp_path / "1", name, plain) == []
    for scale in (0.01, 100.0):
        found = attacked(name, scale)
        assert np.array_equal(found.outcomes.extra["predictions_clean"], plain.outcomes.extra["predictions_clean"])
        moved = fisher_exact(right, n, int(found.outcomes.correct.sum()), n) < 0.01
        assert not moved or raised(tmp_path / f"{scale}", name, found), (scale, right, found.outcomes.correct.sum())


def test_a_fixed_c_meets_small_logits_and_says_how_it_ended(tmp_path: Path) -> None:
    found = attacked("cw", 0.01)
    assert found.outcomes.correct.mean() > 0.4
    card = found.attack_card
    assert card is not None
    assert card.convergence is not None
    assert card.convergence.unbroken == found.outcomes.correct.sum()
    assert card.convergence.margin_left is not None
    assert card.convergence.margin_left > 0.7  # nothing bounds the change, and the margin hardly fell
    row = Row(tmp_path)
    row.add("cw", {"x": (QUICK["cw"][0], found.outcomes, card)})
    flag = next(one for one in flags(row.results) if one.name == "unbounded attack fails")
    assert "at its last step" in flag.sentence
    assert f"of {card.convergence.unbroken} unbroken images" in flag.sentence
    (stored,), _ = read_results(tmp_path)
    assert stored.conditions[0].attack_card == card  # it comes back from the file


def test_a_search_for_c_is_not_fooled() -> None:
    """It breaks all at every scale."""
    for scale in (1.0, 0.01):
        found = attacked("cw_search", scale)
        assert not found.outcomes.correct.any()
        assert found.attack_card is not None
        assert found.attack_card.convergence is None  # nothing is unbroken


@pytest.mark.parametrize(
    ("threat", "hits", "expected"),
    [
        (ThreatModel("l2"), 60, ["unbounded attack fails"]),
        (ThreatModel("linf"), 60, ["unbounded attack fails"]),
        (ThreatModel("l2"), 12, []),  # 3 %: what is honestly left
        (ThreatModel("l2", 0.5), 60, []),
        (ThreatModel("patch", patches=1), 60, []),
    ],
)
def test_what_an_attack_without_bound_may_leave(
    tmp_path: Path, threat: ThreatModel, hits: int, expected: list[str]
) -> None:
    """Older results, which know nothing of convergence, are flagged as well."""
    row = Row(tmp_path)
    card = AttackCard(images=400, forwards=51, backwards=50, seconds=0.0)
    row.add("x", {"x": (Condition("x", attack="cw", threat=threat), right_on(hits), card)})
    assert names(flags(row.results)) == expected


def test_the_committed_boards_raise_no_such_flag() -> None:
    showcase = Path(__file__).parents[2] / "reports" / "showcase"
    for folder in showcase.glob("*/results"):
        attacks = [one for one in read_results(folder)[0] if any(c.attack == "cw" for c in one.conditions)]
        assert "unbounded attack fails" not in names(flags(attacks))


def test_what_a_descent_tells() -> None:
    endings = Endings()
    with endings.heard():
        for _ in range(2):
            descent = Descent(steps=11)
            for step in range(11):
                at = torch.arange(3) if step else torch.arange(4)  # the last image was wrong from the start
                loss = torch.tensor([10.0 - step, 5.0, 10.0, 0.0])[: len(at)]
                descent.look(step, at, loss, torch.tensor([1.0, 2 - 0.08 * step, 1.0, -1.0])[: len(at)], 4)
            descent.tell(torch.tensor([True, True, False, False]))
    assert endings.convergence == Convergence(4, falling=2, margin_left=0.8, within_reach=0)
    descent.tell(torch.tensor([True, True, True, False]))  # nobody listens
    assert endings.convergence.unbroken == 4
    assert Endings().convergence is None
