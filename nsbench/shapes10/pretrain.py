"""Train the three networks that nsbench ships for shapes10, from nothing but the rendered split train.

    python -m nsbench.shapes10.pretrain --out nsbench/shapes10/weights

`vit_shapes10` (the default checkpoint): AdamW (weight decay 0.05, none on vectors), two one-cycle rounds of the
learning rate (20 epochs at batch 128 up to 1.5e-3, then 24 at batch 64 up to 1e-3), horizontal flips, shifts of up to
3 pixels, light colour jitter, label smoothing 0.1, bfloat16 autocast. `reference` and `surrogate`: two small
convolutional networks of their own seeds (see nsbench/shapes10/surrogate.py), 6 epochs each. One core needs about
25 minutes. Clean top-1 of the shipped weights: 97.0 %, 99.5 % and 99.5 %. Machines round bfloat16 differently, so a
new run gives other weights and a figure near these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from nsbench.data.source import Split, Subset
from nsbench.errors import TrainingError
from nsbench.files import write_atomically
from nsbench.models import build_vit_shapes10
from nsbench.progress import ConsoleProgress
from nsbench.randomness import derive_seed
from nsbench.shapes10 import EmbeddedSplit, Shapes10
from nsbench.shapes10.surrogate import build_network, fold

SHIFT = 3  # pixels
RECIPE = "AdamW, one-cycle learning rate, weight decay 0.05, flips, shifts, colour jitter, label smoothing 0.1"
NETWORKS = ("reference", "surrogate", "vit")


@dataclass(frozen=True)
class Cycle:
    """One rise and fall of the learning rate, with a fresh optimiser."""

    epochs: int
    batch: int
    peak: float  # learning rate


VIT = (Cycle(20, 128, 1.5e-3), Cycle(24, 64, 1e-3))  # the second starts from the weights of the first
CNN = (Cycle(6, 128, 1e-2),)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("pretrained"), show_default=True)
@click.option("--epochs", type=int, help="Of every cycle; to try things out.")
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train on so many images only; to try things out.")
@click.option("--only", type=click.Choice(NETWORKS), multiple=True, help="Train only these; may be given repeatedly.")
@click.option("--resume", is_flag=True, help="Skip every cycle but the last; its start is read from --out.")
def main(out: Path, epochs: int | None, seed: int, limit: int | None, only: tuple[str, ...], resume: bool) -> None:
    """Train the shipped networks and write them as safetensors."""
    out.mkdir(parents=True, exist_ok=True)
    progress = ConsoleProgress()
    source = Shapes10()
    train, clean = source.split("train", progress).limited(limit), source.split("clean", progress)
    data = {"train": pixels(train), "clean": pixels(clean)}
    for name in only or NETWORKS:
        torch.manual_seed(derive_seed(seed, "pretrain", name))
        network = _transformer() if name == "vit" else build_network(name)
        path = out / ("vit_shapes10.safetensors" if name == "vit" else f"shapes10_{name}.safetensors")
        cycles = [replace(cycle, epochs=epochs or cycle.epochs) for cycle in (VIT if name == "vit" else CNN)]
        for number, cycle in enumerate(cycles):
            if resume and number < len(cycles) - 1:
                continue
            if number:
                torch.manual_seed(derive_seed(seed, "pretrain", name, number))
                network.load_state_dict(load_file(path))
            fit(network, *data["train"], cycle, data["clean"], progress)
            facts = {"seed": seed, "cycles": [asdict(cycle) for cycle in cycles[: number + 1]], "recipe": RECIPE,
                     "train": train.digest, "clean": clean.digest}  # fmt: skip
            keep(network, path, data["clean"], facts, progress)


def _transformer() -> nn.Module:
    """`vit_shapes10`, untrained, with plain attention: in bfloat16 on a processor it trains three times faster."""
    vit = build_vit_shapes10()
    for block in vit.blocks:
        block.attn.fused_attn = False
    network: nn.Module = vit
    return network


def pixels(split: Split) -> tuple[Tensor, Tensor]:
    """All images (n, 3, 48, 48) uint8 and labels (n,) of a split of shapes10, or of a part of it."""
    base, chosen = (split.base, split.indices) if isinstance(split, Subset) else (split, slice(None))
    assert isinstance(base, EmbeddedSplit)
    return torch.from_numpy(np.array(base.images[chosen])).permute(0, 3, 1, 2), torch.from_numpy(split.labels)


def fit(network: nn.Module, images: Tensor, labels: Tensor, cycle: Cycle, clean: tuple[Tensor, Tensor],
        progress: ConsoleProgress) -> None:  # fmt: skip
    """Train in place; prints clean accuracy after each epoch (for the eye only: nothing is chosen by it)."""
    vectors = [p for p in network.parameters() if p.ndim < 2]
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=cycle.peak)
    steps = cycle.epochs * (len(images) // cycle.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, cycle.peak, total_steps=steps, pct_start=0.15)
    for epoch in range(cycle.epochs):
        network.train()
        start, losses = time.time(), []
        for images_BCHW, labels_B in batches(images, labels, cycle.batch):
            with torch.autocast("cpu", torch.bfloat16):
                logits_BK = network(normalise(network, augment(images_BCHW)))
            loss = F.cross_entropy(logits_BK.float(), labels_B, label_smoothing=0.1)
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss became {loss.item()} in epoch {epoch + 1}; use another --seed")
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        top1 = accuracy(network, *clean)
        progress.line(f"  epoch {epoch + 1:2d} of {cycle.epochs}  loss {np.mean(losses):.3f}  clean {top1:.1f} %  "
                      f"{time.time() - start:.0f} s")  # fmt: skip


def batches(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass in random order, [0, 1]; the last, smaller batch is left out."""
    for chosen in torch.randperm(len(images)).split(size):
        if len(chosen) == size:
            yield images[chosen].float() / 255, labels[chosen]


