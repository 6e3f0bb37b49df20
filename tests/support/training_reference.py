"""A tiny model, pictures, and training written out by hand, for the tests of training and methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import cross_entropy

from nsbench.data import Split
from nsbench.models import Model, Preprocessing
from nsbench.randomness import generator
from nsbench.results import Round
from nsbench.training import Recipe, Trained
from nsbench.training.loop import OnRound

# terms(model, images_BCHW, labels_B, step) -> the losses whose sum is descended
Terms = Callable[[Model, torch.Tensor, torch.Tensor, int], list[torch.Tensor]]


class Pictures(Split):
    """n random pictures of 16x16 pixels in five classes."""

    def __init__(self, n: int = 10) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
        self.name, self.ids, self.labels = "train", np.array([f"p{i}" for i in range(n)]), np.arange(n) % 5

    def load(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    @property
    def digest(self) -> str:
        return "pictures"


def tiny_model(patch_size: int = 8) -> Model:
    vit = VisionTransformer(
        img_size=16, patch_size=patch_size, embed_dim=12, depth=2, num_heads=2, num_classes=5, qkv_bias=False
    )  # a key's bias has no gradient, and AdamW would amplify its rounding
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():  # all anew: timm's own initialisation draws from the global state
        for parameter in vit.parameters():
            start = 1.0 if parameter.mean() == 1 else 0.0  # the scale of a layer norm
            parameter.copy_(start + torch.randn(parameter.shape, generator=draws) * 0.2)
    return Model(vit, name="tiny", preprocessing=Preprocessing(16), mean=(0.5,) * 3, std=(0.5,) * 3)


def recipe(**fields: Any) -> Recipe:
    """Three steps in a row without augmentation, unless told otherwise."""
    plain: dict[str, Any] = {
        "name": "test",
        "seed": 5,
        "rounds": 1,
        "steps_per_round": 3,
        "batch_size": 4,
        "lr": 1e-2,
        "min_lr": 1e-3,
        "weight_decay": 0.1,
        "crop_scale": (1.0, 1.0),
        "crop_ratio": (1.0, 1.0),
        "flip": 0.0,
        "noise_batch": 4,
        "noise_batches": 1,
        "noise_held_out": 4,
        "noise_max_steps": 2,
    }
    return Recipe(**(plain | fields))


def with_noise(noise: torch.Tensor | None, smoothing: float = 0.0) -> Terms:
    """Cross-entropy of the images, and of the images with noise on their tokens."""

    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        outputs = [model(images)]
        if noise is not None:
            outputs.append(model.head(model.encode(model.embed(images) + noise)))
        return [cross_entropy(logits, labels, label_smoothing=smoothing) for logits in outputs]

    return terms


def reference(
    model: Model,
    train: Pictures,
    r: Recipe,
    terms: Terms,
    factor: float = 1.0,
) -> tuple[dict[str, torch.Tensor], list[list[float]]]:
    """AdamW on a cosine, in plain arithmetic: weights by timm's names, and the losses of each step."""
    order = np.concatenate([generator(r.seed, "training", "order", epoch).permutation(len(train)) for epoch in (0, 1)])
    weights = {name: value.clone() for name, value in model.timm_state_dict().items()}
    first, second = ({name: torch.zeros_like(value) for name, value in weights.items()} for _ in range(2))
    losses = []
    for step in range(r.steps):
        chosen = order[step * r.batch_size : (step + 1) * r.batch_size]
        images = torch.from_numpy(train.pixels[chosen]).permute(0, 3, 1, 2).contiguous().float() / 255
        labels = torch.from_numpy(train.labels[chosen])
        current = deepcopy(model).requires_grad_(True)
        current.load_timm_state_dict(weights)
        found = terms(current, images, labels, step)
        current.zero_grad()
        (factor * sum(found)).backward()  # type: ignore[union-attr]
        losses.append([loss.item() for loss in found])
        named = dict(current.vit.named_parameters())
        named |= {f"patch_embed.{name}": p for name, p in current.patch_embed.named_parameters()}
        lr = r.min_lr + (r.lr - r.min_lr) * (1 + math.cos(math.pi * step / r.steps)) / 2
        for name, weight in weights.items():
            gradient = named[name].grad
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            decay = r.weight_decay if weight.ndim > 1 else 0.0
            root = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            weights[name] = weight * (1 - lr * decay) - lr * first[name] / (1 - 0.9 ** (step + 1)) / root
    return weights, losses


def assert_same_weights(fitted: Model | Trained, expected: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    state = (fitted.model if isinstance(fitted, Trained) else fitted).timm_state_dict()
    assert state.keys() == expected.keys()
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


class Stop(BaseException):
    """As Ctrl-C: no error of what it interrupts."""


def stop_in(number: int) -> OnRound:
    """Interrupts a training when it has finished this round, which it has not kept yet."""

    def stop(model: Model, entry: Round) -> dict[str, float]:
        if entry.round == number:
            raise Stop
        return {}

    return stop
