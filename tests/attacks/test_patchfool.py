"""Patch-Fool: which patches, which pixels, which gradient, and that nothing of it stays behind in the model."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nsbench.attacks.common import gradient, misclassified
from nsbench.attacks.patch_choice import _per_patch, patch_mask
from nsbench.attacks.patchfool import _ascent, direction, patchfool, project_conflict
from nsbench.errors import ModelError, UsageError
from nsbench.models.attention import attention_modules, recorded_attention
from nsbench.types import ThreatModel

ONE = ThreatModel("patch", patches=1)


def vit(seed: int = 0, **changes: Any) -> Any:
    """A tiny untrained transformer with three classes that all occur, and attention that is not flat."""
    settings = {"img_size": 24, "patch_size": 8, "embed_dim": 16, "depth": 6, "num_heads": 2, "num_classes": 3}
    family = changes.pop("family", timm.models.VisionTransformer)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family(**(settings | changes)).eval()
        for block in model.blocks:
            nn.init.normal_(block.attn.qkv.weight, std=0.5)
            nn.init.normal_(block.mlp.fc1.weight, std=0.3)
        nn.init.normal_(model.head.weight, std=0.5)
    with torch.no_grad():
        model.head.bias -= model(pictures(32)).mean(dim=0)
    return model


def pictures(n: int, height: int = 24, width: int = 24) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(n))


VARIANTS = {
    "plain": {},
    "registers": {"reg_tokens": 3},
    "average pool": {"class_token": False, "global_pool": "avg"},
    "average pool with class token": {"global_pool": "avg", "fc_norm": False},
    "distilled": {"family": timm.models.deit.VisionTransformerDistilled},
    "shallow": {"depth": 1},
    "wide patches": {"patch_size": (4, 12)},
}


def attack(
    model: Any, images: Tensor, labels: Tensor | None = None, threat: ThreatModel = ONE, **params: Any
) -> Tensor:
    labels = model(images).argmax(dim=1) if labels is None else labels
    names = params.pop("ids", [str(i) for i in range(len(images))])
    return patchfool(model, images, labels, ids=names, seed=0, threat=threat, **({"steps": 10} | params))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_replaces_exactly_the_most_attended_patch(changes: dict) -> None:
    model, images = vit(**changes), pictures(6)
    modules, prefix = attention_modules(model), model.num_prefix_tokens
    with recorded_attention([modules[min(4, len(modules) - 1)]]) as maps, torch.no_grad():
        labels = model(images).argmax(dim=1)
    expected = maps[0].mean(dim=1).mean(dim=1)[:, prefix:].argmax(dim=1)
    height, width = model.patch_embed.patch_size
    changed = (attack(model, images, labels) != images).any(dim=1)
    for change, index in zip(changed, expected.tolist(), strict=True):
        row, column = divmod(index, 24 // width)
        inside = change[row * height : (row + 1) * height, column * width : (column + 1) * width]
        assert inside.float().mean() > 0.95
        assert change.sum() == inside.sum()


def chosen(images: Tensor, found: Tensor, size: int = 8) -> list[list[int]]:
    """Indices of the changed patches of each image."""
    changed = (found != images).any(dim=1, keepdim=True).float()
    return [row.nonzero().flatten().tolist() for row in nn.functional.max_pool2d(changed, size).flatten(1)]


def test_saliency_takes_the_patch_of_the_largest_gradient() -> None:
    model, images = vit(), pictures(6)
    labels, variable = model(images).argmax(dim=1), images.clone().requires_grad_(True)
    nn.functional.cross_entropy(model(variable), labels, reduction="sum").backward()
    patches = variable.grad.abs().sum(dim=1).unfold(1, 8, 8).unfold(2, 8, 8).sum(dim=(3, 4)).flatten(1)
    found = attack(model, images, labels, threat=ThreatModel("patch", patches=2), select="saliency")
    assert chosen(images, found) == patches.topk(2, dim=1).indices.sort(dim=1).values.tolist()


def test_random_patches_follow_seed_and_image() -> None:
    model, images = vit(), pictures(40)
    labels, ids, two = model(images).argmax(dim=1), [f"image {i}" for i in range(40)], ThreatModel("patch", patches=2)
    first, again, other = (
        chosen(images, patchfool(model, images, labels, ids=ids, seed=seed, threat=two, steps=1, select="random"))
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert {patch for patches in first for patch in patches} == set(range(9))
    assert all(len(patches) == 2 for patches in first)


def test_saliency_of_cut_patches_counts_what_is_there() -> None:
    values = torch.arange(2 * 3 * 5, dtype=torch.float32).view(1, 2, 3, 5)
    expected = [
        values[0, :, :2, :4].sum(),
        values[0, :, :2, 4:].sum(),
        values[0, :, 2:, :4].sum(),
        values[0, :, 2:, 4:].sum(),
    ]
    assert _per_patch(values, (2, 4)).tolist() == [expected]


@settings(max_examples=15, deadline=None)
@given(
    bound=st.sampled_from(["linf", "l2"]),
    eps=st.floats(0, 0.5),
    patches=st.integers(1, 4),
    select=st.sampled_from(["attention", "saliency", "random"]),
    lr=st.floats(0.01, 1),
)
def test_bounded_forms_keep_budget_and_support(bound: str, eps: float, patches: int, select: str, lr: float) -> None:
    model, images = vit(), pictures(2)
    images = images.round()  # pixels at the edges of the range
    found = attack(model, images, threat=ThreatModel("patch", eps, patches), bound=bound, select=select, lr=lr, steps=3)
    change = (found - images).flatten(1)
    size = change.abs().amax(dim=1) if bound == "linf" else change.norm(dim=1)
    assert (size <= eps * (1 + 1e-5) + 1e-6).all()
    assert all(len(patches_of) <= patches for patches_of in chosen(images, found))
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize(("bound", "budgets"), [("linf", (0.02, 0.2, 1.0)), ("l2", (0.2, 2.0, 20.0))])
def test_a_larger_bound_breaks_more(bound: str, budgets: tuple[float, ...]) -> None:
    model, images = vit(), pictures(24)
    labels = model(images).argmax(dim=1)
    right = [
        int(
            (
                ~misclassified(
                    model(attack(model, images, labels, ThreatModel("patch", eps, 1), steps=20, bound=bound)), labels
                )
            ).sum()
        )
        for eps in budgets
    ]
    assert right[0] > right[2]
    assert right == sorted(right, reverse=True)


def test_breaks_images_and_more_patches_break_more() -> None:
    model, images = vit(), pictures(24)
    labels = model(images).argmax(dim=1)
    right = [
        int(
            (
                ~misclassified(model(attack(model, images, labels, ThreatModel("patch", patches=k), steps=20)), labels)
            ).sum()
        )
        for k in (1, 9)
    ]
    assert 24 > right[0] >= right[1]


@settings(max_examples=10, deadline=None)
@given(patches=st.integers(1, 9), n=st.integers(1, 3), steps=st.integers(0, 3))
def test_support_and_range_hold(patches: int, n: int, steps: int) -> None:
    model, images = vit(), pictures(n)
    found = attack(model, images, threat=ThreatModel("patch", patches=patches), steps=steps)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= 1
    changed = (found != images).any(dim=1, keepdim=True).float()
    assert (nn.functional.max_pool2d(changed, 8).flatten(1).sum(dim=1) == patches).all()


@pytest.mark.parametrize(
    ("threat", "params"),
    [
        (ONE, {}),
        (ThreatModel("patch", patches=2), {"select": "random"}),
        (ONE, {"select": "saliency"}),
        (ThreatModel("patch", 0.2, 1), {"bound": "linf"}),
        (ThreatModel("patch", 2.0, 2), {"bound": "l2"}),
    ],
    ids=["attention", "random", "saliency", "linf", "l2"],
)
def test_outcome_does_not_depend_on_batch_or_order(threat: ThreatModel, params: dict) -> None:
    model, images, ids = vit(), pictures(64), [f"image {i}" for i in range(64)]
    with torch.no_grad():
        labels = (model(images).argmax(dim=1) + (torch.arange(64) % 8 == 0)) % 3  # some are wrong from the start
    found = {}
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    for size, order in ((64, torch.arange(64)), (7, shuffled), (1, torch.arange(64))):
        found[size] = torch.empty_like(images)
        for part in order.split(size):
            found[size][part] = attack(
                model, images[part], labels[part], threat, ids=[ids[i] for i in part], steps=8, **params
            )
    for size in (7, 1):
        assert torch.equal(misclassified(model(found[size]), labels), misclassified(model(found[64]), labels))
        assert chosen(images, found[size]) == chosen(images, found[64])
    assert torch.equal(found[64][::8], images[::8])  # images that are wrong already stay as they are


def test_keeps_the_best_iterate() -> None:
    """A longer run ends with at least the cross-entropy of a shorter one, image by image."""
    model, images = vit(), pictures(16)
    labels = model(images).argmax(dim=1)
    losses = []
    for steps in (0, 3, 12):
        logits = model(attack(model, images, labels, steps=steps))
        losses.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
    assert (losses[1] >= losses[0] - 1e-6).all()
    assert (losses[2] >= losses[1] - 1e-6).all()


def test_the_learning_rate_falls_after_so_many_steps() -> None:
    """With a decay that leaves nothing: two whole steps, and no further one."""
    model, images = vit(), pictures(1)
    seen: list[Tensor] = []
    model.patch_embed.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    seen_label = model(images).argmax(dim=1)
    seen.clear()
    model.head.bias.data[seen_label] += 100  # it stays right, so that every step is taken
    attack(model, images, seen_label, steps=5, lr=0.2, decay=1e-9, decay_every=2)
    moves = [float((one - other).abs().max()) for one, other in itertools.pairwise(seen[1:])]  # the first look chooses
    assert [move > 1e-3 for move in moves] == [True, True, False, False, False]
    assert moves[0] == pytest.approx(0.2, abs=1e-3)  # Adam's first step has the size of its rate


def test_projection_divides_by_the_squared_norm() -> None:
    pull = torch.tensor([[1.0, 1.0], [1.0, 1.0], [3.0, 4.0], [1.0, 0.0]]).view(4, 1, 1, 2)
    slope = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [-6.0, -8.0], [0.0, 0.0]]).view(4, 1, 1, 2)
    expected = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]).view(4, 1, 1, 2)
    torch.testing.assert_close(project_conflict(pull.clone(), direction(slope)), expected)
    torch.testing.assert_close(project_conflict(pull.clone(), direction(slope * 1e-30)), expected)  # no underflow


def test_every_chosen_patch_enters_the_attention_term() -> None:
    model, images = vit(), pictures(2)
    content = images.clone().requires_grad_(True)
    columns = torch.tensor([[1, 5], [2, 9]])
    with recorded_attention(attention_modules(model)[1:3]) as maps:
        loss = nn.functional.cross_entropy(model(content), torch.tensor([0, 1]), reduction="none")
        slope = gradient(loss, content, retain_graph=True)
        expected = slope
        for attention in list(maps):
            paid = torch.stack([attention[i].mean(dim=0)[:, columns[i]].log().mean() for i in range(2)])
            expected = expected + 0.5 * project_conflict(gradient(paid, content, retain_graph=True), direction(slope))
        found = _ascent(loss, [maps], columns, content, 0.5)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_the_attention_term_draws_attention_to_the_patch() -> None:
    model, images = vit(), pictures(8)
    labels = model(images).argmax(dim=1)
    paid = []
    for weight in (0.0, 100.0):
        found = attack(model, images, labels, steps=30, attention_weight=weight)
        where = (found != images).any(dim=1, keepdim=True).float()
        index = nn.functional.max_pool2d(where, 8).flatten(1).argmax(dim=1)
        with recorded_attention(attention_modules(model)[1:3]) as maps, torch.no_grad():
            model(found)
        columns = torch.stack([m.mean(dim=(1, 2))[torch.arange(8), index + 1] for m in maps])
        paid.append(float(columns.mean()))
    assert paid[1] > paid[0]


def test_mask_of_known_patches() -> None:
    mask = patch_mask(torch.tensor([[0, 5]]), (2, 3), (2, 4), torch.zeros(1, 3, 4, 11))  # the last column is cut
    assert mask.shape == (1, 1, 4, 11)
    assert mask[0, 0, :2, :4].all()
    assert mask[0, 0, 2:, 8:].all()
    assert mask.sum() == 8 + 6


def test_fused_attention_comes_back_even_after_an_exception() -> None:
    model, images = vit(), pictures(2)
    model.blocks[2].attn.fused_attn = False  # a mixed state is restored as it was
    before = [block.attn.fused_attn for block in model.blocks]
    other, labels, seen = vit(seed=1), model(images).argmax(dim=1), []

    def fail(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append([block.attn.fused_attn for block in model.blocks])
        if len(seen) == 2:  # the first forward only chooses the patches
            raise RuntimeError("in the middle of the attack")

    hook = model.head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        attack(model, images, labels)
    hook.remove()
    assert not seen[-1][1]
    assert [block.attn.fused_attn for block in model.blocks] == before
    assert all(block.attn.fused_attn for block in other.blocks)
    assert not any(block.attn.attn_drop._forward_hooks for block in model.blocks)


def test_the_model_stays_as_it_was() -> None:
    model, images = vit(), pictures(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clean = images.clone()
    with torch.no_grad():
        attack(model, images)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(images, clean)


def test_a_model_without_attention_maps_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 3))
    with pytest.raises(ModelError, match="Sequential has no attention maps"):
        attack(network, pictures(1))
    pooling = timm.create_model("resnet10t", num_classes=3).eval()
    with pytest.raises(ModelError, match="ResNet has no attention maps"):
        attack(pooling, pictures(1, 64, 64))


def test_threat_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="give norm patch"):
        attack(vit(), pictures(1), threat=ThreatModel("linf", 0.1))
    with pytest.raises(UsageError, match="10 patches asked for, the model has 9"):
        attack(vit(), pictures(1), threat=ThreatModel("patch", patches=10))
    with pytest.raises(UsageError, match="0 patches"):
        attack(vit(), pictures(1), threat=ThreatModel("patch"))
    with pytest.raises(UsageError, match="give no eps, the attack is unbounded"):
        attack(vit(), pictures(1), threat=ThreatModel("patch", 0.1, 1))
    with pytest.raises(UsageError, match="give an eps >= 0"):
        attack(vit(), pictures(1), bound="l2")
    with pytest.raises(UsageError, match="bound 'l1' is not known; give linf or l2"):
        attack(vit(), pictures(1), bound="l1")
    with pytest.raises(UsageError, match="cannot be chosen by 'luck'; give attention, saliency, random"):
        attack(vit(), pictures(1), select="luck")


def real_images(shared_data: Path, model: Any, n: int) -> tuple[Tensor, Tensor]:
    """The first n images of the real validation folders that the model gets right."""
    from PIL import Image

    transform = model.preprocessing.transform("checkpoint")
    classes = sorted(folder.name for folder in (shared_data / "imagenet" / "train").iterdir())
    paths = sorted((shared_data / "imagenet" / "val").glob("*/*"))[:: max(1, 500 // n)]
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths]).float() / 255
    labels = torch.tensor([classes.index(path.parent.name) for path in paths])
    with torch.no_grad():
        right = ~misclassified(model(images), labels)
    return images[right][:n], labels[right][:n]


def real_model(shared_data: Path) -> Any:
    from nsbench.models import load_model

    weights = shared_data / "weights" / "vit_tiny_patch16_224.safetensors"
    return load_model("vit_tiny_patch16_224", checkpoint=weights).eval().requires_grad_(False)


@pytest.mark.slow
def test_breaks_the_real_vit_tiny(shared_data: Path) -> None:
    """At most 2 % of 64 real images survive, for at most a tenth of the original's 250 x 6 gradients per image."""
    model = real_model(shared_data)
    images, labels = real_images(shared_data, model, 64)
    attacked: list[int] = []
    hook = model.register_forward_hook(lambda module, inputs, output: attacked.append(len(output)))
    found = torch.cat([attack(model, images[i : i + 16], labels[i : i + 16], steps=250) for i in range(0, 64, 16)])
    hook.remove()
    with torch.no_grad():
        right = (~misclassified(model(found), labels)).float().mean()
    assert right <= 0.02
    gradients = 6 * (sum(attacked) - len(images)) / len(images)  # the first forward only chooses the patch
    assert gradients <= 0.1 * 250 * 6


