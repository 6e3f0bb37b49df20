"""Noise elsewhere than on a ViT's patch tokens: Swin, Mixer, pooled ViTs, deeper blocks, and pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models.mlp_mixer import MlpMixer
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import cross_entropy
from training_reference import Pictures, Stop, assert_same_weights, recipe, stop_in

from nsbench import registry
from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, Preprocessing, weights_digest
from nsbench.progress import SILENT
from nsbench.randomness import generator
from nsbench.training import Recipe, Trained, finetune
from nsbench.training.noise import NoiseImages, noisy_at
from nsbench.training.optimisation import optimiser_of


class Larger(Pictures):
    """Pictures of 32x32 pixels."""

    def __init__(self, n: int = 10) -> None:
        super().__init__(n)
        self.pixels = self.pixels.repeat(2, axis=1).repeat(2, axis=2)


BUILD: dict[str, Callable[[], nn.Module]] = {
    "swin": lambda: SwinTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=8,
        depths=(1, 1),
        num_heads=(2, 2),
        window_size=4,
        num_classes=5,
        drop_path_rate=0.0,  # timm's default is 0.1
    ),
    "mixer": lambda: MlpMixer(img_size=32, patch_size=8, embed_dim=16, num_blocks=2, num_classes=5),
    "gap": lambda: VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=5,
        class_token=False,
        global_pool="avg",
    ),
    "vit": lambda: VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5),
    "cnn": lambda: timm.create_model("test_byobnet", num_classes=5),
}


def built(kind: str) -> Model:
    torch.manual_seed(2)
    net = BUILD[kind]()
    if kind != "cnn":
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return Model(net, name=kind, preprocessing=Preprocessing(32), mean=(0.5,) * 3, std=(0.5,) * 3)


def place(model: Model, layer: str) -> nn.Module | None:
    """The module behind which the noise comes, by timm's names."""
    if layer == "input":
        return None
    if layer == "0":
        return model.patch_embed or getattr(model.vit, "stem", None) or model.vit.patch_embed
    if model.name == "swin":
        return model.vit.layers[int(layer) - 1].blocks[0]
    return model.vit.blocks[int(layer) - 1]


CASES = [
    ("swin", "0", (1, 8, 8, 8)),
    ("swin", "1", (1, 8, 8, 8)),
    ("swin", "2", (1, 4, 4, 16)),
    ("mixer", "0", (1, 16, 16)),
    ("mixer", "1", (1, 16, 16)),
    ("gap", "0", (1, 16, 16)),
    ("gap", "1", (1, 16, 16)),
    ("vit", "0", (1, 16, 16)),
    ("vit", "1", (1, 17, 16)),  # the class token is among what a block gives
    ("vit", "2", (1, 17, 16)),
    ("vit", "input", (1, 3, 32, 32)),
    ("cnn", "input", (1, 3, 32, 32)),
]


def by_hand(model: Model, layer: str, noise: torch.Tensor, r: Recipe) -> dict[str, torch.Tensor]:
    """Steps with loss(clean) + loss(noisy), the noise added by a hook on timm's own module."""
    model.requires_grad_(True)
    optimiser, train, module = optimiser_of(model, r), Larger(), place(model, layer)
    order = np.concatenate([generator(r.seed, "training", "order", epoch).permutation(10) for epoch in (0, 1)])
    for step in range(r.steps):
        chosen = order[step * 4 : step * 4 + 4]
        images = torch.from_numpy(train.pixels[chosen]).permute(0, 3, 1, 2).contiguous().float() / 255
        labels = torch.from_numpy(train.labels[chosen])
        model.train()
        optimiser.zero_grad()
        loss = cross_entropy(model(images), labels)
        if module is None:
            loss = loss + cross_entropy(model(images + noise), labels)
        else:
            hook = module.register_forward_hook(lambda _module, _inputs, output: output + noise)
            loss = loss + cross_entropy(model(images), labels)
            hook.remove()
        loss.backward()
        optimiser.step()
    return model.timm_state_dict()


