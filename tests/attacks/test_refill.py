"""Attacks that refill their batch: it stays full while images wait, and its size moves no outcome."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_attacks import Small, names, pictures
from test_evaluate import CLASSES, SIZE, Noise, pixels
from test_patchfool import pictures as patch_pictures
from test_patchfool import vit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nsbench import registry
from nsbench.attacks import apgd, cw, cw_search, fab, patchfool, pgd, square
from nsbench.attacks.common import l2_norm, misclassified
from nsbench.models import Model, Preprocessing, load_model
from nsbench.run.evaluate import evaluate
from nsbench.run.known import Memory
from nsbench.run.opening import open_source
from nsbench.types import Attack, Condition, ThreatModel

LINF, L2, PATCH = ThreatModel("linf", 0.04), ThreatModel("l2"), ThreatModel("patch", patches=1)
FORMS = [
    (pgd, LINF, {"restarts": 3}),
    (pgd, ThreatModel("l2", 0.3), {"early_stop": False}),
    (cw, L2, {"steps": 20}),
    (cw_search, L2, {"steps": 10, "search_steps": 3}),
    (patchfool, PATCH, {"steps": 12}),
    (apgd, LINF, {"steps": 20, "restarts": 2}),
    (fab, LINF, {"steps": 8, "targets": 1}),
    (square, ThreatModel("linf", 0.15), {"queries": 40}),
]


def subject(attack: Callable) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, 64 images, and labels of which some are wrong from the start."""
    model, images = (vit(), patch_pictures(64)) if attack is patchfool else (Small().eval(), pictures(64, 0.0, 1.0))
    with torch.no_grad():
        labels = (model(images).argmax(dim=1) + (torch.arange(64) % 8 == 0)) % 3
    return model, images, labels


@pytest.mark.parametrize(("attack", "threat", "params"), FORMS)
def test_seats_move_no_outcome(attack: Callable, threat: ThreatModel, params: dict) -> None:
    model, images, labels = subject(attack)
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    found = {}
    for batch_size in (None, 1, 7):
        sizes.clear()
        found[batch_size] = attack(
            model, images, labels, ids=names(64), seed=2, threat=threat, batch_size=batch_size, **params
        )
        assert max(sizes) <= (batch_size or 64)
    hook.remove()
    broken = {size: misclassified(model(images_BCHW), labels) for size, images_BCHW in found.items()}
    assert 8 < broken[None].sum() <= 64
    for size in (1, 7):
        assert torch.equal(broken[size], broken[None])
        torch.testing.assert_close(l2_norm(found[size] - images), l2_norm(found[None] - images), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(("attack", "threat", "params"), [FORMS[0], FORMS[4], FORMS[5]])
def test_the_batch_is_full_until_none_waits(attack: Callable, threat: ThreatModel, params: dict) -> None:
    model, images, labels = subject(attack)
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    attack(model, images, labels, ids=names(64), seed=2, threat=threat, batch_size=5, **params)
    hook.remove()
    if attack in (patchfool, apgd):  # first a pass over all images: it chooses patches, or finds what is right
        assert sizes[:13] == [5] * 12 + [4]
        sizes = sizes[13:]
    short = [size for size in sizes if size < 5]
    assert len(sizes) > 20
    assert sizes == [5] * (len(sizes) - len(short)) + sorted(short, reverse=True)  # it only empties at the end


def test_evaluate_hands_over_several_batches_and_judges_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[tuple[int, int]] = []

    def patient(
        model: Model, images: Tensor, labels: Tensor, *, ids: list[str], seed: int, threat: ThreatModel, batch_size: int
    ) -> Tensor:
        handed.append((len(ids), batch_size))
        return (images + threat.eps).clamp(0, 1)

    monkeypatch.setitem(registry.attacks._items, "patient", Attack("patient", patient))
    torch.manual_seed(0)
    network = VisionTransformer(img_size=SIZE, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=CLASSES)
    model = Model(network, name="tiny", preprocessing=Preprocessing(SIZE, 1.0), mean=(0.5,) * 3, std=(0.5,) * 3)
    split, sizes = Noise(31), []
    with torch.no_grad():
        split.labels = model(pixels(split)).argmax(1).numpy()
    hook = model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    condition = Condition("x", attack="patient", threat=ThreatModel("linf", 0.2))
    found = {size: evaluate(model, split, condition, batch_size=size).outcomes for size in (3, 64)}
    hook.remove()
    assert handed == [(12, 3), (12, 3), (7, 3), (31, 31)]  # a batch is no larger than the split
    # the last seven: two looks at the outputs, clean, two trials of the last block, adversarial, in 8 bits
    assert max(sizes[:-7]) == 3
    assert np.array_equal(found[3].predictions, found[64].predictions)
    assert np.array_equal(found[3].extra["linf"], found[64].extra["linf"])


CONDITIONS = [
    Condition("cw", attack="cw", threat=L2),
    Condition("pgd", attack="pgd", threat=ThreatModel("linf", 1 / 255)),
    Condition("cw_search", attack="cw_search", threat=L2, params={"search_steps": 2}),
    Condition("patchfool", attack="patchfool", threat=PATCH, params={"steps": 20}),
]


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_batch_sizes_agree_on_real_pictures(condition: Condition) -> None:
    """At most one image in 1,000 differs between batch sizes 1, 7 and 64 (float32 rounding): here none or one."""
    model, split = load_model("vit_shapes10"), open_source("shapes10").split("clean").limited(400)
    memory = Memory()
    found = [evaluate(model, split, condition, batch_size=size, memory=memory).outcomes.correct for size in (64, 7, 1)]
    assert found[0].sum() < 0.9 * len(split)
    for other in found[1:]:
        assert np.count_nonzero(other != found[0]) <= 1
