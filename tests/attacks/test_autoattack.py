"""AutoAttack and its four parts: what pyautoattack gives image by image, in whatever batch or order images come."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from autoattack_runs import Run, reached, run_ours, run_theirs, undecided
from pyautoattack_alone import image_by_image, standard_version
from real_images import subject as real_subject
from test_attacks import Linear, names, pictures
from torch import Tensor, nn

from nsbench.attacks import apgd, autoattack, fab, square
from nsbench.attacks.card import AttackCost
from nsbench.attacks.common import NORMS, l2_norm, misclassified
from nsbench.attacks.square import HALVINGS, _side
from nsbench.data.loading import batches
from nsbench.errors import ModelError, UsageError
from nsbench.models import frozen, load_model
from nsbench.run.opening import open_source
from nsbench.types import ThreatModel

LINF, L2, L1 = ThreatModel("linf", 0.05), ThreatModel("l2", 0.3), ThreatModel("l1", 1.5)
Subject = tuple[nn.Module, Tensor, Tensor]


class Convolution(nn.Module):
    """A small random network, smooth, on images of 8 x 8, in float64: what is compared is no rounding."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Tanh(), nn.Flatten(), nn.Linear(24, classes)).double()

    def forward(self, images: Tensor) -> Tensor:
        return (20 * self.layers(images.double())).float()


