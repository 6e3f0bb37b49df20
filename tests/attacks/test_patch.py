"""A square at any place: on a linear model the strongest content of each place is known."""

from __future__ import annotations

import pytest
import torch
from test_attacks import Linear, Small, names, pictures
from test_pgd import Sure
from torch import Tensor, nn

from nsbench.attacks import patch
from nsbench.attacks.common import misclassified
from nsbench.attacks.patch import square
from nsbench.errors import UsageError
from nsbench.types import ThreatModel

QUARTER = ThreatModel("square", share=0.5)  # 2 of 4 pixels


class Tall(nn.Module):
    """Two classes on 3 x 9 x 9 pixels, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(3, 9, 9, generator=torch.Generator().manual_seed(5)))

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.direction).flatten(1).sum(dim=1) / 10
        return torch.stack([-score - 8, score], dim=1)  # as near as float32 needs to tell losses apart


def test_a_linear_model_s_square_is_the_best_of_those_tried() -> None:
    """The label stays far away, so no place breaks: every pixel goes to the bound that lowers the label's score."""
    model, threat = Tall(), ThreatModel("square", share=1 / 3)
    images = torch.rand(12, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    labels, ids = torch.ones(12, dtype=torch.long), names(12)
    found = patch(model, images, labels, ids=ids, seed=4, threat=threat, steps=21, step_size=0.05, restarts=4)
    bound = (model.direction < 0).float().expand_as(images)
    best = torch.full((12,), torch.inf)
    for place in range(4):
        inside = torch.cat([square(images[i : i + 1], [ids[i]], 4, place, threat) for i in range(12)])
        assert (inside.flatten(1).sum(dim=1) == 9).all()
        best = torch.minimum(best, model(torch.where(inside, bound, images))[:, 1])
    torch.testing.assert_close(model(found)[:, 1], best)


def test_places_are_drawn_evenly_and_by_image() -> None:
    image = torch.zeros(1, 3, 5, 6)
    threat = ThreatModel("square", share=0.4)  # 2 of the shorter side's 5
    seen: dict[tuple[int, int], int] = {}
    for number in range(2000):
        rows, columns = square(image, [f"i{number}"], 0, 0, threat)[0, 0].nonzero().T
        assert (len(rows), int(rows.max() - rows.min()), int(columns.max() - columns.min())) == (4, 1, 1)
        place = int(rows.min()), int(columns.min())
        seen[place] = seen.get(place, 0) + 1
    assert len(seen) == 4 * 5
    assert 60 < min(seen.values()) <= max(seen.values()) < 145  # 100 each, 4.5 deviations


def test_every_restart_has_a_place_and_a_content_of_its_own() -> None:
    model, image, threat = Sure(), torch.full((1, 3, 24, 24), -1.0), ThreatModel("square", share=0.25)
    patch(model, image, torch.tensor([0]), ids=["a"], seed=0, threat=threat, steps=1, restarts=5)
    starts = model.seen[::2]
    assert len(starts) == 5
    places = [tuple((one[0, 0] >= 0).nonzero()[0].tolist()) for one in starts]
    contents = torch.stack([one[one >= 0] for one in starts])
    assert len(set(places)) == 5
    assert contents.shape == (5, 3 * 6 * 6)
    assert len(contents[:, 0].unique()) == 5
    assert abs(contents.mean() - 0.5) < 0.05  # uniform in [0, 1]
    assert contents.min() < 0.02
    assert contents.max() > 0.98


def test_outcomes_depend_on_no_batch_and_more_places_break_more() -> None:
    model, images = Small().eval(), pictures(64, 0.0, 1.0)
    labels, ids = (model(images).argmax(dim=1) + (torch.arange(64) % 8 == 0)) % 3, names(64)
    call = {"seed": 1, "threat": ThreatModel("square", share=0.25), "steps": 8}
    whole = patch(model, images, labels, ids=ids, **call)
    for size in (1, 7):
        assert torch.equal(patch(model, images, labels, ids=ids, batch_size=size, **call), whole)
    alone = torch.cat(
        [patch(model, images[i : i + 1], labels[i : i + 1], ids=[ids[i]], **call) for i in range(0, 64, 9)]
    )
    torch.testing.assert_close(alone, whole[::9], atol=1e-6, rtol=0)
    once = patch(model, images, labels, ids=ids, restarts=1, **call)
    many, few = (int(misclassified(model(found), labels).sum()) for found in (whole, once))
    assert 64 > many > few > 8


def test_another_threat_is_refused() -> None:
    with pytest.raises(UsageError, match="patch: threat model 'linf 4/255' is not supported; give norm square"):
        patch(Linear(), pictures(1), torch.tensor([0]), ids=["a"], seed=0, threat=ThreatModel("linf", 4 / 255))


def test_words() -> None:
    assert str(ThreatModel("square", share=50 / 224)) == "a square of 22.3214 % of the side"
    assert ThreatModel("square", share=50 / 224).pixels((224, 224)) == 50
    assert ThreatModel("square", share=50 / 224).pixels((48, 48)) == 11
