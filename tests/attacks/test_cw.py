"""Carlini-Wagner against closed forms and torchattacks' version."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from test_attacks import Linear, Quadratic, Small, pictures, run
from test_patchfool import real_images, real_model
from torch import Tensor, nn

from nsbench.attacks.common import l2_norm, misclassified
from nsbench.attacks.cw import BOUND, cw, from_box, to_box
from nsbench.attacks.cw_search import cw_search
from nsbench.types import ThreatModel

UNBOUNDED = ThreatModel("l2")


def test_the_box_keeps_images_and_reaches_its_edges() -> None:
    images = torch.tensor([0.0, 1 / 255, 0.5, 254 / 255, 1.0])
    torch.testing.assert_close(to_box(from_box(images)), images, atol=1e-6, rtol=0)
    torch.testing.assert_close(to_box(torch.tensor([-BOUND, BOUND])), torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)


def test_near_the_closed_form_on_a_linear_model() -> None:
    model, images = Linear(), pictures(16)
    distance = (model(images)[:, 1]).abs().detach()  # the normal has length 1
    found, labels = run(cw, model, images, UNBOUNDED, c=10.0, steps=400)
    assert misclassified(model(found), labels).all()
    ratio = l2_norm(found - images) / distance
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() < 1.06
    assert ratio.mean() < 1.02


def test_near_the_closed_form_on_a_quadratic_model() -> None:
    model, images = Quadratic(), pictures(8, 0.42, 0.58)
    distance = model.radius - l2_norm(images - 0.5)
    found, labels = run(cw, model, images, UNBOUNDED, c=10.0, steps=400)
    assert misclassified(model(found), labels).all()
    ratio = l2_norm(found - images) / distance
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() < 1.05


def test_an_image_that_cannot_be_broken_comes_back_as_it_was() -> None:
    model, images = Linear(), pictures(4)
    found, labels = run(cw, model, images, UNBOUNDED, c=1e-4, steps=5)  # the norm's price is far too high
    assert not misclassified(model(found), labels).any()
    assert torch.equal(found, images)


def test_an_image_that_is_wrong_already_comes_back_as_it_was() -> None:
    model, images = Linear(), pictures(4)
    labels = 1 - model(images).argmax(dim=1)
    assert torch.equal(cw(model, images, labels, ids=list("abcd"), seed=0, threat=UNBOUNDED), images)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_saturated_pixels_move(value: float) -> None:
    """A white or black image is broken, which a plain atanh could not do."""
    model = Linear()
    side = 1.0 if value == 0.0 else -1.0  # only moves into the box help
    model.direction.data = model.direction.abs() * side
    image = torch.full((1, 3, 4, 4), value)
    model.offset.data = (image * model.direction).sum().detach() + 0.02
    found, labels = run(cw, model, image, UNBOUNDED, c=5.0, steps=200)
    assert misclassified(model(found), labels).all()
    assert (found != image).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_confidence_is_kept() -> None:
    model, images = Linear(), pictures(8)
    found, labels = run(cw, model, images, UNBOUNDED, c=10.0, kappa=0.2, steps=200)
    signed = model(found)[:, 1] * (1 - 2 * labels)  # how far inside the other class
    assert (signed >= 0.2 - 1e-5).all()


def test_more_steps_come_nearer() -> None:
    model, images = Small(), pictures(16)
    norms = [l2_norm(run(cw, model, images, UNBOUNDED, steps=steps)[0] - images) for steps in (50, 100)]
    assert (norms[1] <= norms[0] + 1e-5).all()  # the first iterates are the same, and the best is kept


def test_one_search_step_is_cw() -> None:
    model, images = Small(), pictures(16, 0.0, 1.0)
    assert torch.equal(
        run(cw_search, model, images, UNBOUNDED, search_steps=1, steps=20)[0],
        run(cw, model, images, UNBOUNDED, steps=20)[0],
    )


def test_the_search_breaks_what_one_c_cannot_and_comes_nearer() -> None:
    model, images = Linear(), pictures(16)
    distance = model(images)[:, 1].abs().detach()
    c = 2 * float(distance.median())  # the minimum of the objective is across the boundary from c = 2 distance on
    single, labels = run(cw, model, images, UNBOUNDED, c=c, steps=100)
    searched, _ = run(cw_search, model, images, UNBOUNDED, c=c, steps=100, search_steps=6)
    broken = misclassified(model(single), labels)
    assert 0 < broken.sum() < 16
    assert misclassified(model(searched), labels).all()
    assert (l2_norm(searched - images)[broken] <= l2_norm(single - images)[broken] + 1e-6).all()
    assert (l2_norm(searched - images) >= distance * (1 - 1e-4)).all()
    far, _ = run(cw, model, images, UNBOUNDED, c=1000.0, steps=50)  # a c that is far too large overshoots
    near, _ = run(cw_search, model, images, UNBOUNDED, c=1000.0, steps=50, search_steps=12)
    assert l2_norm(near - images).mean() < 0.97 * l2_norm(far - images).mean()


def test_each_value_of_c_is_the_image_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenfold until the image is broken, then the middle between the last failure and the last success."""
    asked: list[list[float]] = []

    def breaks_from(model: Any, images: Tensor, labels: Tensor, c_B: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
        asked.append(c_B.tolist())
        needed = images[:, 0, 0, 0]  # 0: wrong from the start
        square = torch.where(c_B >= needed, c_B, torch.inf)
        return images, torch.where(needed == 0, 0.0, square)

    monkeypatch.setattr(sys.modules["nsbench.attacks.cw_search"], "minimise", breaks_from)
    images = torch.tensor([0.5, 20.0, 0.0, 1e9]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    cw_search(Linear(), images, torch.zeros(4), ids=list("abcd"), seed=0, threat=UNBOUNDED, search_steps=4)
    assert asked == [[1, 1, 1, 1], [0.5, 10, 10], [0.25, 100, 100], [0.375, 55, 1000]]


def compare(model: Any, images: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """(our accuracy, torchattacks', our mean l2 by theirs where both succeed), in torchattacks' defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks
    theirs = torchattacks.CW(model)(images, labels)
    ours = cw(model, images, labels, ids=[str(i) for i in range(len(images))], seed=0, threat=UNBOUNDED)
    with torch.no_grad():
        broken, their_broken = (misclassified(model(found), labels) for found in (ours, theirs))
    both = broken & their_broken
    ratio = l2_norm(ours - images)[both].mean() / l2_norm(theirs - images)[both].mean()
    return float((~broken).float().mean()), float((~their_broken).float().mean()), float(ratio)


class Shifted(Small):
    """Logits above zero, where torchattacks' largest other logit is the right one."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 100


def test_same_iterates_as_torchattacks_with_its_box_and_without_its_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with a gradient for few of them: where the margin's term is constant, none is asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks
    module = sys.modules["nsbench.attacks.cw"]
    for name, value in {"MARGIN": 0.0, "SCALE": 0.5, "BOUND": math.inf}.items():
        monkeypatch.setattr(module, name, value)
    model, images = Shifted(), pictures(48)
    counts = {True: 0, False: 0}

    def count(module: nn.Module, inputs: tuple[Tensor]) -> None:
        counts[inputs[0].requires_grad] += len(inputs[0])

    hook = model.register_forward_pre_hook(count)
    ours, labels = run(cw, model, images, UNBOUNDED, c=3.0, batch_size=20)
    hook.remove()
    theirs = torchattacks.CW(model, c=3.0)
    theirs.steps = type("Unchecked", (int,), {"__floordiv__": lambda self, other: 10**9})(50)
    torch.testing.assert_close(ours, theirs(images, labels), atol=1e-5, rtol=0)
    assert misclassified(model(ours), labels).float().mean() > 0.5
    assert counts[True] < 0.5 * 48 * 50
    assert sum(counts.values()) < 1.2 * 48 * 50


def test_not_worse_than_torchattacks_on_a_small_transformer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.models.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=5
        ).eval()
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = 0.5 + (images - 0.5) * torch.linspace(0.2, 1, 12).view(-1, 1, 1, 1)
    with torch.no_grad():
        model.head.bias -= model(images).mean(dim=0)  # so that all classes occur
        model.head.weight *= 20  # confident enough that an attack has work to do
        model.head.bias *= 20
        labels = model(images).argmax(dim=1)
    assert len(labels.unique()) > 2
    accuracy, their_accuracy, ratio = compare(model, images, labels)
    assert accuracy <= their_accuracy < 1
    assert ratio <= 1.05


@pytest.mark.slow
def test_not_worse_than_torchattacks_on_the_real_vit_tiny(shared_data: Path) -> None:
    model = real_model(shared_data)
    images, labels = real_images(shared_data, model, 16)
    accuracy, their_accuracy, ratio = compare(model, images, labels)
    assert accuracy <= their_accuracy
    assert ratio <= 1.05
