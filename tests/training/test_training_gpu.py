"""Training on a GPU: the weights of the CPU up to rounding, the same costs, micro-batches, bfloat16, no TF32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_reference import Pictures, assert_same_weights, recipe, tiny_model

from nsbench import registry
from nsbench.models import Model
from nsbench.nullspace import learn_noise
from nsbench.progress import SILENT
from nsbench.run.opening import resolve_device
from nsbench.training import finetune
from nsbench.training.augment import erase, seeded

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]


def on_gpu() -> Model:
    return tiny_model().to("cuda")


OF_PICTURES = ["mixup", "randaugment", "augmix", "pr", "randaugment_pr", "augmix_pr"]


@pytest.mark.parametrize("name", ["finetune", "ns", "random_noise", "madry", "trades", *OF_PICTURES])
def test_every_method_trains_there(name: str) -> None:
    registry.load_content()
    r = recipe(rounds=2, noise_max_steps=3, attack_steps=2, flip=0.5, drop_path=0.2)
    model = tiny_model(patch_size=4).to("cuda")
    trained = registry.methods[name].fit(model, Pictures(), r, progress=SILENT, workers=2)
    assert trained.model.device.type == "cuda"
    assert all(entry.seconds > 0 for entry in trained.history)


def test_the_control_has_the_weights_of_the_cpu() -> None:
    expected = finetune(tiny_model(), Pictures(), recipe()).model.timm_state_dict()
    assert_same_weights(finetune(on_gpu(), Pictures(), recipe()).model.cpu(), expected, 1e-3)


def test_noise_is_that_of_the_cpu() -> None:
    images = torch.from_numpy(Pictures(12).pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    here = learn_noise(tiny_model(), images, epsilon=1e-3, max_steps=400, seed=3)
    there = learn_noise(on_gpu(), images.cuda(), epsilon=1e-3, max_steps=400, seed=3)
    assert abs(here.steps - there.steps) <= 2
    assert there.norm == pytest.approx(here.norm, rel=0.02)


def test_bfloat16_keeps_float32_weights() -> None:
    model = finetune(on_gpu(), Pictures(), recipe(precision="bfloat16")).model
    assert all(value.dtype == torch.float32 for value in model.timm_state_dict().values())


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_half_precision_images_have_their_channels_last(precision: str) -> None:
    seen: list[bool] = []

    def losses(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        seen.append(images.is_contiguous(memory_format=torch.channels_last))
        return {"clean": criterion(model(images), targets)}

    finetune(on_gpu(), Pictures(), recipe(precision=precision), losses=losses)
    assert seen == [precision == "bfloat16"] * 3


def test_real_shortage_of_memory_makes_the_micro_batch_smaller() -> None:
    def losses(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        if len(images) > 1:
            torch.empty(1 << 45, dtype=torch.uint8, device="cuda")  # 32 TiB
        return {"clean": criterion(model(images), targets)}

    assert finetune(on_gpu(), Pictures(), recipe(), losses=losses).history[0].micro_batch == 1


@pytest.mark.parametrize("name", ["ns", "random_noise"])
def test_costs_are_those_of_the_cpu(name: str) -> None:
    registry.load_content()
    r = recipe(rounds=2, noise_max_steps=30, epsilon=0.05)
    fit = registry.methods[name].fit
    here, there = (fit(model, Pictures(), r, progress=SILENT).history for model in (tiny_model(), on_gpu()))
    assert [one.forward_equivalents for one in here] == [one.forward_equivalents for one in there]


def test_erased_pixels_are_those_of_the_cpu() -> None:
    r, images = recipe(random_erasing=1.0), torch.rand(4, 3, 16, 16)
    with seeded(3, torch.device("cuda")):
        there = erase(images.cuda(), r, on_gpu())
    with seeded(3):
        here = erase(images, r, tiny_model())
    torch.testing.assert_close(there.cpu(), here)


def test_float32_is_convolved_as_float32() -> None:
    last = f"cuda:{torch.cuda.device_count() - 1}"
    assert resolve_device(last) == last
    assert f"cuda:{torch.cuda.current_device()}" == last
    images, kernel = torch.randn(2, 64, 32, 32), torch.randn(64, 64, 3, 3)
    exact = torch.nn.functional.conv2d(images.double(), kernel.double())
    there = torch.nn.functional.conv2d(images.cuda(), kernel.cuda()).cpu().double()
    assert (there - exact).abs().max() < 1e-3  # TF32: 2e-2
