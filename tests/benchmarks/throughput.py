"""Training throughput and memory against timm's bare forward and backward pass, on synthetic images.

    python tests/benchmarks/throughput.py [--model NAME ...] [--batch N] [--steps N] [--device cuda] [--precision P]

The bare loop has its batch on the device already and does nothing else than loss, gradients and AdamW; ours draws,
crops and flips PIL images in worker processes beside it. To expect on a GPU: at least 0.9 x the bare images/s.
Exit status 1 if it is less.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import timm
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from nsbench.data import Split
from nsbench.models import Model, Preprocessing
from nsbench.progress import SILENT
from nsbench.training import Recipe, finetune

CLASSES = 1000


class Synthetic(Split):
    """Random pictures of ImageNet's usual size."""

    def __init__(self, count: int, size: int) -> None:
        self.name, self.ids, self.labels = "train", np.array([f"{i}" for i in range(count)]), np.arange(count) % CLASSES
        self.pictures = [
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))
            for seed in range(16)
        ]

    def load(self, index: int) -> Image.Image:
        return self.pictures[index % 16]

    @property
    def digest(self) -> str:
        return "synthetic"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["vit_small_patch16_224", "vit_base_patch16_224"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    print("| model | bare images/s | finetune images/s | ratio | peak MiB |\n|---|---|---|---|---|")
    ratios = [measure(name, options) for name in options.model]
    return 0 if min(ratios) >= 0.9 else 1


def measure(name: str, options: argparse.Namespace) -> float:
    vit = timm.create_model(name, pretrained=False, num_classes=CLASSES)
    size = vit.default_cfg["input_size"][-1]
    bare = bare_speed(vit.to(options.device), size, options)
    vit.zero_grad()
    if options.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # of what follows alone
    model = Model(vit.to("cpu").eval(), name=name, preprocessing=Preprocessing(size), mean=(0.5,) * 3, std=(0.5,) * 3)
    recipe = Recipe(
        name="throughput",
        rounds=2,
        steps_per_round=options.steps,
        batch_size=options.batch,
        precision=options.precision,
        crop_scale=(0.9, 1.0),
    )
    fitted = finetune(
        model.to(options.device),
        Synthetic(options.batch * 8, size + 32),
        recipe,
        progress=SILENT,
        workers=options.workers,
    )
    ours = options.batch * options.steps / fitted.history[-1].seconds  # the first round warms up
    peak = torch.cuda.max_memory_allocated() >> 20 if options.device.startswith("cuda") else 0
    print(f"| {name} | {bare:,.0f} | {ours:,.0f} | {ours / bare:.2f} | {peak:,} |", flush=True)
    return ours / bare


def bare_speed(vit: torch.nn.Module, size: int, options: argparse.Namespace) -> float:
    """Images per second of forward, backward and AdamW on one batch that lies on the device."""
    images = torch.randn(options.batch, 3, size, size, device=options.device)
    labels = torch.randint(0, CLASSES, (options.batch,), device=options.device)
    optimiser = torch.optim.AdamW(vit.train().parameters(), lr=1e-5)
    start = 0.0
    for step in range(2 * options.steps):
        if step == options.steps:
            _wait(options.device)
            start = time.perf_counter()
        with torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = cross_entropy(vit(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    _wait(options.device)
    return options.batch * options.steps / (time.perf_counter() - start)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
