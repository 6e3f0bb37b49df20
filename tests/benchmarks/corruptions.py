"""Time of each corruption beside imagecorruptions', in one run: `python tests/benchmarks/corruptions.py`.

One image of 224 x 224 at severity 3 on one core. The reference is the installed imagecorruptions, repaired only where
today's NumPy and scikit-image break it, with its own glass_blur loop. Both sides take and give uint8 arrays. Between them
stands what the engine `imagecorruptions` takes, which makes the reference's bytes without some of its loops.
To be reached: 60 x over the fifteen, 12 x over the fifteen without glass_blur, 15 x for zoom_blur, 10 x for brightness.
Measured on 2026-12-01 on an idle AMD EPYC (Zen 5), OpenCV 5: 93 x, 15 x, 42 x, 78 x.
Bounds of what is left: defocus_blur is OpenCV's DFT in double precision, jpeg_compression and pixelate are Pillow's.
`--gpu` times batches of 64 on a GPU against the same; to be reached there: 100 x over the fourteen without jpeg.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from PIL import Image

from nsbench.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt, corrupt_batch, reference

SEVERITY, SIZE = 3, 224
TARGETS = {"zoom_blur": 15, "brightness": 10}


def photograph() -> np.ndarray:
    """A real image where the shared data are at hand, else a mixture of noises at several scales."""
    repository = Path(__file__).parent.parent.parent
    shared = Path(os.environ.get("NSBENCH_SHARED_DATA") or repository.parent / "shared" / "data")
    files = sorted((shared / "imagenet" / "val").glob("*/*.JPEG"))
    if files:
        return np.asarray(Image.open(files[len(files) // 2]).convert("RGB").resize((SIZE, SIZE)))
    random = np.random.default_rng(0)
    layers = [random.uniform(0, 255, (n, n, 3)).astype(np.uint8) for n in (3, 12, 50)]
    return np.mean([np.asarray(Image.fromarray(x).resize((SIZE, SIZE))) for x in layers], axis=0).astype(np.uint8)


def milliseconds(
    function: Callable[[], object], clock: Callable[[], float] = time.process_time, seconds: float = 0.7
) -> float:
    """Median time of one call, after a first one that is not counted. Of the processor: other programs do not count."""
    function()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = clock()
        function()
        times.append(clock() - start)
    return 1000 * float(np.median(times))


def original(image_HWC: np.ndarray, name: str) -> np.ndarray:
    function = getattr(reference.module(), name)
    return np.asarray(function(Image.fromarray(image_HWC), SEVERITY)).astype(np.uint8)


def on_gpu(image_HWC: np.ndarray, name: str, batch: int = 64) -> float:
    import torch

    images = torch.from_numpy(np.repeat(image_HWC[None], batch, axis=0)).permute(0, 3, 1, 2).cuda()
    ids = [str(k) for k in range(batch)]

    def run() -> None:
        corrupt_batch(images, name, SEVERITY, seed=0, ids=ids, engine="nsbench")
        torch.cuda.synchronize()

    return milliseconds(run, time.perf_counter) / batch


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--gpu", action="store_true")
    gpu = options.parse_args().gpu
    cv2.setNumThreads(1)
    image = photograph()
    reference.seed_draws(0)
    load = os.getloadavg()[0]
    print(f"severity {SEVERITY}, {SIZE} x {SIZE}, ms per image; load average at the start {load:.1f}")
    print(f"{'':18} {'reference':>10} {'same bytes':>11} {'nsbench':>9} {'ratio':>7}")
    rows: dict[str, tuple[float, float, float]] = {}
    for name in CORRUPTIONS + EXTRA_CORRUPTIONS:
        slow = milliseconds(lambda name=name: original(image, name))
        quick = on_gpu(image, name) if gpu else milliseconds(
            lambda name=name: corrupt(image, name, SEVERITY, seed=0, image_id="x", engine="nsbench"))  # fmt: skip
        same = milliseconds(lambda name=name: reference.corrupt(image, name, SEVERITY, 0))
        rows[name] = slow, same, quick
        show(name, *rows[name], TARGETS.get(name))
    total = {name: rows[name] for name in CORRUPTIONS}
    sums = (("without jpeg", ("jpeg_compression",), 100),) if gpu else (
        ("the fifteen", (), 60), ("without glass", ("glass_blur",), 12))  # fmt: skip
    for label, left_out, target in sums:
        show(label, *np.sum([row for name, row in total.items() if name not in left_out], axis=0), target)


def show(label: str, slow: float, same: float, quick: float, target: int | None) -> None:
    goal = f"  (goal {target}x)" if target else ""
    print(f"{label:18} {slow:10.2f} {same:11.2f} {quick:9.3f} {slow / quick:6.1f}x{goal}")


if __name__ == "__main__":
    main()