def subject(images: int) -> Subject:
    """A model, pictures, and labels of which the first is wrong from the start."""
    model = Convolution().eval()
    pixels = torch.rand(images, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model(pixels).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 5
    return model, pixels, labels


@pytest.fixture(scope="module", params=[LINF, L1], ids=["linf", "l1"])
def expected(few: Subject, request: pytest.FixtureRequest) -> tuple[ThreatModel, Tensor]:
    model, images, labels = few
    threat = request.param
    return threat, image_by_image(model, images, labels, names(4), threat.norm, threat.eps, 5)


@pytest.fixture(scope="module")
def few() -> Subject:
    """Four images; one is robust at LINF."""
    model, images, labels = subject(6)
    return model, images[[0, 1, 2, 4]], labels[[0, 1, 2, 4]]


def attack(few: Subject, order: list[int], threat: ThreatModel, seed: int = 0, **settings: object) -> Tensor:
    model, images, labels = few
    return autoattack(
        model, images[order], labels[order], ids=[names(4)[i] for i in order], seed=seed, threat=threat, **settings
    )


PARTS = {
    "ce": (apgd, {"restarts": 2}, "apgd", {"n_restarts": 2}),
    "dlr": (apgd, {"loss": "dlr-targeted", "targets": 3}, "apgd_targeted", {"n_target_classes": 3}),
    "fab": (fab, {"targets": 3}, "fab", {"n_target_classes": 3}),
    "square": (square, {"queries": 300}, "square", {"n_queries": 300}),
}

CASES = [(part, threat) for part in PARTS for threat in (LINF, L2, L1)]


@pytest.mark.parametrize(("part", "threat"), CASES, ids=[f"{part}-{threat.norm}" for part, threat in CASES])
def test_a_part_gives_what_pyautoattack_gives_image_by_image(part: str, threat: ThreatModel) -> None:
    ours, settings, theirs, attributes = PARTS[part]
    model, images, labels = subject(9)
    library = {} if ours is square else {"early_stop": False}
    found = ours(model, images, labels, ids=names(9), seed=0, threat=threat, batch_size=4, **settings, **library)
    expected = image_by_image(
        model, images, labels, names(9), threat.norm, threat.eps, 5, ours.__name__, part=theirs, **attributes
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    broken = misclassified(model(found), labels)
    assert 1 < broken.sum() < 9  # the eps tells robust and broken images apart
    assert torch.equal(found[~broken], images[~broken])
    if library:
        sooner = ours(model, images, labels, ids=names(9), seed=0, threat=threat, batch_size=4, **settings)
        assert torch.equal(misclassified(model(sooner), labels), broken)


@pytest.mark.parametrize("eps", [2.5, 4.0])
def test_steps_in_a_wide_l1_budget_are_shortened_where_pyautoattack_shortens_them(eps: float) -> None:
    """Where points stay sparse far from the image, it matters how much sparser counts as sparser."""
    model, images, labels = subject(9)
    call = {"ids": names(9), "seed": 0, "threat": ThreatModel("l1", eps), "early_stop": False}
    found = apgd(model, images, labels, **call)
    expected = image_by_image(model, images, labels, names(9), "l1", eps, 5, "apgd", part="apgd")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("part", "threat"), CASES, ids=[f"{part}-{threat.norm}" for part, threat in CASES])
def test_neither_batch_nor_order_moves_an_image(part: str, threat: ThreatModel) -> None:
    ours, settings, *_ = PARTS[part]
    model, images, labels = subject(64)

    def found(batch_size: int, order: slice = slice(None)) -> Tensor:
        index = torch.arange(64).flip(0) if order.step else torch.arange(64)
        ids = [names(64)[i] for i in index.tolist()]
        made = ours(
            model,
            images[index],
            labels[index],
            ids=ids,
            seed=4,
            threat=threat,
            batch_size=batch_size,
            **settings | ({"queries": 60} if ours is square else {"steps": 25}),
        )
        return made[index]

    whole = found(64)
    assert 1 < misclassified(model(whole), labels).sum() < 64
    for other in (found(1), found(7), found(7, slice(None, None, -1))):
        torch.testing.assert_close(other, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("early_stop", [True, False])
def test_all_four_give_what_pyautoattack_gives_image_by_image(
    few: Subject, expected: tuple[ThreatModel, Tensor], early_stop: bool
) -> None:
    """Without an early stop the same pixels; with one the same images are broken, at a fraction of the passes."""
    model, images, labels = few
    threat, theirs = expected
    found = attack(few, list(range(4)), threat, early_stop=early_stop, batch_size=3)
    if not early_stop:
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
    broken = misclassified(model(found), labels)
    assert torch.equal(broken, misclassified(model(theirs), labels))
    assert 1 < broken.sum() < 4
    assert torch.equal(found[0], images[0])  # wrong from the start
    assert torch.equal(found[~broken], images[~broken])
    assert NORMS[threat.norm](found - images).max() <= threat.eps + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


def test_all_four_do_not_depend_on_batch_or_order(few: Subject) -> None:
    whole = attack(few, list(range(4)), LINF)
    apart = torch.cat([attack(few, part, LINF, batch_size=1) for part in ([3, 1], [0, 2])])
    torch.testing.assert_close(apart, whole[[3, 1, 0, 2]], atol=1e-6, rtol=0)


def test_l1_keeps_its_budget(few: Subject) -> None:
    model, images, labels = few
    threat = ThreatModel("l1", 4.0)
    found = apgd(model, images, labels, ids=names(4), seed=0, threat=threat, steps=20, early_stop=False)
    assert (found - images).abs().flatten(1).sum(dim=1).max() <= 4.0
    assert found.min() >= 0
    assert found.max() <= 1
    assert misclassified(model(found), labels).all()


@pytest.mark.parametrize("steps", [2, 3, 4, 7])
def test_few_steps_are_shared_by_the_radii_too(few: Subject, steps: int) -> None:
    model, images, labels = few
    found = apgd(model, images, labels, ids=names(4), seed=0, threat=L1, steps=steps, early_stop=False)
    expected = image_by_image(model, images, labels, names(4), "l1", L1.eps, 5, "apgd", part="apgd", n_iter_orig=steps)
    broken = misclassified(model(expected), labels)
    assert torch.equal(misclassified(model(found), labels), broken)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_fewer_steps_than_radii_are_refused(few: Subject) -> None:
    model, images, labels = few
    with pytest.raises(UsageError, match="steps=1 is too few in l1, whose three radii share them; give 2 or more"):
        apgd(model, images, labels, ids=names(4), seed=0, threat=L1, steps=1)


def test_l2_keeps_its_budget(few: Subject) -> None:
    model, images, labels = few
    found = attack(few, [1, 2], ThreatModel("l2", 1.0))
    assert l2_norm(found - images[1:3]).max() <= 1.0 + 1e-5
    assert misclassified(model(found), labels[1:3]).any()


def counted(few: Subject, run: Callable, images: int, **settings: object) -> AttackCost:
    model, pixels, labels = few
    cost = AttackCost()
    with frozen(model), cost.counted(model, images):
        run(model, pixels[:images], labels[:images], ids=names(images), seed=0, **settings)
    return cost


def test_cost_is_counted_in_images(few: Subject) -> None:
    """An image that stays right: a look at it, one at the start, and one after each step, the last without a slope."""
    quick = {"threat": ThreatModel("linf", 1e-6), "batch_size": 2}
    found = {
        "apgd": counted(few, apgd, 4, steps=5, **quick),
        "fab": counted(few, fab, 4, steps=5, targets=2, **quick),
        "square": counted(few, square, 4, queries=5, **quick),
    }
    assert {name: (cost.forwards, cost.backwards) for name, cost in found.items()} == {
        "apgd": (4 + 3 * 6, 3 * 5),  # one of the four is wrong from the start
        "fab": (4 + 3 * 2 * 10, 3 * 2 * 5),
        "square": (4 + 3 * 6, 0),
    }


@pytest.mark.parametrize(("norm", "climbs", "looks"), [("linf", 1 + 9, 1), ("l1", 5 + 5, 3)])
def test_a_robust_image_goes_through_the_whole_standard_version(norm: str, climbs: int, looks: int) -> None:
    """Of twelve classes nine are targets; in l1 APGD has five restarts, five targets, and a look at each of three radii.

    pyautoattack's `set_version("standard")`: 100 steps of APGD and of FAB, 5,000 queries of Square.
    """
    model, image = Convolution(12).eval(), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    robust = model, image, model(image).argmax(dim=1)
    cost = counted(robust, autoattack, 1, threat=ThreatModel(norm, 1e-6))
    assert cost.forwards == 1 + climbs * (100 + looks) + 9 * 100 * 2 + 5001
    assert cost.backwards == climbs * 100 + 9 * 100


def test_an_image_leaves_when_it_is_broken(few: Subject) -> None:
    wide = {"threat": ThreatModel("linf", 0.3)}
    sooner, whole = (counted(few, apgd, 4, early_stop=early, **wide) for early in (True, False))
    assert whole.forwards == 4 + 3 * 101
    assert sooner.forwards < 0.2 * whole.forwards


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_squares_shrink_as_pyautoattack_lets_them(norm: str) -> None:
    theirs = standard_version(nn.Identity(), norm, 1.0, 0, 5, torch.device("cpu")).square
    for query in sorted({0, *(after + more for after in HALVINGS for more in (0, 1))}):
        side = round((theirs.p_selection(query) * 48 * 48) ** 0.5)
        side = max(side, 1) if norm == "linf" else max(side, 3) // 2 * 2 + 1
        assert _side(query, norm, 48, 48) == min(side, 48)


@pytest.mark.slow
def test_the_same_images_stay_robust_as_with_pyautoattack_alone() -> None:
    """128 pictures of shapes10, each with a stream of its own, against the whole batch with one seed."""
    model = load_model("vit_shapes10")
    split = open_source("shapes10").split("clean").limited(128)
    (batch,) = batches(split, model.preprocessing.transform(), batch_size=128)
    images, labels, eps = batch.images.float() / 255, batch.labels, 4 / 255
    with frozen(model):
        ours = autoattack(model, images, labels, ids=batch.ids, seed=0, threat=ThreatModel("linf", eps))
        with torch.random.fork_rng():
            alone = standard_version(model, "linf", eps, 0, 10, images.device)
            theirs, _ = alone.run_standard_evaluation(images, labels, batch_size=128)
        robust, their_robust = ~misclassified(model(ours), labels), ~misclassified(model(theirs), labels)
    print(f"robust: {int(robust.sum())} and {int(their_robust.sum())}, {int((robust != their_robust).sum())} differ")
    assert 0 < robust.sum() < 64
    assert torch.equal(robust, their_robust)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_more_real_images_stay_robust_than_with_pyautoattack(shared_data: Path) -> None:
    """A small `tests/benchmarks/autoattack_reference.py`: 24 real pictures, two seeds, pyautoattack in one batch."""
    if not (shared_data / "tiny-imagenet").is_dir():
        pytest.skip(f"no Tiny-ImageNet at {shared_data}")
    model, (images, labels, ids) = real_subject(shared_data, 24)
    threat = ThreatModel("linf", 4 / 255)
    theirs = [run_theirs(model, images, labels, seed, threat) for seed in range(2)]
    ours = [run_ours(model, images, labels, ids, seed, threat) for seed in range(2)]
    assert 0 < theirs[0].accuracy < 60
    assert all(len(run.after) == 4 and run.after[-1] == run.accuracy for run in ours)
    assert reached(ours, theirs), [(run.accuracy, run.after) for run in (*ours, *theirs)]


def test_what_the_comparison_on_real_images_calls_reached() -> None:
    """Of four images: the seeds of pyautoattack leave one and two right, which is a mean of 37.5 % and a spread of 25."""

    def runs(*right: list[int]) -> list[Run]:
        return [Run(torch.tensor(one).bool(), (), 0, 0.0, 0.0) for one in right]

    theirs = runs([1, 0, 0, 0], [1, 1, 0, 0])
    assert reached(runs([1, 1, 0, 0]), theirs)
    assert not reached(runs([1, 1, 1, 0]), theirs)
    assert reached(theirs[:1], theirs[:1])
    assert not reached(theirs[1:], theirs[:1])
    assert (undecided(theirs), undecided(theirs[:1])) == (1, 0)


def test_nothing_stays_behind(few: Subject, capfd: pytest.CaptureFixture) -> None:
    model = few[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    attack(few, [1, 2], ThreatModel("linf", 0.3))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


class Steps(nn.Module):
    """Logits that carry no gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return images.detach().flatten(1)[:, :5].round()


NO_ROOM = torch.zeros(1, 3, 4, 4), torch.zeros(1, dtype=torch.long)


@pytest.mark.parametrize("run", [apgd, fab, autoattack])
def test_a_model_without_gradients_is_named(run: Callable) -> None:
    with pytest.raises(ModelError, match="the logits carry no gradient back to the images"):
        run(Steps(), *NO_ROOM, ids=["a"], seed=0, threat=LINF)


@pytest.mark.parametrize("run", [apgd, fab, square, autoattack])
def test_what_cannot_work_is_said(run: Callable) -> None:
    one = {"ids": ["a"], "seed": 0}
    with pytest.raises(
        UsageError, match=f"{run.__name__}: threat model '1 patch' is not supported; give norm linf or l2"
    ):
        run(Convolution(), pictures(1), NO_ROOM[1], threat=ThreatModel("patch", patches=1), **one)
    few_classes = {"loss": "dlr-targeted"} if run is apgd else {}
    if run in (apgd, autoattack):
        with pytest.raises(UsageError, match=r"the model has 2 classes, and the targeted DLR loss needs 4; use pgd"):
            run(Linear(), *NO_ROOM, threat=LINF, **few_classes, **one)
    if run is apgd:
        with pytest.raises(UsageError, match="apgd: loss 'dlr' is none of ce, dlr-targeted"):
            apgd(Convolution(), pictures(1), NO_ROOM[1], threat=LINF, loss="dlr", **one)
    if run is square:
        with pytest.raises(UsageError, match="l2 needs images of 5 x 5 pixels; these have 4 x 4; use linf"):
            square(Linear(), *NO_ROOM, threat=L2, **one)
