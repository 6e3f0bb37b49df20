"""Does reading keep up? The clean suite's evaluation against its two halves, alone, in one run.

    python tests/benchmarks/reading.py [--data FOLDER] [--checkpoint FILE] [--model NAME] [--workers N] [--limit N]

(a) decoding and resizing alone, with the same workers; (b) the model alone, as evaluations compute it, on the same tensors
in memory; (c) the evaluation. The rounds take turns, so that a busy machine slows all three alike. To expect: (c) at least
0.95 of the slower of (a) and (b). Exit status 1 below it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nsbench import models
from nsbench.data.loading import batches
from nsbench.run.evaluate import evaluate
from nsbench.run.opening import open_source, resolve_device
from nsbench.types import Condition

SHARED = Path(os.environ.get("NSBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
TARGET = 0.95


def main() -> int:
    options = _options()
    device = resolve_device(options.device)
    model = models.load_model(options.model, checkpoint=options.checkpoint, device=device)
    split = open_source(options.data).split("clean").limited(options.limit)
    size = options.batch_size or (256 if device.startswith("cuda") else 64)
    transform, settings = model.preprocessing.transform(), {"batch_size": size, "workers": options.workers}
    held = [batch.images for batch in batches(split, transform, **settings)]

    def read() -> None:
        for _ in batches(split, transform, **settings):
            pass

    def classify() -> None:
        with models.frozen(model), models.faster_linear(model), torch.inference_mode():
            for images in held:
                model(images.to(device).float() / 255).argmax(dim=1).cpu()

    def whole() -> None:
        evaluate(model, split, Condition("clean"), **settings)

    parts: dict[str, Callable[[], None]] = {"reading alone": read, "model alone": classify, "evaluation": whole}
    rates: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(options.rounds):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            rates[name].append(len(split) / (time.perf_counter() - start))
    for name, found in rates.items():
        print(f"{name:<14} {statistics.median(found):8.1f} images/s   rounds {' '.join(f'{r:.1f}' for r in found)}")
    ratio = statistics.median(whole / min(a, b) for a, b, whole in zip(*rates.values(), strict=True))
    print(
        f"{len(split)} images, {options.workers} workers, {torch.get_num_threads()} threads, {device}: "
        f"evaluation / slower half = {ratio:.3f} (target {TARGET:.2f})"
    )
    return 0 if ratio >= TARGET else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of the clean suite against its halves.")
    parser.add_argument("--data", default=str(SHARED / "imagenet"))
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--checkpoint", type=Path, default=SHARED / "weights" / "vit_tiny_patch16_224.safetensors")
    parser.add_argument("--workers", type=int, default=min(8, torch.get_num_threads()))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--limit", type=int, help="images of each round; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
