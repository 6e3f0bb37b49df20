"""Plain linear layers against linear layers as convolutions, in one run: `python tests/benchmarks/linear.py`.

Images per processor second of the forward pass and of forward and back to the image, on one thread, in turns, with the
largest difference of the logits. To expect where `convolutions_are_faster` says yes: at least 1.3 x and 1.1 x (exit
status 1 otherwise); elsewhere nothing is replaced, and the ratio of forcing it is for information.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import timm
import torch

from nsbench.models import Model, faster, frozen, load_model, wrap

TURNS, TARGETS = 7, (1.3, 1.1)


def main() -> int:
    torch.set_num_threads(1)
    here = faster.convolutions_are_faster()
    faster.convolutions_are_faster = lambda: True  # type: ignore[assignment]
    print("this processor:", "convolutions are taken" if here else "plain layers are kept")
    tiny = wrap(timm.create_model("vit_tiny_patch16_224"), name="vit_tiny_patch16_224")
    reached = [compared(model, batch) for model, batch in ((load_model("vit_shapes10"), 64), (tiny, 16))]
    return 0 if all(reached) or not here else 1


def compared(model: Model, batch: int) -> bool:
    size = model.input_size
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model(images)

    def back() -> torch.Tensor:
        asked = images.clone().requires_grad_()
        return torch.autograd.grad(model(asked).sum(), asked)[0]

    reached = True
    with frozen(model):
        plain = forward()
        with faster.faster_linear(model):
            difference = float((forward() - plain).abs().max() / plain.abs().max())
        for name, work, target in (("forward", forward, TARGETS[0]), ("forward and back", back, TARGETS[1])):
            slow, fast = seconds(model, work)
            ratio, reached = slow / fast, reached and slow / fast >= target
            print(
                f"{model.name}, batch {batch}, {name}: {batch / slow:.0f} and {batch / fast:.0f} images/s, "
                f"{ratio:.2f} x (target {target}); logits differ by {difference:.1e} of the largest"
            )
    return reached


def seconds(model: Model, work: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds of the quickest call with plain layers, and with convolutions."""
    best = [float("inf"), float("inf")]
    for turn in range(2 * TURNS + 2):
        with faster.faster_linear(model) if turn % 2 else nullcontext():
            start = time.process_time()
            work()
            if turn > 1:  # the first of each is not counted
                best[turn % 2] = min(best[turn % 2], time.process_time() - start)
    return best[0], best[1]


if __name__ == "__main__":
    sys.exit(main())
