"""Negative views: what becomes of tiles, and the three losses, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from training_reference import Pictures, recipe, tiny_model

from nsbench import registry
from nsbench.errors import TrainingError
from nsbench.models import weights_digest
from nsbench.progress import SILENT
from nsbench.training import finetune, negative_loss, negative_view
from nsbench.training.augment import seeded
from nsbench.training.negative import Seen, _side, infilled, rotated, shuffled

COLUMNS, SIDE, IMAGES = 6, 4, 5


def images() -> torch.Tensor:
    """No two tiles are alike, nor is a tile like itself when it is turned."""
    count = IMAGES * 3 * (COLUMNS * SIDE) ** 2
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).float().view(IMAGES, 3, 24, 24) / count


def tiles_of(image_CHW: torch.Tensor, columns: int = COLUMNS, side: int = SIDE) -> list[np.ndarray]:
    """Tiles (C, S, S) row by row, cut out one by one."""
    places = [(row * side, column * side) for row in range(columns) for column in range(columns)]
    return [image_CHW[:, top : top + side, left : left + side].numpy() for top, left in places]


def drawn(transform: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor, seed: int = 1) -> torch.Tensor:
    with seeded(seed):
        return transform(given)


def test_rotating_turns_every_tile_where_it_is() -> None:
    turns = []
    for before, after in zip(images(), drawn(lambda x: rotated(x, SIDE), images()), strict=True):
        for old, new in zip(tiles_of(before), tiles_of(after), strict=True):
            (quarters,) = [k for k in range(4) if np.array_equal(np.rot90(new, -k, (1, 2)), old)]
            turns.append(quarters)
    shares = np.bincount(turns, minlength=4) / len(turns)
    assert np.abs(shares - 0.25).max() < 0.1  # of 180 tiles: three deviations
    assert len({tuple(turns[k : k + 36]) for k in range(0, 180, 36)}) == IMAGES  # each image has draws of its own


def test_a_tile_of_one_colour_does_not_change() -> None:
    flat = torch.rand(2, 3, 6, 6).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(drawn(lambda x: rotated(x, 4), flat), flat)
    assert not torch.equal(drawn(lambda x: rotated(x, 8), flat), flat)


def test_shuffling_keeps_the_tiles_and_moves_them() -> None:
    orders = []
    for before, after in zip(images(), drawn(lambda x: shuffled(x, SIDE), images()), strict=True):
        old, new = ([tile.tobytes() for tile in tiles_of(image)] for image in (before, after))
        assert sorted(old) == sorted(new)
        orders.append(tuple(old.index(tile) for tile in new))
    assert len(set(orders)) == IMAGES
    assert all(sum(place == source for place, source in enumerate(order)) < 10 for order in orders)


@pytest.mark.parametrize(("columns", "rate"), [(6, 0.25), (6, 0.375), (7, 0.25), (7, 0.375), (14, 0.25), (14, 0.375)])
def test_infilling_replaces_the_centre_by_tiles_of_the_border(columns: int, rate: float) -> None:
    count = 2 * 3 * (columns * 2) ** 2
    given = torch.randperm(count).float().view(2, 3, columns * 2, columns * 2)
    border = [k for k in range(columns**2) if {k // columns, k % columns} & {0, columns - 1}]
    chosen = []
    for before, after in zip(given, drawn(lambda x: infilled(x, 2, rate), given), strict=True):
        old, new = ([tile.tobytes() for tile in tiles_of(image, columns, 2)] for image in (before, after))
        changed = [place for place in range(columns**2) if old[place] != new[place]]
        assert len(changed) == round(rate * columns**2)
        assert not set(changed) & set(border)
        sources = [old.index(new[place]) for place in changed]
        assert set(sources) <= set(border)
        assert max(np.bincount(sources)) == -(-len(changed) // len(border))  # none twice before all were taken
        away = [_away(place, columns) for place in range(columns**2)]
        kept = [away[place] for place in set(range(columns**2)) - set(changed) - set(border)]
        assert max(away[place] for place in changed) <= min(kept, default=math.inf)  # nearest to the centre
        chosen.append(sources)
    assert chosen[0] != chosen[1]


def _away(place: int, columns: int) -> float:
    middle = (columns - 1) / 2
    return math.hypot(place // columns - middle, place % columns - middle)


class Sized:
    """A model, as far as the side of its tiles depends on it."""

    def __init__(self, size: int, patch: int) -> None:
        self.input_size, self.name, self.patch_embed = size, "sized", object()
        self.vit = type("Vit", (), {"patch_embed": type("Embed", (), {"patch_size": (patch, patch)})})


@pytest.mark.parametrize(
    ("size", "patch", "side"), [(224, 16, 32), (384, 16, 32), (224, 14, 28), (48, 8, 16), (224, 32, 32), (16, 8, 8)]
)
def test_a_tile_is_two_patches_where_the_input_can_be_cut_so(size: int, patch: int, side: int) -> None:
    model: Any = Sized(size, patch)
    assert _side(model, 0, one_patch=False) == side
    assert _side(model, 0, one_patch=True) == patch
    assert _side(model, patch, one_patch=False) == patch


def test_the_view_of_a_model_moves_whole_patches() -> None:
    given = Pictures(4).pixels[..., :1].transpose(0, 3, 1, 2).repeat(3, axis=1)
    given = torch.from_numpy(given).float()
    view = negative_view(tiny_model(patch_size=4), "shuffle")
    after = drawn(view, given)
    for old, new in zip(given, after, strict=True):  # tiles of 8 pixels: 2 x 2 patches
        assert sorted(t.tobytes() for t in tiles_of(old, 2, 8)) == sorted(t.tobytes() for t in tiles_of(new, 2, 8))
    assert drawn(view, given).equal(after)
    assert not drawn(view, given, seed=2).equal(after)


# Losses


def a_look(seed: int = 0, count: int = 6, classes: int = 5, width: int = 7) -> Seen:
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=draws, dtype=torch.float64)
    return Seen(features, 2 * torch.randn(count, classes, generator=draws, dtype=torch.float64))


def with_logits(logits: torch.Tensor) -> Seen:
    return Seen(torch.zeros(len(logits), 2, dtype=logits.dtype), logits)


LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def test_uniform_is_the_divergence_from_the_uniform_distribution() -> None:
    loss = negative_loss("uniform", recipe())
    clean, negative = a_look(0), a_look(1)
    p, u = negative.logits.softmax(dim=1), 1 / 5
    expected = math.log(5) + (u * (u / p).log()).sum(dim=1).mean()
    torch.testing.assert_close(loss(clean, negative, LABELS), expected)
    level = torch.full((6, 5), 3.0, requires_grad=True)
    least = loss(clean, with_logits(level), LABELS)
    assert least.item() == pytest.approx(math.log(5))
    least.backward()
    assert level.grad is not None
    assert level.grad.abs().max() < 1e-7


def test_l2_is_minus_the_distance_of_probabilities() -> None:
    loss = negative_loss("l2", recipe())
    sure, other = (with_logits(1e3 * torch.eye(5)[[k, k]]) for k in (0, 3))
    assert loss(sure, other, LABELS[:2]).item() == pytest.approx(-math.sqrt(2))
    half = with_logits(torch.tensor([[0.0, 0.0, -1e3]]))
    assert loss(half, with_logits(torch.tensor([[1e3, 0, 0]])), LABELS[:1]).item() == pytest.approx(-math.sqrt(0.5))
    same = a_look().logits.requires_grad_(True)
    nothing = loss(with_logits(same), with_logits(same.clone()), LABELS)
    nothing.backward()
    assert nothing.item() == 0
    assert same.grad is not None
    assert same.grad.isfinite().all()
    first, second = a_look(0).logits.requires_grad_(True), a_look(1).logits.requires_grad_(True)
    loss(with_logits(first), with_logits(second), LABELS).backward()
    assert all(logits.grad is not None and logits.grad.abs().sum() > 0 for logits in (first, second))


def supervised_contrast(clean: torch.Tensor, negative: torch.Tensor, labels: list[int], temperature: float) -> float:
    """Khosla et al. 2020, equation 2, one anchor after the other."""

    def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp((a @ b / (a.norm() * b.norm())).item() / temperature)

    losses = []
    for i, anchor in enumerate(clean):
        friends = [j for j in range(len(clean)) if labels[j] == labels[i] and j != i]
        everyone = sum(likeness(anchor, other) for j, other in enumerate(clean) if j != i)
        everyone += sum(likeness(anchor, other) for other in negative)
        if friends:
            losses.append(-sum(math.log(likeness(anchor, clean[j]) / everyone) for j in friends) / len(friends))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_contrastive_against_its_formula(temperature: float) -> None:
    loss = negative_loss("contrastive", recipe(batch_size=6), temperature=temperature)
    clean, negative = a_look(0), a_look(1)
    expected = supervised_contrast(clean.features, negative.features, LABELS.tolist(), temperature)
    assert loss(clean, negative, LABELS).item() == pytest.approx(expected, rel=1e-9)
    assert loss(clean, negative, torch.arange(6)).item() == 0  # nobody has a partner


def test_contrastive_wants_whole_batches() -> None:
    registry.load_content()
    with pytest.raises(TrainingError, match=r"all 4 images of a batch, and 2 go through the model at a time"):
        registry.methods["pr"].fit(tiny_model(), Pictures(), recipe(micro_batch=2), loss="contrastive", progress=SILENT)


@pytest.mark.parametrize("settings", [{}, {"loss": "l2"}, {"loss": "contrastive"}, {"transform": "shuffle"}])
def test_of_no_weight_it_is_the_control_bit_for_bit(settings: dict[str, Any]) -> None:
    registry.load_content()
    r = recipe(flip=0.5, random_erasing=0.5, drop_path=0.3)
    fitted = registry.methods["pr"].fit(tiny_model(), Pictures(), r, weight=0.0, progress=SILENT, **settings)
    assert weights_digest(fitted.model) == weights_digest(finetune(tiny_model(), Pictures(), r).model)


def test_contrastive_costs_as_much_as_the_others() -> None:
    registry.load_content()
    costs = {
        loss: registry.methods["pr"].fit(tiny_model(), Pictures(), recipe(), loss=loss, progress=SILENT).history[0]
        for loss in ("uniform", "l2", "contrastive")
    }
    assert {entry.forward_equivalents for entry in costs.values()} == {3 * 2 * 4 * 3}


def test_what_the_negative_views_lose_is_certainty() -> None:
    registry.load_content()
    r = recipe(rounds=4, steps_per_round=5)
    given = torch.from_numpy(Pictures().pixels).permute(0, 3, 1, 2).float() / 255
    negative = drawn(negative_view(tiny_model(4), "rotate"), given)
    certainty = {}
    for name in ("finetune", "pr"):
        model = registry.methods[name].fit(tiny_model(4), Pictures(), r, progress=SILENT).model
        certainty[name] = model(negative).softmax(dim=1).amax(dim=1).mean().item() - 1 / 5  # above chance
    assert certainty["pr"] < 0.7 * certainty["finetune"]
