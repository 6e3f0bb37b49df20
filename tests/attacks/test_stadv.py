"""Spatial flow: whole-pixel shifts against torch.roll, half ones by hand, slopes against finite differences."""

from __future__ import annotations

import pytest
import torch
from test_attacks import Small, names, pictures
from torch import Tensor, nn

from nsbench.attacks import stadv
from nsbench.attacks.common import misclassified
from nsbench.attacks.stadv import variation, warped
from nsbench.errors import UsageError
from nsbench.types import ThreatModel


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_no_flow_is_the_image() -> None:
    images = drawn(3, 3, 7, 9)
    torch.testing.assert_close(warped(images, torch.zeros(3, 2, 7, 9, dtype=torch.float64)), images)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 2), (-2, 1), (3, -3)])
def test_whole_pixels_are_a_roll_inside(down: int, right: int) -> None:
    images, flow = drawn(2, 3, 10, 12), torch.zeros(2, 2, 10, 12, dtype=torch.float64)
    flow[:, 0], flow[:, 1] = down, right
    inside = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(warped(images, flow)[inside], images.roll((-down, -right), (2, 3))[inside])


def test_parts_of_a_pixel_are_interpolated_and_the_border_goes_on() -> None:
    """The four neighbours by hand."""
    images, flow = drawn(1, 1, 4, 5), torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    flow[0, :, 1, 2] = torch.tensor([0.25, -0.5])
    a, b, c, d = images[0, 0, 1, 1], images[0, 0, 1, 2], images[0, 0, 2, 1], images[0, 0, 2, 2]
    assert torch.isclose(warped(images, flow)[0, 0, 1, 2], 0.75 * (a + b) / 2 + 0.25 * (c + d) / 2)
    flow[:] = -9.0
    torch.testing.assert_close(warped(images, flow), images[..., :1, :1].expand(1, 1, 4, 5))


def test_variation_is_the_paper_s() -> None:
    """A loop over pixels and their four neighbours."""
    flow, total = drawn(1, 2, 4, 5), 0.0
    for i in range(4):
        for j in range(5):
            for k, m in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if 0 <= k < 4 and 0 <= m < 5:
                    total += float((flow[0, :, i, j] - flow[0, :, k, m]).norm())
    assert variation(flow).item() == pytest.approx(total, abs=1e-6)


def test_slopes_are_those_of_finite_differences() -> None:
    """A linear score of the warped image plus the variation, in float64, at points where neither has a bend."""
    images, weights = drawn(2, 3, 5, 5, seed=1), drawn(2, 3, 5, 5, seed=2)
    flow = 0.2 + 0.6 * drawn(2, 2, 5, 5, seed=3)
    flow[..., 4, :] *= -1  # towards the inside
    flow[..., :, 4] *= -1

    def objective(at: Tensor) -> Tensor:
        return (warped(images, at) * weights).flatten(1).sum(dim=1) + 0.05 * variation(at)

    assert torch.autograd.gradcheck(objective, flow.requires_grad_(), eps=1e-6, atol=1e-6)


class Edge(nn.Module):
    """Class 1 where the dark column is left of the middle: what moving breaks and adding little does not."""

    def forward(self, images: Tensor) -> Tensor:
        columns = torch.linspace(-1, 1, images.shape[3], dtype=images.dtype)
        dark = (1 - images).mean(dim=(1, 2))
        score = -(dark * columns).sum(dim=1) * 10
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_a_shape_is_moved_across_the_boundary_only_as_far_as_the_flow_goes() -> None:
    images = torch.ones(1, 3, 12, 12)
    images[..., 4] = 0.0  # 1.5 pixels left of the middle
    call = {"ids": ["a"], "seed": 0, "tau": 0.0, "steps": 200}
    far, near = (
        stadv(Edge(), images, torch.tensor([1]), threat=ThreatModel("flow", share=share), **call)
        for share in (0.3, 0.02)
    )
    assert misclassified(Edge()(far), torch.tensor([1])).item()
    assert not misclassified(Edge()(near), torch.tensor([1])).item()
    assert Edge()(near)[0, 1] < Edge()(images)[0, 1]  # but it moved


class Wide(nn.Module):
    """Smooth logits on 3 x 6 x 9 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = torch.randn(162, 4, generator=torch.Generator().manual_seed(2))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = torch.tanh(images.flatten(1) @ self.direction / 4) @ torch.eye(4) * 3
        return logits


def test_what_comes_back_is_that_of_a_plain_loop() -> None:
    """Image by image with PyTorch's Adam: the margin as a share of the first one, and the mean variation over pixels."""
    model, share, lr, tau, steps = Wide(), 0.02, 0.1, 0.5, 12
    images = torch.rand(10, 3, 6, 9, generator=torch.Generator().manual_seed(6))
    labels, far = model(images).argmax(dim=1), share * 6  # of the shorter side

    def margin(image: Tensor, label: int) -> Tensor:
        logits = model(image)[0]
        return logits[label] - torch.cat([logits[:label], logits[label + 1 :]]).max()

    expected, broken = [], 0
    for image, label in zip(images.split(1), labels.tolist(), strict=True):
        flow = torch.zeros(1, 2, 6, 9, requires_grad=True)
        optimiser, found = torch.optim.Adam([flow], lr=lr * far), [image]
        for _ in range(steps):
            loss = margin(warped(image, flow), label) / margin(image, label) + tau * variation(flow).sum() / 54
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            flow.data.clamp_(-far, far)
            found.append(warped(image, flow.detach()))
        margins = [float(margin(one, label)) for one in found]
        wrong = [n for n, each in enumerate(margins) if each < 0]
        broken += bool(wrong)
        expected.append(found[wrong[0]] if wrong else found[margins.index(min(margins))])
    assert 0 < broken < 10
    threat = ThreatModel("flow", share=share)
    made = stadv(model, images, labels, ids=names(10), seed=0, threat=threat, steps=steps, lr=lr, tau=tau, batch_size=4)
    torch.testing.assert_close(made, torch.cat(expected), atol=1e-4, rtol=0)


def test_outcomes_depend_on_no_batch_and_a_smoother_flow_breaks_fewer() -> None:
    model, images = Small().eval(), pictures(64, 0.0, 1.0)
    labels = (model(images).argmax(dim=1) + (torch.arange(64) % 8 == 0)) % 3
    call = {"ids": names(64), "seed": 1, "threat": ThreatModel("flow", share=0.2), "steps": 15}
    whole = stadv(model, images, labels, **call)
    broken = misclassified(model(whole), labels)
    assert 8 < broken.sum() < 64
    for size in (1, 7):
        other = stadv(model, images, labels, batch_size=size, **call)
        assert torch.equal(misclassified(model(other), labels), broken)
    stiff = stadv(model, images, labels, tau=100.0, **call)
    assert misclassified(model(stiff), labels).sum() < broken.sum()


def test_another_threat_is_refused() -> None:
    with pytest.raises(UsageError, match="stadv: threat model 'linf 4/255' is not supported; give norm flow"):
        stadv(Small(), pictures(1), torch.tensor([0]), ids=["a"], seed=0, threat=ThreatModel("linf", 4 / 255))
    assert str(ThreatModel("flow", share=0.025)) == "flow of 2.5 % of the side"
