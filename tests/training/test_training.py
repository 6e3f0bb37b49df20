"""The finetuning loop, against loops written out by hand, and what it promises to every method alike."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.layers import DropPath
from training_reference import Pictures, assert_same_weights, recipe, reference, tiny_model, with_noise

import nsbench as nb
from nsbench import registry
from nsbench.errors import CorruptImage, DataError, ModelError, TrainingError, UsageError
from nsbench.models import Model, weights_digest
from nsbench.nullspace import LearntNoise
from nsbench.progress import SILENT
from nsbench.training import Recipe, finetune
from nsbench.training.augment import Augmented, erase, mix, seeded
from nsbench.training.noise import NoiseImages


class Corrupt(Pictures):
    def load(self, index: int) -> Image.Image:
        raise CorruptImage("p3.jpeg cannot be decoded")


DEIT = {
    "crop_scale": (0.3, 1.0),
    "crop_ratio": (0.75, 1.33),
    "flip": 0.5,
    "randaugment": "rand-m9-mstd0.5-inc1",
    "random_erasing": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "drop_path": 0.3,
    "interpolation": "random",
}


def constant_noise(value: float) -> Any:
    def perturb(model: Model, images: NoiseImages, round: int) -> LearntNoise:
        noise = torch.full((1, 4, 12), value)
        return LearntNoise(noise, 1, 0.01, noise.norm().item(), True)

    return perturb


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("value", [None, 0.7])
def test_three_steps_against_a_hand_written_loop(value: float | None, smoothing: float) -> None:
    model, train, r = tiny_model(), Pictures(), recipe(label_smoothing=smoothing)
    noise = None if value is None else torch.full((1, 4, 12), value)
    expected, losses = reference(model, train, r, with_noise(noise, smoothing))
    fitted = finetune(model, train, r, perturb=None if value is None else constant_noise(value))
    assert_same_weights(fitted, expected)
    assert weights_digest(fitted.model) != weights_digest(model)
    means = np.mean(losses, axis=0)
    assert fitted.history[0].losses["clean"] == pytest.approx(means[0], abs=1e-6)
    if value is not None:
        assert fitted.history[0].losses["noisy"] == pytest.approx(means[1], abs=1e-6)
    else:
        assert "noisy" not in fitted.history[0].losses


def test_zero_noise_is_plain_training_with_twice_the_loss() -> None:
    model, train, r = tiny_model(), Pictures(), recipe()
    expected, _ = reference(model, train, r, with_noise(None), factor=2.0)
    fitted = finetune(model, train, r, perturb=constant_noise(0.0))
    assert_same_weights(fitted, expected)
    assert fitted.history[0].losses["clean"] == fitted.history[0].losses["noisy"]
    assert_same_weights(finetune(model, train, r), expected, 1e-4)  # AdamW hardly sees the factor


def seen_images(perturb: Any, r: Recipe) -> list[torch.Tensor]:
    """What the patch embedding gets in training mode, over all steps."""
    model, seen = tiny_model(), []
    assert model.patch_embed is not None
    model.patch_embed.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].detach().clone()) if module.training else None
    )
    finetune(model, Pictures(), r, perturb=perturb)
    return seen


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _draws() -> tuple[float, float, float]:
    return torch.rand(1).item(), random.random(), np.random.rand()


def learning(model: Model, images: NoiseImages, round: int) -> LearntNoise:
    _draws()  # a method may draw as it likes
    return nb.learn_noise(model, images.batches, max_steps=2, seed=9, round=round)


def test_every_method_sees_the_same_images() -> None:
    r = recipe(rounds=2, **DEIT)
    control, other = seen_images(None, r), seen_images(learning, r)
    assert len(control) == len(other) == 6
    assert all(torch.equal(a, b) for a, b in zip(control, other, strict=True))
    assert not torch.equal(control[0], seen_images(None, r.model_copy(update={"seed": 6}))[0])


def test_workers_and_repetition_change_nothing() -> None:
    r = recipe(rounds=2, **DEIT)
    torch.manual_seed(1)
    digest = weights_digest(finetune(tiny_model(), Pictures(), r, perturb=learning).model)
    torch.manual_seed(2)
    assert weights_digest(finetune(tiny_model(), Pictures(), r, perturb=learning, workers=2).model) == digest


def test_global_random_states_are_left_alone() -> None:
    model = tiny_model()
    _seed(1)
    expected = _draws()
    _seed(1)
    finetune(model, Pictures(), recipe(**DEIT))
    assert _draws() == expected


def test_the_given_model_is_not_changed() -> None:
    model = tiny_model()
    digest, structure = weights_digest(model), repr(model)
    fitted = finetune(model, Pictures(), recipe(**DEIT), perturb=learning).model
    assert weights_digest(model) == digest
    assert repr(fitted) == structure  # drop path is gone again
    assert (model.training, fitted.training) == (False, False)


def test_history_tells_each_round() -> None:
    r = recipe(rounds=2, steps_per_round=2)
    shown = []

    def perturb(model: Model, images: NoiseImages, round: int) -> LearntNoise:
        shown.append(torch.cat(list(images.batches)))
        return learning(model, images, round)

    first, second = finetune(
        tiny_model(), Pictures(30), r.model_copy(update={"noise_batches": 3}), perturb=perturb
    ).history
    assert [images.shape for images in shown] == [(12, 3, 16, 16)] * 2
    assert not torch.equal(shown[0], shown[1])
    assert (first.round, first.step, second.round, second.step) == (1, 2, 2, 4)
    assert first.lr == pytest.approx(1e-3 + 9e-3 * (1 + math.cos(math.pi / 4)) / 2)
    assert second.lr == pytest.approx(1e-3 + 9e-3 * (1 + math.cos(3 * math.pi / 4)) / 2)
    assert first.losses.keys() == {"clean", "noisy"}
    assert first.noise is not None
    assert (first.noise.steps, first.noise.converged) == (0, True)
    assert first.noise.norm > 0
    assert 0 < first.noise.mse_probability < 2
    assert 0 < first.noise.mse_probability_held_out < 2
    assert first.forward_equivalents > 0
    assert 0 < first.noise_seconds < first.seconds


@pytest.mark.parametrize("start", ["uniform", "last"])
def test_noise_begins_anew_or_from_the_last_rounds(start: str) -> None:
    begun, given = [], [torch.linspace(-1, 1 + round, 48).reshape(1, 4, 12) for round in range(3)]

    def perturb(model: Model, images: NoiseImages, round: int) -> torch.Tensor:
        begun.append(images.start)
        learnt = nb.learn_noise(model, images.batches, epsilon=1e-9, max_steps=2, round=round, start=images.start)
        if images.start is not None:
            moved = (learnt.noise_1ND - given[round - 1]).abs().max()
            assert 0 < moved <= 2 * 0.1 * 1.1, "two steps of AdamW from there"
        return given[round]

    finetune(tiny_model(), Pictures(), recipe(rounds=3, steps_per_round=1, noise_start=start), perturb=perturb)
    if start == "uniform":
        assert begun == [None] * 3
    else:
        assert begun[0] is None
        assert all(torch.equal(one, noise) for one, noise in zip(begun[1:], given, strict=False))


def test_schedules() -> None:
    flat = finetune(tiny_model(), Pictures(), recipe(rounds=3, steps_per_round=1, schedule="constant"))
    assert [entry.lr for entry in flat.history] == [1e-2] * 3
    warm = finetune(tiny_model(), Pictures(), recipe(rounds=4, steps_per_round=1, schedule="constant", warmup_steps=2))
    assert [entry.lr for entry in warm.history] == pytest.approx([1e-3, 5.5e-3, 1e-2, 1e-2])


def test_divergence_names_round_and_step() -> None:
    def late(model: Model, images: NoiseImages, round: int) -> LearntNoise:
        return constant_noise(float("nan") if round else 0.1)(model, images, round)

    with pytest.raises(TrainingError, match="round 2, step 1 of 3; lower the recipe's lr"):
        finetune(tiny_model(), Pictures(), recipe(rounds=2), perturb=late)


def test_data_errors_arrive_as_themselves() -> None:
    with pytest.raises(CorruptImage, match=r"^p3\.jpeg cannot be decoded$"):
        finetune(tiny_model(), Corrupt(), recipe(), workers=1)
    with pytest.raises(DataError, match="no images"):
        finetune(tiny_model(), Pictures(0), recipe())


def test_a_cnn_trains_without_noise_only() -> None:
    vit = tiny_model()
    conv = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 16), torch.nn.Flatten())
    conv.num_classes = 5
    cnn = Model(conv, name="cnn", preprocessing=vit.preprocessing, mean=vit.mean, std=vit.std)
    assert weights_digest(finetune(cnn, Pictures(), recipe()).model) != weights_digest(cnn)
    with pytest.raises(ModelError, match="no patch embedding"):
        finetune(cnn, Pictures(), recipe(), perturb=learning)
    with pytest.raises(UsageError, match="drop_path = 0"):
        finetune(cnn, Pictures(), recipe(drop_path=0.1))


# Augmentation


def test_drop_path_rises_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    monkeypatch.setattr(DropPath, "forward", lambda self, x: (self.training and rates.append(self.drop_prob)) or x)
    finetune(tiny_model(), Pictures(), recipe(steps_per_round=1, drop_path=0.3))
    assert rates == pytest.approx([0.0, 0.0, 0.3, 0.3])


def test_erasing_leaves_the_other_pixels_alone() -> None:
    model, images = tiny_model(), torch.full((64, 3, 16, 16), 0.25)
    with seeded(1):
        erased = erase(images, recipe(random_erasing=1.0), model)
    changed = (erased != images).any(dim=1)
    assert 0.02 < changed.float().mean() < 1 / 3
    values = (erased - 0.5).div(0.5).permute(0, 2, 3, 1)[changed]
    assert values.mean().abs() < 0.1  # a standard normal after normalisation
    assert 0.9 < values.std() < 1.1
    assert erase(images, recipe(), model) is images


def test_the_strongest_posterize_paints_black_instead_of_failing() -> None:
    stream = Augmented(Pictures(10), recipe(randaugment="rand-m10-n2-inc1"), tiny_model(), stream="training", length=60)
    painted = [np.asarray(stream.load(index)) for index in range(60)]
    assert any((pixels == 0).mean() > 0.9 for pixels in painted)
    assert all(pixels.shape == (16, 16, 3) for pixels in painted)


def test_mixing_keeps_targets_and_pixels_together() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16) / 4
    labels = torch.arange(4)
    for fields in ({"mixup": 0.8}, {"cutmix": 1.0}):
        with seeded(2):
            mixed, targets = mix(images, labels, recipe(**fields), 5)
        assert targets.sum(dim=1).allclose(torch.ones(4))
        shares = targets @ torch.tensor([0.0, 0.25, 0.5, 0.75, 0.0])
        assert mixed.mean(dim=(1, 2, 3)).allclose(shares, atol=1e-5)
        assert not torch.equal(mixed, images)
    assert mix(images, labels, recipe(), 5) == (images, labels)


def test_a_stream_goes_through_every_image_before_any_comes_again() -> None:
    stream = Augmented(Pictures(10), recipe(), tiny_model(), stream="training", length=25)
    assert sorted(stream.ids[:10]) == sorted(stream.ids[10:20]) == sorted(Pictures(10).ids)
    assert list(stream.ids[:10]) != list(stream.ids[10:20])
    for position in (0, 24):
        original = Pictures(10).load(int(stream.ids[position][1:]))
        assert np.array_equal(np.asarray(stream.load(position)), np.asarray(original))  # nothing switched on
        assert stream.labels[position] == int(stream.ids[position][1:]) % 5


def test_augmentation_depends_on_the_position_alone() -> None:
    stream = Augmented(Pictures(4), recipe(**DEIT), tiny_model(), stream="training", length=8)
    forwards = [np.asarray(stream.load(i)) for i in range(8)]
    backwards = [np.asarray(stream.load(i)) for i in reversed(range(8))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    again = next(i for i in range(4, 8) if stream.ids[i] == stream.ids[0])
    assert not np.array_equal(forwards[0], forwards[again])


# The three methods


def test_methods() -> None:
    registry.load_content()
    model, train, r = tiny_model(), Pictures(), recipe(rounds=2, noise_limit=2.0, epsilon=1e-3, noise_max_steps=5)
    assert registry.methods["pretrained"].fit(model, None, r, progress=None) is model
    assert not registry.methods["pretrained"].trains
    control = registry.methods["finetune"].fit(model, train, r, progress=SILENT)
    assert weights_digest(control.model) == weights_digest(finetune(model, train, r).model)
    ns = registry.methods["ns"].fit(model, train, r, progress=SILENT)
    assert [entry.noise.steps > 0 for entry in ns.history] == [True, True]
    assert weights_digest(ns.model) != weights_digest(control.model)
