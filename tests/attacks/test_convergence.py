"""What attacks tell of their course: the accuracy after t iterations is that of the same attack with t steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from health_rows import Row, names, right_on
from test_attacks import names as ids_of
from test_refill import subject
from torch import Tensor, nn

from nsbench.attacks import cw, cw_search, patchfool, pgd
from nsbench.attacks.common import misclassified
from nsbench.attacks.convergence import Breaking, Descent, Endings, marks
from nsbench.health import REACH_SHARE, flags
from nsbench.results import AttackCard, Convergence, StillRight
from nsbench.types import Condition, ThreatModel

LINF, PATCH = ThreatModel("linf", 0.05), ThreatModel("patch", patches=1)
SAME = {"step_size": 0.01}  # does not follow from the number of steps


def told(attack: Callable, threat: ThreatModel, batch_size: int | None = None, **params: object) -> tuple:
    """What the attack told, which images it returned broken, and the images."""
    model, images, labels = subject(attack)
    endings = Endings()
    with endings.heard():
        found = attack(model, images, labels, ids=ids_of(64), seed=2, threat=threat, batch_size=batch_size, **params)
    with torch.no_grad():
        return endings, misclassified(model(found), labels), found


@pytest.mark.parametrize(
    ("attack", "threat", "params", "beside"),
    [(pgd, LINF, SAME, 0), (pgd, ThreatModel("l2", 0.3), {"step_size": 0.02}, 0), (cw, ThreatModel("l2"), {}, 1),
     (patchfool, PATCH, {"lr": 0.05}, 0)],
)  # fmt: skip
def test_the_curve_is_the_accuracy_of_shorter_attacks(
    attack: Callable, threat: ThreatModel, params: dict, beside: int
) -> None:
    endings, _, _ = told(attack, threat, steps=20 + beside, **params)
    curve = {mark.iteration: mark.images for mark in endings.still_right}
    assert sorted(curve) == [0, 1, 2, 5, 10, 20]
    for iteration, images in curve.items():
        _, broken, _ = told(attack, threat, steps=iteration + beside, **params)
        assert images == int((~broken).sum()), iteration
    assert 56 >= curve[0] > curve[20]


def test_restarts_and_searches_go_on_counting() -> None:
    endings, broken, _ = told(pgd, LINF, steps=3, restarts=4, step_size=0.02)
    assert [mark.iteration for mark in endings.still_right] == [0, 1, 2, 5, 7, 10, 15]  # 4 starts and 4 x 3 steps
    assert endings.still_right[-1].images == int((~broken).sum())
    _, first, _ = told(pgd, LINF, steps=3, step_size=0.02)
    assert dict((mark.iteration, mark.images) for mark in endings.still_right)[5] <= int((~first).sum())
    endings, broken, _ = told(cw_search, ThreatModel("l2"), c=0.01, steps=6, search_steps=4)
    assert endings.still_right[-1] == StillRight(23, int((~broken).sum()))
    _, first, _ = told(cw, ThreatModel("l2"), c=0.01, steps=6)
    assert endings.still_right[3] == StillRight(5, int((~first).sum()))


@pytest.mark.parametrize(
    ("attack", "threat", "params"),
    [
        (pgd, LINF, {"steps": 5, "restarts": 2}),
        (cw, ThreatModel("l2"), {"steps": 12}),
        (patchfool, PATCH, {"steps": 9}),
    ],
)
def test_seats_move_no_curve(attack: Callable, threat: ThreatModel, params: dict) -> None:
    whole, _, _ = told(attack, threat, **params)
    few, _, _ = told(attack, threat, batch_size=7, **params)
    assert few.still_right == whole.still_right
    assert few.convergence == whole.convergence


def test_last_iterates_alone_have_no_curve() -> None:
    endings, broken, _ = told(pgd, LINF, steps=4, early_stop=False)
    assert endings.still_right == ()
    assert endings.convergence is not None
    assert endings.convergence.unbroken == int((~broken).sum())


class Far(nn.Module):
    """z_1 - z_0 = 0.2 - <1, x - 0.5>: each l-inf step of size s lowers the margin by the number of pixels times s."""

    def forward(self, images: Tensor) -> Tensor:
        fall = (images - 0.5).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(fall), 0.2 - fall], dim=1)


@pytest.mark.parametrize(("size", "near"), [(0.0006, 1), (0.0004, 1), (0.0003, 0)])
def test_what_is_within_reach(size: float, near: int) -> None:
    """48 pixels, 6 steps: 0.173, 0.115 or 0.086 of the 0.2 are gone; the last one would not get there in 12."""
    image, label = torch.full((1, 3, 4, 4), 0.5), torch.tensor([1])
    endings, threat = Endings(), ThreatModel("linf", 0.5)
    with endings.heard():
        pgd(Far(), image, label, ids=["a"], seed=0, threat=threat, steps=6, step_size=size, random_start=False)
    ended = endings.convergence
    assert ended is not None
    assert (ended.unbroken, ended.falling, ended.within_reach) == (1, 1, near)
    assert ended.margin_left == pytest.approx((0.2 - 6 * 48 * size) / 0.2, abs=1e-4)


def test_marks() -> None:
    assert marks(0) == [0]
    assert marks(10) == [0, 1, 2, 5, 10]
    assert marks(250) == [0, 1, 2, 5, 10, 20, 50, 100, 125, 200, 250]


def test_nobody_listens_and_nothing_is_told() -> None:
    breaking = Breaking(torch.tensor([0, 1]))
    breaking.note(torch.tensor([1]), torch.tensor([True]), 3)
    breaking.tell(5)
    Descent(6).tell(torch.tensor([True, True]))
    assert Endings().still_right == ()


@pytest.mark.parametrize(("near", "raised"), [(13, ["attack stopped early"]), (4, []), (None, [])])
def test_a_budget_that_was_too_small_is_flagged(tmp_path, near: int | None, raised: list[str]) -> None:
    """Of 400 images; 1 % with 99 % confidence is 10 of them."""
    card = AttackCard(400, 11, 10, 0.0, steps=10, convergence=Convergence(60, 50, 0.5, near))
    row = Row(tmp_path)
    row.add("x", {"x": (Condition("x", attack="pgd", threat=ThreatModel("linf", 4 / 255)), right_on(60), card)})
    found = flags(row.results)
    assert names(found) == raised
    for flag in found:
        assert f"would break 13 more of 400 images (flagged above {100 * REACH_SHARE:g} %" in flag.sentence
        assert flag.sentence.endswith("Give the attack more steps: --set-attack steps=20.")