def test_passes_of_a_model_that_draws_are_averaged() -> None:
    """Several passes of a model that draws nothing give what one gives; none is refused."""
    model, images = vit(), pictures(8)
    plain, one, several = (attack(model, images, steps=3, **eot) for eot in ({}, {"eot": 1}, {"eot": 3}))
    assert torch.equal(one, plain)
    torch.testing.assert_close(several, plain, atol=2e-2, rtol=0)  # Adam's first steps follow the sign
    with pytest.raises(UsageError, match="patchfool: eot=0 is not possible"):
        attack(model, images, eot=0)


class Shaken(nn.Module):
    """A transformer whose pictures get noise of their own in every pass."""

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        return self.vit(images + 0.1 * torch.randn_like(images))


def test_the_slope_of_several_passes_is_that_of_their_means() -> None:
    model, images, labels = Shaken(vit()), pictures(4).requires_grad_(), torch.zeros(4, dtype=torch.long)
    columns = torch.ones(4, 1, dtype=torch.long)
    with recorded_attention(attention_modules(model.vit)[1:2]) as maps:
        looks = [(model(images), list(maps)) for _ in range(3)]
        logits = torch.stack([one for one, _ in looks]).mean(dim=0)
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        paid = torch.stack([seen[0].mean(dim=1)[:, :, 1].log().mean(dim=1) for _, seen in looks]).mean(dim=0)
        slope, pull = (torch.autograd.grad(one.sum(), images, retain_graph=True)[0] for one in (loss, paid))
        dot = (slope * pull).flatten(1).sum(dim=1).clamp(max=0) / slope.square().flatten(1).sum(dim=1)
        expected = slope + 0.5 * (pull - dot[:, None, None, None] * slope)
        found = _ascent(loss, [seen for _, seen in looks], columns, images, 0.5)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
