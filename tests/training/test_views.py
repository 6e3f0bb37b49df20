"""Views of pictures and the loss that compares them, against timm, torchvision and Pillow."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugMixAugment, augmix_ops
from timm.data.dataset import AugMixDataset
from timm.loss import JsdCrossEntropy
from torchvision.transforms import AugMix
from training_reference import Pictures, assert_same_weights, recipe, reference, tiny_model

from nsbench import registry
from nsbench.data.loading import batches
from nsbench.errors import UsageError
from nsbench.models import Model
from nsbench.progress import SILENT
from nsbench.randomness import derive_seed
from nsbench.training import Views, finetune, jensen_shannon, mixed_chains
from nsbench.training.augment import Augmented, seeded
from nsbench.training.views import Viewed, shown

NINE = ["AutoContrast", "Equalize", "Posterize", "Rotate", "Solarize", "ShearX", "ShearY", "TranslateX", "TranslateY"]


def plain(name: str) -> str:
    return name.removesuffix("Increasing").removesuffix("Rel")


def of_timm(severity: float = 1.0) -> AugMixAugment:
    """timm's, set up apart from the engine."""
    names = [name for name in TIMM if plain(name) in NINE]
    settings = {"magnitude_std": float("inf"), "translate_pct": 1 / 3, "img_mean": (0, 0, 0), "interpolation": 2}
    return AugMixAugment(augmix_ops(severity, settings, names), width=3, depth=-1)


TIMM = [operation.name for operation in mixed_chains().ops]  # in their order


# The loss


def logits_of(*shape: int, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@pytest.mark.parametrize("scale", [0.1, 2.0, 50.0])
def test_jensen_shannon_against_timm(scale: float) -> None:
    logits, labels = logits_of(3, 6, 5, scale=scale), torch.arange(6) % 5
    expected = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0)(logits.flatten(0, 1), labels.repeat(3))
    ours = torch.nn.functional.cross_entropy(logits[0], labels) + 12 * jensen_shannon(list(logits))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)


def test_jensen_shannon_is_between_0_and_the_logarithm_of_the_views() -> None:
    logits = logits_of(6, 5)
    assert jensen_shannon([logits, logits, logits]).item() == pytest.approx(0, abs=1e-12)
    sure = [100.0 * torch.eye(5)[[k, k]] for k in range(3)]  # three views, three answers
    assert jensen_shannon(sure).item() == pytest.approx(math.log(3), abs=1e-6)


# The pictures


def test_operations_are_those_of_torchvision_without_imagenet_c_s() -> None:
    theirs = AugMix(all_ops=False)._augmentation_space(11, (48, 48))
    ours = {plain(operation.name): operation for operation in of_timm(10).ops}
    assert set(theirs) == set(ours) == set(NINE) == {plain(name) for name in TIMM}
    scale = {"TranslateX": 48, "TranslateY": 48}  # theirs in pixels
    for name, (strengths, _signed) in theirs.items():
        operation = ours[name]
        if strengths.ndim == 0:
            assert operation.level_fn is None
            continue
        (full,) = operation.level_fn(10, operation.hparams)
        assert abs(full) * scale.get(name, 1) == pytest.approx(strengths[-1].item(), abs=1e-5), name