@pytest.mark.parametrize(("kind", "layer", "shape"), CASES)
def test_training_with_noise_is_that_of_a_hook_in_timm_s_model(kind: str, layer: str, shape: tuple[int, ...]) -> None:
    noise = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = recipe(schedule="constant", steps_per_round=2, lr=1e-3)
    seen: list[torch.Size] = []

    def perturb(model: Model, images: NoiseImages, round: int) -> torch.Tensor:
        seen.append(model.embed(images.held_out[:1]).shape)
        return noise

    found = finetune(built(kind).double(), Larger(), r, perturb=perturb, layer=layer)
    assert seen == [shape]
    assert_same_weights(found, by_hand(built(kind).double(), layer, noise, r), 1e-8)
    plain = finetune(built(kind).double(), Larger(), r)
    assert weights_digest(found.model) != weights_digest(plain.model)


def ns(kind: str, r: Recipe, name: str = "ns", **run: Any) -> Trained:
    registry.load_content()
    return registry.methods[name].fit(built(kind), Larger(40), r, progress=SILENT, **run)


@pytest.mark.parametrize(("kind", "layer"), [(kind, layer) for kind, layer, _ in CASES if layer != "2"])
@pytest.mark.parametrize("name", ["ns", "random_noise"])
def test_noise_of_a_round_is_inside_epsilon(kind: str, layer: str, name: str) -> None:
    r = recipe(
        rounds=1, steps_per_round=1, epsilon=2e-3, noise_limit=0.5, noise_lr=0.05, noise_max_steps=400, noise_batches=3
    )
    noise = ns(kind, r, name, layer=layer).history[0].noise
    assert noise is not None
    assert noise.converged
    assert noise.norm > 0
    assert 0 < noise.mse_probability < 2e-3


def test_patch_tokens_of_a_plain_vit_need_no_cut() -> None:
    model = built("vit")
    assert noisy_at(model, "0", recipe()) is model
    assert noisy_at(model, 0, recipe(compile=True)) is model


def test_costs_do_not_depend_on_the_layer() -> None:
    r = recipe(epsilon=1e-9, noise_max_steps=2, steps_per_round=1)
    assert len({ns("vit", r, layer=layer).history[0].forward_equivalents for layer in ("0", "1", "input")}) == 1


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    r = recipe(rounds=3, drop_path=0.2)
    whole = ns("swin", r)
    with pytest.raises(Stop):
        ns("swin", r, checkpoint=tmp_path / "training", on_round=stop_in(2))
    assert weights_digest(ns("swin", r, checkpoint=tmp_path / "training").model) == weights_digest(whole.model)


def test_drop_path_rises_over_the_blocks_of_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(DropPath, "forward", lambda self, x: (self.training and rates.append(self.drop_prob)) or x)
    found = finetune(built("swin"), Larger(), recipe(steps_per_round=1, drop_path=0.3))
    assert rates == pytest.approx([0.0, 0.0, 0.3, 0.3])
    assert repr(found.model) == repr(built("swin"))


# What does not go together


class Normed(nn.Module):
    """A network with blocks and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 5
        self.blocks = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4))
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.last(self.blocks(images_BCHW))


def test_what_does_not_go_together_is_refused_before_anything_is_read() -> None:
    def refused(model: Model, layer: str, kind: type[Exception], message: str, **fields: Any) -> None:
        with pytest.raises(kind, match=message):
            finetune(model, Larger(0), recipe(**fields), perturb=lambda *given: None, layer=layer)

    refused(built("cnn"), "0", ModelError, "'cnn' has no patch embedding that gives tokens .* where to add it: input")
    refused(built("cnn"), "1", UsageError, "layer '1': model 'cnn' has input")
    refused(
        built("vit"), "3", UsageError, r"layer '3': model 'vit' has input, 0 \(patch embedding\), 1 ... 2 \(blocks\)"
    )
    refused(built("swin"), "0", UsageError, "compiled model is not cut there", compile=True)
    normed = Model(Normed(), name="normed", preprocessing=Preprocessing(32), mean=(0.5,) * 3, std=(0.5,) * 3)
    refused(normed, "1", UsageError, "model 'normed' has batch norm, .* take layer input")
