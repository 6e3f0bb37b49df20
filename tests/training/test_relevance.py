"""Relevance on the foreground: against plain loops, central differences, closed forms; masks beside their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import eigh
from test_training_survives import Stop
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import cross_entropy, interpolate
from training_reference import Pictures, assert_same_weights, recipe, reference, tiny_model

from nsbench import registry
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import CorruptImage, DataError, UsageError
from nsbench.models import Model, Preprocessing, weights_digest
from nsbench.models.attention import attention_modules, recorded_attention
from nsbench.progress import SILENT
from nsbench.results import Round
from nsbench.run.fit import Fitter
from nsbench.shapes10.render import layers, paint_ground
from nsbench.shapes10.splits import DRAWN, draw, foreground, labels_of, render
from nsbench.training import Foreground
from nsbench.training.augment import Augmented, mix, seeded
from nsbench.training.masked import Masked, mix_masked
from nsbench.training.relevance import (
    class_row,
    connected,
    foreground_terms,
    normalised_cut,
    relevance,
    second_eigenvector,
)


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


class WithMasks(Pictures):
    """Pictures whose foreground is the left half; of every fifth nothing is known where `holes`."""

    masks, masks_digest = "halves", "halves"

    def __init__(self, n: int = 10, holes: bool = False) -> None:
        super().__init__(n)
        self.holes = holes

    @property
    def masked(self) -> np.ndarray:
        return np.arange(len(self)) % 5 > 0 if self.holes else np.ones(len(self), dtype=bool)

    def mask(self, index: int) -> Image.Image:
        values = np.zeros((16, 16), dtype=np.uint8)
        values[:, :8] = 255
        return Image.fromarray(values)


class Red(WithMasks):
    """The foreground, another one for each image, is what is red in the picture."""

    def load(self, index: int) -> Image.Image:
        inside = np.asarray(self.mask(index))
        return Image.fromarray(np.stack([inside, 0 * inside, 0 * inside], axis=2))

    def mask(self, index: int) -> Image.Image:
        values = np.zeros((16, 16), dtype=np.uint8)
        values[2 : 6 + index, 3:10] = 255
        return Image.fromarray(values)


def images_of(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def model_of(depth: int = 2, heads: int = 2) -> Model:
    with seeded(8):
        vit = VisionTransformer(
            img_size=16, patch_size=4, embed_dim=12, depth=depth, num_heads=heads, num_classes=5, qkv_bias=False
        )
        for parameter in vit.parameters():
            with torch.no_grad():
                parameter += 0.3 * torch.randn_like(parameter)
    return Model(vit, name="small", preprocessing=Preprocessing(16), mean=(0.5,) * 3, std=(0.5,) * 3).double()


# Relevance


def by_loops(model: Model, image: torch.Tensor, label: int) -> torch.Tensor:
    """The published rule for one image, block by block with whole matrices, as the formula in the paper says it."""
    with recorded_attention(attention_modules(model.vit)) as maps:
        logit = model(image[None])[0, label]
    tokens = maps[0].shape[-1]
    total = torch.eye(tokens, dtype=image.dtype)
    for attention in maps:
        (slope,) = torch.autograd.grad(logit, attention, retain_graph=True)
        mean = torch.zeros(tokens, tokens, dtype=image.dtype)
        for head in range(attention.shape[1]):
            mean = mean + torch.relu(slope[0, head] * attention[0, head]) / attention.shape[1]
        total = total + mean @ total
    side = round((tokens - 1) ** 0.5)
    large = interpolate(total[0, 1:].reshape(1, 1, side, side), scale_factor=image.shape[1] // side, mode="bilinear")
    return ((large - large.min()) / (large.max() - large.min()))[0, 0]


def test_it_is_the_published_rule() -> None:
    model, images, labels = model_of(3), images_of(4).double(), torch.tensor([0, 3, 1, 4])
    logits, found = relevance(model, images, labels)
    torch.testing.assert_close(logits, model(images))
    for image, label, own in zip(images, labels.tolist(), found, strict=True):
        torch.testing.assert_close(own, by_loops(model, image, label))
    soft = torch.nn.functional.one_hot(labels, 5).double()
    torch.testing.assert_close(relevance(model, images, soft)[1], found)


def test_one_block_and_one_head_is_gradient_times_attention() -> None:
    model, image, label = model_of(1, 1), images_of(1).double(), torch.tensor([2])
    with recorded_attention(attention_modules(model.vit)) as maps:
        logit = model(image)[0, 2]
    (slope,) = torch.autograd.grad(logit, maps[0])
    expected = torch.relu(slope * maps[0])[0, 0, 0]
    row = class_row(maps, [slope])[0]
    torch.testing.assert_close(row[1:], expected[1:])
    torch.testing.assert_close(row[0], 1 + expected[0])
    assert relevance(model, image, label)[1].max() == 1


def test_the_maps_gradient_by_central_differences() -> None:
    """The logit as a function of one entry of an attention map, moved by a hook."""
    model, image = model_of(), images_of(1).double()
    moved, place, block = 0.0, (0, 1, 0, 7), attention_modules(model.vit)[0]

    def move(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        change = torch.zeros_like(output)
        change[place] = moved
        return output + change

    with recorded_attention(attention_modules(model.vit)) as maps:
        logit = model(image)[0, 3]
        (slope,) = torch.autograd.grad(logit, maps[0])
        handle = block.attn_drop.register_forward_hook(move)
        values = []
        for moved in (1e-5, -1e-5):  # noqa: B007  the hook reads it
            values.append(model(image)[0, 3].item())
        handle.remove()
    assert slope[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def terms_of(model: Model, images: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    known = torch.ones(len(images), dtype=torch.bool)
    return foreground_terms(relevance(model, images, labels)[1], mask, known)


def test_the_terms_reach_queries_and_keys_alone() -> None:
    model, images, labels = model_of(), images_of(3).double(), torch.arange(3)
    mask = torch.zeros(3, 16, 16).double()
    mask[:, :, :9] = 1
    sum(terms_of(model, images, labels, mask).values()).backward()
    last, width = model.vit.blocks[-1], 12
    by_query, by_key, by_value = last.attn.qkv.weight.grad.split(width)
    assert by_query.abs().max() > 0
    assert by_key.abs().max() > 0
    assert by_value.abs().max() == 0
    for part in (last.attn.proj, last.mlp, last.norm2, model.vit.norm, model.vit.head):
        assert all(p.grad is None or p.grad.abs().max() == 0 for p in part.parameters())
    assert model.vit.blocks[0].attn.qkv.weight.grad.split(width)[2].abs().max() > 0  # the next block reads it


def test_the_terms_gradient_by_central_differences() -> None:
    """With the gradient of the logits held where it is, as the loss holds it."""
    model, images, labels = model_of(), images_of(2).double(), torch.tensor([1, 4])
    mask = (images_of(2)[:, 0] > 0.5).double()
    with recorded_attention(attention_modules(model.vit)) as maps:
        logits = model(images)
        held = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), list(maps))

    def loss() -> torch.Tensor:
        with recorded_attention(attention_modules(model.vit)) as maps:
            model(images)
        grid = class_row(maps, held)[:, 1:].view(2, 1, 4, 4)
        large = interpolate(grid, (16, 16), mode="bilinear")[:, 0]
        low, high = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
        return sum(foreground_terms((large - low) / (high - low), mask, torch.ones(2, dtype=torch.bool)).values())

    sum(terms_of(model, images, labels, mask).values()).backward()
    weight = model.vit.blocks[1].attn.qkv.weight
    for place in ((0, 0), (5, 7), (17, 3)):
        values = []
        with torch.no_grad():
            for sign in (1, -1):
                weight[place] += sign * 1e-5
                values.append(loss().item())
                weight[place] -= sign * 1e-5
        assert weight.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-10)


def test_the_terms_closed_forms() -> None:
    found, ones = torch.rand(2, 8, 8), torch.ones(2, 8, 8)
    both = torch.ones(2, dtype=torch.bool)
    assert foreground_terms(found, ones, both)["background"] == 0
    same = (found > 0.5).float()
    assert all(term == 0 for term in foreground_terms(same, same, both).values())
    assert foreground_terms(found, 0 * ones, both)["background"] == pytest.approx(found.square().mean().item())
    torch.testing.assert_close(foreground_terms(found, ones, both)["foreground"], (found - 1).square().mean())
    unknown = torch.stack([same[0], torch.full((8, 8), float("nan"))])
    left = foreground_terms(found, unknown, torch.tensor([True, False]))
    torch.testing.assert_close(left, foreground_terms(found[:1], same[:1], both[:1]))
    assert all(term == 0 for term in foreground_terms(found, unknown, ~both).values())


def test_a_constant_map_is_no_nan() -> None:
    model, images = model_of(), images_of(1).double()
    with torch.no_grad():
        model.vit.head.weight.zero_()
    assert torch.equal(relevance(model, images, torch.tensor([0]))[1], torch.zeros(1, 16, 16).double())


def test_with_one_block_the_size_of_the_logit_changes_nothing() -> None:
    model, images, labels = model_of(1), images_of(2).double(), torch.tensor([0, 1])
    before = relevance(model, images, labels)[1].detach()
    with torch.no_grad():
        model.vit.head.weight *= 7
    torch.testing.assert_close(relevance(model, images, labels)[1].detach(), before)


# Masks beside their images


MOVING = {"flip": 0.5, "crop_scale": (0.3, 1.0), "crop_ratio": (0.75, 1.33), "interpolation": "random"}


@pytest.mark.parametrize("more", [{}, {"color_jitter": 0.4}, {"randaugment": "rand-m9-n3-mstd0.5-inc1"}])
def test_pictures_are_those_of_a_training_without_masks(more: dict[str, Any]) -> None:
    given = (recipe(**MOVING, **more), tiny_model())
    plain = Augmented(Red(), *given, stream="training", length=30)
    masked = Masked(Red(), *given, stream="training", length=30)
    for index in range(30):
        assert np.array_equal(np.asarray(masked.load(index))[:, :, :3], np.asarray(plain.load(index)))


def test_a_mask_is_cropped_and_flipped_as_its_picture() -> None:
    masked = Masked(Red(), recipe(**MOVING), tiny_model(), stream="training", length=40)
    for index in range(40):
        picture = np.asarray(masked.load(index))
        assert np.array_equal(picture[:, :, 0], picture[:, :, 3])  # red inside, black outside


def test_a_mask_is_turned_and_shifted_with_it_and_keeps_out_of_colours() -> None:
    moving = Masked(Red(), recipe(randaugment="rand-m9-n4-p1-inc1"), tiny_model(), stream="training", length=40)
    (augment,) = [step for step in moving.transform.transforms if hasattr(step, "ops")]
    colours = [
        op for op in augment.ops if "Rotate" not in op.name and "Shear" not in op.name and "Trans" not in op.name
    ]
    assert len(augment.ops) - len(colours) == 5
    turned = 0
    for index in range(40):
        alpha = np.asarray(moving.load(index))[:, :, 3]
        assert alpha.min() == 0  # nothing from outside, no inverted and no brightened mask
        place = int(moving.indices[index])
        turned += not np.array_equal(alpha, np.asarray(Red().mask(place)))
    assert 20 < turned < 40
    for operation in augment.ops:  # geometry alone: the picture's red is its mask
        operation.kwargs["fillcolor"] = (0, 0, 0)
    augment.ops = [op for op in augment.ops if op not in colours]
    beside = moving.of_masks.transforms[-1]
    beside.ops = [op for op in beside.ops if op.aug_fn.__module__ != "nsbench.training.masked"]
    for index in range(40):
        picture = np.asarray(moving.load(index))
        assert np.array_equal(picture[:, :, 0], picture[:, :, 3])


def test_masks_are_mixed_by_the_draw_of_their_images() -> None:
    images, labels = images_of(8), torch.arange(8) % 5
    masks = images[:, :1].clone()
    masks[3] = float("nan")
    for fields in ({"mixup": 0.8}, {"cutmix": 1.0}):
        with seeded(6):
            expected, targets = mix(images, labels, recipe(**fields), 5)
        with seeded(6):
            mixed, moved, soft = mix_masked(images, masks, labels, recipe(**fields), 5)
        assert torch.equal(mixed, expected)
        assert torch.equal(soft, targets)
        known = ~moved.isnan()
        assert torch.equal(moved[known], expected[:, :1][known])
        assert not known[3].all()


def test_masks_of_shapes10_are_the_rendered_shapes() -> None:
    for index in (0, 7, 41, 123):
        mask = foreground("train", index)
        picture = render("train", np.array([index]))[0].astype(float) / 255
        scene = draw("train", np.array([index]), labels_of(DRAWN["train"], np.array([index])), DRAWN["train"].style)
        ground = paint_ground(scene, layers(scene))[0].transpose(1, 2, 0)
        error = np.abs(picture - ground).max(axis=2)
        outside = np.pad(mask == 0, 1)[1:-1, 1:-1]
        lit = error[outside & (error < 0.12)]
        assert len(lit) > 0.8 * outside.sum()  # beside its shadow, what lies outside is the ground
        assert np.median(error[mask == 255]) > 0.12  # and what lies inside is not
        assert 100 < (mask > 127).sum() < 1500


# The cut


def test_the_second_eigenvector_is_scipys() -> None:
    weights = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(2)).double()
    weights = weights + weights.mT
    degrees = np.diag(weights[0].sum(dim=1).numpy())
    _, vectors = eigh(degrees - weights[0].numpy(), degrees)
    own, expected = second_eigenvector(weights)[0].numpy(), vectors[:, 1]
    assert abs(own @ expected) / np.linalg.norm(own) / np.linalg.norm(expected) == pytest.approx(1, abs=1e-9)


def test_the_connected_part_of_the_peak() -> None:
    values = np.array([[9.0, 8, 0, 7], [0, 0, 0, 7], [0, 0, 0, 0]])
    assert np.array_equal(connected(values), [[1, 1, 0, 0], [0] * 4, [0] * 4])
    assert np.array_equal(connected(-values), connected(values))


def test_a_planted_object_is_cut_out() -> None:
    """Keys that say where a patch is bright: an object of bright patches is told from the dark rest."""
    model, images = model_of(), torch.zeros(2, 3, 16, 16).double()
    images[0, :, 4:12, 4:12] = 1
    images[1, :, :8, 8:] = 1
    with torch.no_grad():
        weight = model.patch_embed.proj.weight
        weight.zero_()
        weight[0] = 1
        model.patch_embed.proj.bias.zero_()
        model.vit.pos_embed.zero_()
        model.vit.blocks = model.vit.blocks[:1]
        block = model.vit.blocks[0]
        block.norm1 = torch.nn.Identity()
        block.attn.qkv.weight.zero_()
        block.attn.qkv.weight[12, 0] = 1.0  # a key is the brightness of its patch, to either side of grey
    assert torch.equal(normalised_cut(model, images), images[:, 0])


# The method


def fit(r: Any, train: Pictures | None = None, model: Model | None = None, **more: Any) -> Any:
    return registry.methods["robustvit"].fit(model or tiny_model(), train or WithMasks(), r, progress=SILENT, **more)


def test_robustvit_against_its_formula() -> None:
    r = recipe(lr=1e-3, min_lr=1e-4)
    half = torch.zeros(16, 16)
    half[:, :8] = 1

    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        maps = torch.stack([by_loops(model, x, int(y)) for x, y in zip(images, labels, strict=True)])
        logits = model(images)
        return [
            0.8 * 2 * (maps * (1 - half)).square().mean(),
            0.8 * 0.3 * (maps * half - half).square().mean(),
            0.2 * cross_entropy(logits / 0.5, logits.argmax(dim=1)),
        ]

    expected, losses = reference(tiny_model(), Pictures(), r, terms)
    found = fit(r, temperature=0.5)
    assert_same_weights(found, expected, 1e-5)
    means = np.mean(losses, axis=0)
    names = ("background", "foreground", "confidence")
    assert [found.history[0].losses[name] for name in names] == pytest.approx(means, abs=1e-5)
    assert found.history[0].facts == {"masks": "halves", "images_without_mask": 0.0}


def test_parts_of_a_batch_give_the_same_step() -> None:
    whole, parts = fit(recipe(lr=1e-3)), fit(recipe(lr=1e-3, micro_batch=2))
    assert_same_weights(parts, whole.model.timm_state_dict(), 1e-5)


def test_images_without_a_mask_are_counted_and_left_out() -> None:
    history = fit(recipe(batch_size=10, steps_per_round=1), WithMasks(holes=True)).history
    assert history[0].facts["images_without_mask"] == 20.0


def test_without_masks_the_model_cuts_them_itself() -> None:
    own, told = fit(recipe(), Pictures()), fit(recipe(), WithMasks(), masks="model")
    assert own.history[0].facts["masks"] == "the checkpoint's features"
    assert weights_digest(own.model) == weights_digest(told.model) != weights_digest(fit(recipe()).model)
    with pytest.raises(DataError, match="have no masks; name a folder in the data config, or masks=model"):
        fit(recipe(), Pictures(), masks="source")
    with pytest.raises(UsageError, match=r"^temperature 0 must be above 0"):
        fit(recipe(), temperature=0.0)
    with pytest.raises(UsageError, match=r"masks 'mine' is not known; give 'source'"):
        Foreground.needs(Pictures(), "mine")


def test_cost_counts_the_maps_and_the_cut() -> None:
    batch, steps = 4, 3
    assert fit(recipe()).history[0].forward_equivalents == (1 + 1 + 2) * batch * steps
    assert fit(recipe(), masks="model").history[0].forward_equivalents == (1 + 1 + 1 + 2) * batch * steps


@pytest.mark.parametrize("words", ["head", "last_1"])
def test_weights_behind_the_first_attention_alone_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match="take trainable=all, norm or bias"):
        fit(recipe(trainable=words))
    assert fit(recipe(trainable="norm")).history[0].losses["background"] > 0


@pytest.mark.parametrize("masks", ["source", "model"])
def test_an_interrupted_training_ends_where_a_whole_one_does(masks: str, tmp_path: Path) -> None:
    r, path = recipe(rounds=3, mixup=0.8, random_erasing=0.5, drop_path=0.3, **MOVING), tmp_path / "training"
    whole = fit(r, masks=masks)

    def stop(model: Model, entry: Round) -> dict[str, float]:
        if entry.round == 2:
            raise Stop
        return {}

    with pytest.raises(Stop):
        fit(r, masks=masks, checkpoint=path, on_round=stop)
    rest = fit(r, masks=masks, checkpoint=path)
    assert weights_digest(rest.model) == weights_digest(whole.model)
    assert [entry.facts for entry in rest.history] == [entry.facts for entry in whole.history]
    assert weights_digest(fit(r, masks=masks, workers=2).model) == weights_digest(whole.model)


# Masks of an ImageNet tree


def tree(root: Path, masks: dict[str, np.ndarray]) -> ImageNetTree:
    for number in range(3):
        path = root / "train" / "n01440764" / f"n01440764_{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 20, 3), 90, dtype=np.uint8)).save(path)
    for name, values in masks.items():
        path = root / "masks" / "n01440764" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    (root / "data.toml").write_text('train = "train"\nmasks = "masks"\n')
    return ImageNetTree(root / "data.toml")


def test_masks_are_read_as_imagenet_s_has_them(tmp_path: Path) -> None:
    ids = np.zeros((12, 20, 3), dtype=np.uint8)
    ids[2:5, :, 0] = 7  # class 7
    ids[5:8, :, 1] = 2  # class 512
    ids[8:10, :] = (1000 % 256, 1000 // 256, 0)  # ignored
    train = tree(tmp_path, {"n01440764_1": ids}).split("train")
    assert train.masked is not None
    assert train.masked.tolist() == [str(one).endswith("_1") for one in train.ids]
    mask = np.asarray(train.mask(int(np.flatnonzero(train.masked)[0])))
    assert mask.shape == (12, 20)
    assert mask[:, 0].tolist() == [0] * 2 + [255] * 6 + [0] * 4
    assert "1 of 3 images" in train.masks
    key = Fitter(recipe(), tree(tmp_path, {}), SILENT).key(registry.methods["robustvit"], tiny_model(), "p")
    other = Fitter(recipe(), tree(tmp_path, {"n01440764_2": ids}), SILENT)
    assert other.key(registry.methods["robustvit"], tiny_model(), "p") != key  # other masks are another training
    plain = Fitter(recipe(), tree(tmp_path, {}), SILENT).key(registry.methods["finetune"], tiny_model(), "p")
    (tmp_path / "data.toml").write_text('train = "train"\n')
    without = Fitter(recipe(), ImageNetTree(tmp_path / "data.toml"), SILENT)
    assert without.key(registry.methods["finetune"], tiny_model(), "p") == plain  # and no other one for the control


def test_a_folder_without_masks_and_a_broken_one_are_named(tmp_path: Path) -> None:
    source = tree(tmp_path, {"n01440764_1": np.zeros((12, 20), dtype=np.uint8)})
    train = source.split("train")
    (tmp_path / "masks" / "n01440764" / "n01440764_1.png").write_bytes(b"none")
    with pytest.raises(CorruptImage, match=r"n01440764_1\.png: is no mask that can be read"):
        train.mask(int(np.flatnonzero(train.masked)[0]))
    (tmp_path / "masks" / "n01440764" / "n01440764_1.png").rename(tmp_path / "masks" / "other.png")
    with pytest.raises(DataError, match=r"masks: holds 1 masks and none of a training image"):
        ImageNetTree(tmp_path / "data.toml").split("train")