def augment(images_BCHW: Tensor) -> Tensor:
    """Flips, shifts (the border is repeated), brightness, contrast and tint."""
    n, _, height, width = images_BCHW.shape
    flip = torch.rand(n, 1, 1, 1) < 0.5
    images_BCHW = torch.where(flip, images_BCHW.flip(3), images_BCHW)
    padded = F.pad(images_BCHW, (SHIFT,) * 4, mode="replicate")
    left, top = torch.randint(0, 2 * SHIFT + 1, (2, n))
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    moved = padded[torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    contrast, tint = 0.8 + 0.4 * torch.rand(n, 1, 1, 1), 0.16 * (torch.rand(n, 3, 1, 1) - 0.5)
    return ((moved - mean) * contrast + mean + tint).clamp(0, 1)


def normalise(network: nn.Module, images_BCHW: Tensor) -> Tensor:
    """The transformer expects mean = std = 0.5; the convolutional networks take [0, 1] as it is."""
    return images_BCHW if isinstance(network, nn.Sequential) else (images_BCHW - 0.5) / 0.5


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 in percent, float32."""
    network.eval()
    right = sum(
        int((network(normalise(network, part.float() / 255)).argmax(dim=1) == truth).sum())
        for part, truth in zip(images.split(250), labels.split(250), strict=True)
    )
    return 100 * right / len(labels)


def keep(
    network: nn.Module, path: Path, clean: tuple[Tensor, Tensor], facts: Mapping[str, object], progress: ConsoleProgress
) -> None:
    """Write the weights: the transformer in float32, the convolutional ones folded and in float16."""
    network.eval()
    if isinstance(network, nn.Sequential):
        fold(network)
        network.load_state_dict({key: value.half().float() for key, value in network.state_dict().items()})
    top1 = accuracy(network, *clean)
    half = isinstance(network, nn.Sequential)
    state = {key: (value.half() if half else value).contiguous() for key, value in network.state_dict().items()}
    facts = {"clean_top1": round(top1, 2), **facts}
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    write_atomically(path, save(state, metadata=metadata))
    progress.line(f"{path}: clean {top1:.1f} %, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