def test_one_chain_of_one_operation_is_that_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    view: Any = mixed_chains(severity=3, width=1, depth=1)
    view.ops = [operation for operation in view.ops if operation.name == "Rotate"]
    monkeypatch.setattr("numpy.random.beta", lambda a, b: 1.0)
    picture = Pictures().load(0)
    with seeded(4):
        found = view(picture)
    with seeded(4):
        degrees = random.uniform(0, 3) / 10 * 30
        degrees = -degrees if random.random() > 0.5 else degrees
    expected = picture.rotate(degrees, resample=Image.Resampling.BILINEAR, fillcolor=(0, 0, 0))
    assert found.tobytes() == expected.tobytes()
    assert abs(degrees) > 0.1


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_mixture_is_weighted(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    view: Any = mixed_chains(width=2, depth=1)
    levels = iter([200, 40])
    view.ops = [lambda picture: Image.new("RGB", picture.size, (next(levels),) * 3)]
    monkeypatch.setattr("numpy.random.beta", lambda a, b: share)
    monkeypatch.setattr("numpy.random.dirichlet", lambda alphas: np.array([0.75, 0.25]))
    picture = Pictures().load(1)
    expected = (1 - share) * np.asarray(picture, np.float64) + share * (0.75 * 200 + 0.25 * 40)
    assert np.abs(np.asarray(view(picture), np.float64) - expected).max() <= 1


def test_the_strongest_chains_paint_and_do_not_fail() -> None:
    view = mixed_chains(severity=10, width=3, depth=3)
    with seeded(0):
        painted = [view(Pictures().load(index % 10)) for index in range(60)]
    assert all(picture.size == (16, 16) and picture.mode == "RGB" for picture in painted)


class Seeded:
    """A picture's view 1 and view 2, with the seeds that the engine promises."""

    def __init__(self, stream: Augmented, seed: int) -> None:
        self.stream, self.seed, self.number, self.view = stream, seed, 0, of_timm()

    def __call__(self, picture: Image.Image) -> Image.Image:
        position, view = divmod(self.number, 2)
        self.number += 1
        with seeded(derive_seed(self.seed, "training", "view", view + 1, position, self.stream.ids[position])):
            found: Image.Image = self.view(picture)
        return found


def of_augmixdataset(stream: Augmented, seed: int) -> list[tuple[Image.Image, ...]]:
    """timm's three views of every picture of the stream."""

    class Cropped:
        transform = (None, Seeded(stream, seed), None)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return stream.load(index), 0

    dataset = AugMixDataset(Cropped(), num_splits=3)
    return [dataset[index][0] for index in range(len(stream))]


def test_views_are_timm_s_three_of_the_same_cropped_and_flipped_picture() -> None:
    r = recipe(flip=0.5, crop_scale=(0.3, 1.0))
    stream = Augmented(Pictures(), r, tiny_model(), stream="training", length=8)
    chains = mixed_chains()
    viewed = Viewed(stream, (chains, chains))
    assert list(viewed.ids[:4]) == [stream.ids[0]] * 3 + [stream.ids[1]]
    expected = [np.asarray(view) for views in of_augmixdataset(stream, r.seed) for view in views]
    found = [np.asarray(viewed.load(index)) for index in range(24)]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not np.array_equal(found[1], found[2])
    backwards = [np.asarray(viewed.load(index)) for index in reversed(range(24))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(found, backwards, strict=True))


def test_augmix_against_a_loop_with_timm_s_views_and_loss() -> None:
    registry.load_content()
    model, r = tiny_model().double(), recipe()
    stream = Augmented(Pictures(), r, tiny_model(), stream="training", length=12)
    pictures = of_augmixdataset(stream, r.seed)
    loss = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0)

    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        views = [[np.asarray(three[k]) for three in pictures[4 * step : 4 * step + 4]] for k in range(3)]
        split_major = torch.from_numpy(np.stack(views)).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        assert torch.equal(split_major[:4], images)
        return [loss(model(split_major), labels.repeat(3))]

    expected, losses = reference(model, Pictures(), r, terms)
    fitted = registry.methods["augmix"].fit(model, Pictures(), r, progress=SILENT)
    assert_same_weights(fitted, expected, 1e-6)
    assert sum(fitted.history[0].losses.values()) == pytest.approx(sum(step[0] for step in losses) / 3, abs=1e-6)


def test_without_its_second_term_it_is_the_control_bit_for_bit() -> None:
    registry.load_content()
    r = recipe(flip=0.5, drop_path=0.3)
    weights = [
        registry.methods[name].fit(tiny_model(), Pictures(), r, progress=SILENT, **settings).model.timm_state_dict()
        for name, settings in (("augmix", {"weight": 0.0}), ("finetune", {}))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


# What the loop shows


def test_erasing_spares_the_first_of_several_pictures() -> None:
    r, model = recipe(random_erasing=1.0), tiny_model()
    stream = Augmented(Pictures(), r, model, stream="training", length=4)
    views = Views(pictures=(lambda picture: picture, lambda picture: picture))
    (batch,) = batches(Viewed(stream, views.pictures), model.preprocessing.transform("none"), batch_size=12)
    with seeded(1):
        images, targets, _ = shown(batch, r, model, views=views, step=0)
    assert images.shape == (4, 3, 3, 16, 16)
    assert targets.tolist() == stream.labels.tolist()
    clean = np.stack([np.asarray(stream.load(index)) for index in range(4)])
    assert np.array_equal((images[:, 0] * 255).round().permute(0, 2, 3, 1).numpy(), clean)
    assert all((images[:, 0] != images[:, k]).any() for k in (1, 2))
    assert (images[:, 1] != images[:, 2]).any()


def test_a_view_of_the_batch_is_made_of_what_is_trained_on() -> None:
    r, model = recipe(mixup=0.8, random_erasing=1.0), tiny_model()
    stream = Augmented(Pictures(), r, model, stream="training", length=4)
    (batch,) = batches(stream, model.preprocessing.transform("none"), batch_size=4)
    views = Views(batch=lambda images: images.flip(3) + torch.rand(1))
    with seeded(1):
        images, targets, _ = shown(batch, r, model, views=views, step=7)
        after = torch.rand(1)
    with seeded(1):
        alone, _, _ = shown(batch, r, model, views=None, step=7)
        assert torch.equal(torch.rand(1), after)  # its draws move nobody else's
    assert torch.equal(images[:, 0], alone)
    assert targets.shape == (4, 5)
    with seeded(derive_seed(r.seed, "training", "view", 7)):
        assert torch.equal(images[:, 1], alone.flip(3) + torch.rand(1))


def test_views_that_cannot_be_are_refused() -> None:
    views = Views(pictures=(lambda picture: picture,))
    with pytest.raises(UsageError, match="give both"):
        finetune(tiny_model(), Pictures(), recipe(), views=views)
    with pytest.raises(UsageError, match=r"mixes images \(mixup 0, cutmix 1\).*--set mixup=0 --set cutmix=0"):
        finetune(tiny_model(), Pictures(), recipe(cutmix=1.0), views=views, losses=lambda *given: {})
