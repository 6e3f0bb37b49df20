"""AutoAttack: what pyautoattack gives, image by image, and nothing of it left behind."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch
from test_attacks import names, pictures
from torch import Tensor, nn

from nsbench.attacks import autoattack
from nsbench.attacks.autoattack import standard_version
from nsbench.attacks.common import l2_norm, misclassified
from nsbench.data.loading import batches
from nsbench.errors import UsageError
from nsbench.models import frozen, load_model
from nsbench.randomness import derive_seed
from nsbench.run.opening import open_source
from nsbench.types import ThreatModel

LINF = ThreatModel("linf", 0.05)


class Convolution(nn.Module):
    """A small random network, smooth, on images of 8 x 8."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Tanh(), nn.Flatten(), nn.Linear(24, classes))

    def forward(self, images: Tensor) -> Tensor:
        return 20 * self.layers(images)


@pytest.fixture(scope="module")
def few() -> tuple[nn.Module, Tensor, Tensor]:
    """A model, four images, and labels of which the first is wrong from the start; one image is robust at LINF."""
    model = Convolution().eval()
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))[[0, 1, 2, 4]]
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 5
    return model, images, labels


def attack(few: tuple[nn.Module, Tensor, Tensor], order: list[int], threat: ThreatModel, seed: int = 0) -> Tensor:
    model, images, labels = few
    return autoattack(model, images[order], labels[order], ids=[names(4)[i] for i in order], seed=seed, threat=threat)


def test_outcome_does_not_depend_on_batch_or_order(few: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, images, labels = few
    whole = attack(few, list(range(4)), LINF)
    apart = torch.cat([attack(few, part, LINF) for part in ([3, 1], [0, 2])])
    torch.testing.assert_close(apart, whole[[3, 1, 0, 2]], atol=1e-6, rtol=0)
    broken = misclassified(model(whole), labels)
    assert 0 < broken[1:].sum() < 3  # the eps tells robust and broken images apart
    assert torch.equal(whole[0], images[0])
    assert torch.equal(whole[~broken], images[~broken])
    assert (whole - images).abs().max() <= 0.05 + 1e-6
    assert whole.min() >= 0
    assert whole.max() <= 1


def test_gives_what_pyautoattack_alone_gives(few: tuple[nn.Module, Tensor, Tensor]) -> None:
    """The same image and seed: the same pixels. The whole batch at once, other draws: the same images stay robust."""
    model, images, labels = few
    ours = attack(few, list(range(4)), LINF, seed=3)
    with torch.random.fork_rng(), frozen(model):
        for i in (1, 3):
            alone = standard_version(model, "linf", 0.05, derive_seed(3, "autoattack", names(4)[i]), 5, images.device)
            theirs, _ = alone.run_standard_evaluation(images[i : i + 1], labels[i : i + 1])
            torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-6, rtol=0)
        together, _ = standard_version(model, "linf", 0.05, 3, 5, images.device).run_standard_evaluation(images, labels)
    assert torch.equal(misclassified(model(ours), labels), misclassified(model(together), labels))


@pytest.mark.slow
def test_the_same_images_stay_robust_as_with_pyautoattack_alone() -> None:
    """128 pictures of shapes10, one by one with seeds of their own, against the whole batch with one seed."""
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


def test_l2_keeps_its_budget(few: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, images, labels = few
    found = attack(few, [1, 2], ThreatModel("l2", 1.0))
    assert l2_norm(found - images[1:3]).max() <= 1.0 + 1e-5
    assert misclassified(model(found), labels[1:3]).any()


def test_nothing_stays_behind(few: tuple[nn.Module, Tensor, Tensor], capfd: pytest.CaptureFixture) -> None:
    model = few[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    calls: list[str] = []
    sys.settrace(lambda frame, event, arg: calls.append(event))
    try:
        attack(few, [1, 2], ThreatModel("linf", 0.3))
        assert sys.gettrace() is not None
    finally:
        sys.settrace(None)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(UsageError, match="the model has 3 classes, and the targeted DLR loss needs 4"):
        autoattack(
            Convolution(3), torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.long), ids=["a"], seed=0, threat=LINF
        )
    with pytest.raises(UsageError, match="autoattack: threat model '1 patch' is not supported; give norm linf or l2"):
        autoattack(
            Convolution(),
            pictures(1),
            torch.zeros(1, dtype=torch.long),
            ids=["a"],
            seed=0,
            threat=ThreatModel("patch", patches=1),
        )
