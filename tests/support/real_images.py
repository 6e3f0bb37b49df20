"""A small ViT trained against attacks on real images, in about a minute: a subject that no attack breaks at once.

Every twentieth of Tiny-ImageNet's 200 classes, at 32 x 32 pixels. The first 50 training pictures of a class train the
network; the others and the validation pictures, 600 together, are there to attack.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from nsbench.data import Split
from nsbench.data.imagenet import ImageNetTree
from nsbench.models import Model, wrap
from nsbench.models.preparation import Preparation
from nsbench.training import load_recipe
from nsbench.training.adversaries import adversarial

CLASSES, TRAINED, SIDE = 10, 50, 32  # classes, pictures of each to train on, pixels
BATCH, EPOCHS, RATE, SHIFT = 50, 80, 2e-3, 4
FAST = {"attack_eps": "1/255", "attack_step_size": "1/255", "attack_steps": "1"}  # arXiv:2001.03994
Pictures = tuple[Tensor, Tensor, list[str]]  # images_BCHW in [0, 1], labels_B, ids


def subject(folder: Path, images: int) -> tuple[Model, Pictures]:
    """The network, and the first so many held-out pictures that it reads correctly."""
    tree = ImageNetTree(folder / "tiny-imagenet")
    train, clean = tree.split("train"), tree.split("clean")
    classes = sorted(set(train.labels.tolist()))[:: 200 // CLASSES]
    places = {c: (train.labels == c).nonzero()[0] for c in classes}
    seen = np.concatenate([of_class[:TRAINED] for of_class in places.values()])
    unseen = np.concatenate([of_class[TRAINED:] for of_class in places.values()])
    model = trained(pictures(train, seen, classes))
    held = [pictures(train, unseen, classes), pictures(clean, np.isin(clean.labels, classes).nonzero()[0], classes)]
    images_BCHW, labels_B = (torch.cat([part[k] for part in held]) for k in (0, 1))
    ids = held[0][2] + held[1][2]
    with torch.no_grad():
        right = (model(images_BCHW).argmax(dim=1) == labels_B).nonzero().squeeze(1)
    if len(right) < images:
        raise SystemExit(f"the network reads {len(right)} of {len(ids)} held-out pictures; {images} were asked for")
    chosen = right[torch.linspace(0, len(right) - 1, images).long()]  # of all classes
    return model, (images_BCHW[chosen], labels_B[chosen], [ids[i] for i in chosen.tolist()])


def pictures(split: Split, chosen: np.ndarray, classes: list[int]) -> Pictures:
    small = [split.load(int(k)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for k in chosen]
    pixels_BHWC = torch.from_numpy(np.stack([np.asarray(picture) for picture in small]))
    labels = torch.tensor([classes.index(int(split.labels[k])) for k in chosen])
    return pixels_BHWC.permute(0, 3, 1, 2).contiguous() / 255, labels, [str(split.ids[k]) for k in chosen]


def trained(train: Pictures) -> Model:
    """The network trained on adversarial images of one step at eps 1/255."""
    recipe, images, labels = load_recipe("plain", FAST), *train[:2]
    steps = EPOCHS * (len(labels) // BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = wrap(network(), name="vit_tiny_images", wanted=Preparation(size=SIDE))
        optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.2)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(labels)).split(BATCH):
                attacked = adversarial(model, moved(images[chosen]), labels[chosen], recipe)
                optimiser.zero_grad()
                cross_entropy(model(attacked), labels[chosen], label_smoothing=0.1).backward()
                optimiser.step()
                schedule.step()
    return model.eval()


def network() -> nn.Module:
    """timm's ViT, three blocks of width 96 on 16 patches."""
    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=SIDE,
        patch_size=8,
        embed_dim=96,
        depth=3,
        num_heads=4,
        mlp_ratio=2,
        num_classes=CLASSES,
    )


def moved(images_BCHW: Tensor) -> Tensor:
    """Half of them mirrored, all moved by the same few pixels."""
    mirrored = (torch.rand(len(images_BCHW)) < 0.5)[:, None, None, None]
    wide = pad(torch.where(mirrored, images_BCHW.flip(3), images_BCHW), (SHIFT,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
    return wide[:, :, down : down + SIDE, right : right + SIDE]
