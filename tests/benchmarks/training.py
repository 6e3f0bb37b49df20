"""One round of NS against a straightforward loop of the same algorithm, on the same images, in one run.

    python tests/benchmarks/training.py [--repeat N] [--set FIELD=VALUE ...]

The straightforward loop runs the clean and the noisy images at every inner step, lets autograd fill the gradients of
all weights while it learns the noise, embeds the images twice in a training step, and carries every token through
the last block. Both start from the same noise and see the same batches in the same order, so both must reach epsilon
after the same number of steps at the same norm; that is checked. Beside it stands what the passes of our round cost
bare, on one batch again and again, and what its images cost to draw and augment: the rest is the loop's own.

vit_shapes10 always; the real ViT-Tiny on real images where NSBENCH_SHARED_DATA (or ../shared/data) has them. Times are
processor seconds, and the two sides take turns. A round is the paper's: 40 training steps, noise from within (-3, 3).
To expect: at least 1.5 x faster (exit status 1 if it is not), at most 1.05 x its passes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from nsbench import registry
from nsbench.data import Split
from nsbench.data.loading import batches
from nsbench.models import Model, class_token_only, frozen, load_model
from nsbench.nullspace import mse_probability
from nsbench.progress import SILENT
from nsbench.randomness import derive_seed
from nsbench.run.opening import open_source
from nsbench.training import Recipe, load_recipe
from nsbench.training.augment import Augmented, pixels
from nsbench.training.noise import _stream

PAPER = {"rounds": "1", "steps_per_round": "40", "noise_limit": "3", "noise_max_steps": "3000"}
SHARED = Path(os.environ.get("NSBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    options = parser.parse_args()
    registry.load_content()
    changes = dict(setting.split("=", 1) for setting in options.set)
    ratios = [compare(*case, options.repeat) for case in cases(changes)]
    return 0 if min(ratios) >= 1.5 else 1


def cases(changes: dict[str, str]) -> list[tuple[str, Model, Split, Recipe]]:
    source = open_source("shapes10", "nsbench")
    found = [
        (
            "vit_shapes10",
            load_model("vit_shapes10"),
            source.split("train", SILENT),
            load_recipe("shapes10", PAPER | changes),
        )
    ]
    if (SHARED / "weights").is_dir():
        name = "vit_tiny_patch16_224"
        tree = open_source(str(SHARED / "imagenet"), "nsbench")
        few = {
            "rounds": "1",
            "steps_per_round": "4",
            "batch_size": "16",
            "noise_batch": "16",
            "noise_held_out": "16",
            "noise_batches": "4",
            "noise_limit": "1",
            "noise_max_steps": "40",
        }
        found.append(
            (
                name,
                load_model(name, checkpoint=SHARED / "weights" / f"{name}.safetensors"),
                tree.split("train", SILENT),
                load_recipe("quick", few | changes),
            )
        )
    return found


def compare(name: str, model: Model, train: Split, recipe: Recipe, repeat: int) -> float:
    plain, ours, passes, images = (list[float]() for _ in range(4))
    for _ in range(repeat):
        expected = timed(plain, straightforward, model, train, recipe)
        entry = timed(ours, partial(registry.methods["ns"].fit, progress=SILENT), model, train, recipe).history[0]
        timed(passes, bare, model, recipe, expected["steps"])
        timed(images, drawn, model, train, recipe, expected["steps"])
        assert entry.noise.steps == expected["steps"], (entry.noise.steps, expected["steps"])
        assert abs(entry.noise.norm - expected["norm"]) < 1e-3 * expected["norm"]
    ratio = min(plain) / min(ours)
    print(
        f"{name}: {entry['noise_steps']} inner and {recipe.steps} training steps, batches of {recipe.noise_batch} "
        f"and {recipe.batch_size}: {min(plain):.1f} s straightforward, {min(ours):.1f} s here, {ratio:.2f} x faster; "
        f"noise of norm {entry['noise_norm']:.1f} and MSE probability {entry['mse_probability']:.4f} on both sides"
    )
    print(
        f"{name}: {min(passes):.1f} s of bare passes, {min(images):.1f} s of images; with the images drawn already "
        f"a round costs {(min(ours) - min(images)) / min(passes):.3f} x its passes",
        flush=True,
    )
    return ratio


def timed(found: list[float], work: Callable[..., Any], *arguments: Any) -> Any:
    start = time.process_time()
    result = work(*arguments)
    found.append(time.process_time() - start)
    return result


def bare(model: Model, recipe: Recipe, inner: int) -> None:
    """The passes of our round: as many of each kind, on one batch that is there."""
    model = deepcopy(model)
    few, many = (
        torch.rand(count, 3, model.input_size, model.input_size) for count in (recipe.noise_batch, recipe.batch_size)
    )
    once = min(inner + 1, recipe.noise_batches) + 1 + 2 * recipe.noise_held_out // recipe.noise_batch
    with class_token_only(model):
        with frozen(model):
            with torch.no_grad():
                for _ in range(once):
                    tokens = model.embed(few)
                    model.head(model.encode(tokens))
            noise = (torch.rand_like(tokens[:1]) * recipe.noise_limit).requires_grad_()
            for _ in range(inner):
                model.head(model.encode(tokens + noise)).sum().backward()
        optimiser = torch.optim.AdamW(model.train().requires_grad_(True).parameters(), lr=0.0)
        for _ in range(recipe.steps):
            optimiser.zero_grad()
            tokens = model.embed(many)
            sum(model.head(model.encode(part)).sum() for part in (tokens, tokens + noise.detach())).backward()
            optimiser.step()


def drawn(model: Model, train: Split, recipe: Recipe, inner: int) -> None:
    """The images of a round, drawn and augmented."""
    list(islice(_stream(model, train, recipe, 0, 0), 1 + min(inner + 1, recipe.noise_batches)))
    stream = Augmented(train, recipe, model, stream="training", length=recipe.steps * recipe.batch_size)
    list(batches(stream, model.preprocessing.transform("none"), batch_size=recipe.batch_size))


def noisy_logits(model: Model, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return model.head(model.encode(model.embed(images) + noise))


def straightforward(model: Model, train: Split, recipe: Recipe) -> dict[str, Any]:
    """Algorithm 1 as one would write it down."""
    model = deepcopy(model).eval().requires_grad_(True)
    parts = _stream(model, train, recipe, 0, 0)
    next(parts)  # held out here too
    pool = cycle(islice(parts, recipe.noise_batches))
    draws = torch.Generator().manual_seed(derive_seed(recipe.seed, "nullspace noise", 0))
    like = model.embed(torch.zeros(1, 3, model.input_size, model.input_size))
    noise = ((2 * torch.rand(like.shape, generator=draws) - 1) * recipe.noise_limit).requires_grad_(True)
    inner = torch.optim.AdamW([noise], lr=recipe.noise_lr)
    for step in range(recipe.noise_max_steps + 1):
        images = next(pool)
        clean, noisy = model(images), noisy_logits(model, images, noise)
        if mse_probability(noisy, clean).item() < recipe.epsilon or step == recipe.noise_max_steps:
            break
        inner.zero_grad()
        torch.linalg.vector_norm(noisy - clean.detach(), dim=1).mean().backward()
        inner.step()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    stream = Augmented(train, recipe, model, stream="training", length=recipe.steps * recipe.batch_size)
    model.train()
    for batch in batches(stream, model.preprocessing.transform("none"), batch_size=recipe.batch_size):
        images = pixels(batch, model.device)
        noisy = noisy_logits(model, images, noise.detach())
        loss = cross_entropy(model(images), batch.labels) + cross_entropy(noisy, batch.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {"steps": step, "norm": noise.norm().item()}


if __name__ == "__main__":
    sys.exit(main())
