"""Passes that attacks declare, against those that the harness counts on a model that nothing breaks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import nsbench.attacks  # noqa: F401  (fills the registry)
from nsbench import registry
from nsbench.attacks.card import AttackCost
from nsbench.types import Attack, Passes, ThreatModel

IMAGES, CLASSES, DEPTH = 5, 6, 4
LINF, L2, L1, FREE, PATCH, SQUARE, FLOW = (
    ThreatModel("linf", 0.1),
    ThreatModel("l2", 0.5),
    ThreatModel("l1", 5.0),
    ThreatModel("l2"),
    ThreatModel("patch", patches=1),
    ThreatModel("square", share=0.25),
    ThreatModel("flow", share=0.05),
)


class Never(nn.Module):
    """A small ViT whose first class is always ahead, by however much; gradients are the ViT's."""

    num_classes = CLASSES

    def __init__(self, ahead: float = 1000.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.vit = VisionTransformer(
                img_size=16, patch_size=8, embed_dim=12, depth=DEPTH, num_heads=2, num_classes=CLASSES
            )
        self.ahead = ahead

    def forward(self, images: Tensor) -> Tensor:
        bonus = torch.zeros(CLASSES)
        bonus[0] = self.ahead
        return self.vit(images) + bonus


def counted(name: str, model: nn.Module, threat: ThreatModel, labels: Tensor, **params: Any) -> AttackCost:
    images = torch.rand(IMAGES, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    cost = AttackCost()
    with cost.counted(model.eval().requires_grad_(False), IMAGES):
        registry.attacks[name](
            model, images, labels, ids=[f"i{i}" for i in range(IMAGES)], seed=0, threat=threat, **params
        )
    return cost


# What each attack does to an image that it never breaks, counted by hand; and how much more of its kind an image may
# take at most: a last iterate that goes back because others of its batch go on, an image that CW sends forward twice.
CASES: list[tuple[str, ThreatModel, dict[str, Any], Passes, Passes]] = [
    ("fgsm", LINF, {}, Passes(1, 1), Passes()),
    ("mifgsm", LINF, {"steps": 3}, Passes(3, 3), Passes()),
    ("pgd", LINF, {"steps": 3}, Passes(4, 3), Passes(0, 1)),
    ("pgd", L2, {"steps": 2, "restarts": 3}, Passes(9, 6), Passes(0, 3)),
    ("pgd", LINF, {"steps": 0}, Passes(1, 0), Passes()),
    ("apgd", LINF, {"steps": 4}, Passes(1 + 5, 4), Passes(0, 1)),
    ("apgd", L2, {"steps": 2, "loss": "dlr-targeted", "restarts": 2}, Passes(1 + 30, 20), Passes(0, 10)),
    ("apgd", L2, {"steps": 2, "loss": "dlr-targeted", "targets": 2}, Passes(1 + 6, 4), Passes(0, 2)),
    ("apgd", L1, {"steps": 10}, Passes(1 + 13, 10), Passes(0, 3)),
    ("apgd", L1, {"steps": 4, "loss": "dlr-targeted", "targets": 2}, Passes(1 + 14, 8), Passes(0, 6)),
    ("fab", LINF, {"steps": 3, "targets": 2}, Passes(1 + 12, 6), Passes()),
    ("fab", L2, {"steps": 1}, Passes(1 + 10, 5), Passes()),
    ("fab", L1, {"steps": 2, "targets": 3}, Passes(1 + 12, 6), Passes()),
    ("square", LINF, {"queries": 7}, Passes(1 + 8), Passes()),
    ("square", L1, {"queries": 4}, Passes(1 + 5), Passes()),
    ("cw", FREE, {"steps": 6}, Passes(6, 5), Passes(2, 0)),
    ("cw_search", FREE, {"steps": 4, "search_steps": 2}, Passes(8, 6), Passes(2, 0)),
    ("pgd", LINF, {"steps": 3, "eot": 2}, Passes(8, 6), Passes(0, 2)),
    ("fgsm", LINF, {"eot": 3}, Passes(3, 3), Passes()),
    ("cw", FREE, {"steps": 6, "eot": 2}, Passes(12, 10), Passes(4, 0)),
    ("cw_search", FREE, {"steps": 4, "search_steps": 2, "eot": 3}, Passes(24, 18), Passes(6, 0)),
    ("stadv", FLOW, {"steps": 3, "eot": 2}, Passes(8, 6), Passes(0, 2)),
    ("patchfool", PATCH, {"steps": 3, "eot": 2}, Passes(1 + 8, 2 * 6), Passes(0, 4)),
    ("patch", SQUARE, {"steps": 3, "restarts": 2}, Passes(8, 6), Passes(0, 2)),
    ("stadv", FLOW, {"steps": 3}, Passes(4, 3), Passes(0, 1)),
    ("patchfool", PATCH, {"steps": 3}, Passes(1 + 4, 2 * 3), Passes(0, 2)),
    ("patchfool", PATCH, {"steps": 2, "attention_weight": 0.0, "select": "saliency"}, Passes(4, 3), Passes(0, 1)),
]


@pytest.mark.parametrize(("name", "threat", "params", "by_hand", "more"), CASES)
def test_declared_passes_are_those_that_are_counted(
    name: str, threat: ThreatModel, params: dict[str, Any], by_hand: Passes, more: Passes
) -> None:
    model = Never()
    cost = counted(name, model, threat, torch.zeros(IMAGES, dtype=torch.long), **params)
    assert Passes(cost.forwards, cost.backwards) == by_hand * IMAGES
    declared = registry.attacks[name].most_passes(model, params, threat)
    assert declared == by_hand + more


def test_every_attack_of_the_package_is_tried_here() -> None:
    assert {name for name, *_ in CASES} | {"autoattack"} == {
        name for name in registry.attacks if registry.attacks[name].function.__module__.startswith("nsbench.attacks")
    }


def test_autoattack_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("nsbench.attacks.autoattack")
    monkeypatch.setattr(module, "STEPS", 2)
    monkeypatch.setattr(module, "QUERIES", 3)
    model, targets = Never(), CLASSES - 1
    cost = counted("autoattack", model, LINF, torch.zeros(IMAGES, dtype=torch.long))
    by_hand = Passes(1 + 3 + 3 * targets + 2 * 2 * targets + 4, 2 + 2 * targets + 2 * targets)
    assert Passes(cost.forwards, cost.backwards) == by_hand * IMAGES
    assert registry.attacks["autoattack"].most_passes(model, {}, LINF) == by_hand + Passes(0, 1 + targets)


def test_autoattack_in_l1_restarts_and_has_fewer_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("nsbench.attacks.autoattack")
    monkeypatch.setattr(module, "STEPS", 2)
    monkeypatch.setattr(module, "QUERIES", 3)
    model, threat, targets = Never(), ThreatModel("l1", 0.1), CLASSES - 1
    cost = counted("autoattack", model, threat, torch.zeros(IMAGES, dtype=torch.long))
    climbs = 5 + min(5, targets)
    assert cost.forwards / IMAGES == 1 + 5 * climbs + 2 * 2 * targets + 4
    most = registry.attacks["autoattack"].most_passes(model, {}, threat)
    assert most == Passes(1 + 5 * climbs + 2 * 2 * targets + 4, 5 * climbs + 2 * targets)


@pytest.mark.parametrize(("name", "threat", "params", "by_hand", "more"), CASES)
def test_nothing_that_ends_early_takes_more(
    name: str, threat: ThreatModel, params: dict[str, Any], by_hand: Passes, more: Passes
) -> None:
    """Images of which some are broken at once and some on the way, in batches that are refilled."""
    model = Never(ahead=0.0)
    images = torch.rand(IMAGES, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model.eval()(images).argmax(dim=1)
    batch = {"batch_size": 2} if registry.attacks[name].takes_batch_size else {}
    cost = counted(name, model, threat, labels, **params, **batch)
    declared = registry.attacks[name].most_passes(model, params, threat)
    assert declared is not None
    assert cost.forwards <= declared.forwards * IMAGES
    assert cost.backwards <= declared.backwards * IMAGES


def test_an_attack_of_ones_own_need_not_declare_any() -> None:
    def idle(model: Any, images: Tensor, labels: Tensor, *, ids: Any, seed: int, threat: ThreatModel) -> Tensor:
        return images

    assert Attack("idle", idle).most_passes(Never(), {}, LINF) is None


def test_counting_starts_no_gpu_that_nothing_lies_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("a GPU was asked"))
    cost = AttackCost()
    with cost.counted(Never(), IMAGES):
        pass
    assert cost.images == IMAGES
