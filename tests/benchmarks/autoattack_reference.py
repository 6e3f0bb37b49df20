"""AutoAttack against pyautoattack on real images: robust accuracy over three seeds, and the seconds of both.

    python tests/benchmarks/autoattack_reference.py [--images 200] [--seeds 3] [--norms linf l2 l1]

Needs the folder NSBENCH_SHARED_DATA (or ../shared/data) with Tiny-ImageNet. Trains a small ViT against attacks on
real images of ten classes (`tests/support/real_images.py`), takes 200 held-out pictures that it reads correctly, and
attacks them by both sides with every seed: l-inf at eps 4/255, l2 at 0.5, l1 at 5. pyautoattack is the standard version in
its own batches of 250, with one seed for all images, as its users run it; ours goes in batches of the same size.

To expect: ours leaves no more images right than pyautoattack's mean and its own spread over seeds (largest less
smallest); exit status 1 if it does. Times are processor seconds of one thread, with wall seconds behind them; the two
sides take turns. It takes about an hour.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from autoattack_runs import PARTS, Run, reached, run_ours, run_theirs, spread, undecided
from real_images import subject

from nsbench.models import Model
from nsbench.types import ThreatModel

SHARED = Path(os.environ.get("NSBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
THREATS = {"linf": ThreatModel("linf", 4 / 255), "l2": ThreatModel("l2", 0.5), "l1": ThreatModel("l1", 5)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--norms", nargs="*", choices=list(THREATS), default=list(THREATS))
    options = parser.parse_args()
    if not (SHARED / "tiny-imagenet").is_dir():
        print(f"no {SHARED / 'tiny-imagenet'}; set NSBENCH_SHARED_DATA")
        return 2
    torch.set_num_threads(1)
    model, pictures = subject(SHARED, options.images)
    print(
        f"{options.images} pictures, each read correctly; torch {torch.__version__}, pyautoattack "
        f"{version('pyautoattack')}, one thread, load {os.getloadavg()[0]:.1f}; accuracy after {', '.join(PARTS)}",
        flush=True,
    )
    met = [compared(model, *pictures, THREATS[norm], options.seeds) for norm in options.norms]
    return 0 if all(met) else 1


def compared(
    model: Model, images: torch.Tensor, labels: torch.Tensor, ids: list[str], threat: ThreatModel, seeds: int
) -> bool:
    ours, theirs = [], []
    for seed in range(seeds):
        ours.append(run_ours(model, images, labels, ids, seed, threat))
        print(f"{threat} seed {seed}  ours          {line(ours[-1])}", flush=True)
        theirs.append(run_theirs(model, images, labels, seed, threat))
        differ = int((ours[-1].right != theirs[-1].right).sum())
        print(
            f"{threat} seed {seed}  pyautoattack  {line(theirs[-1])}; {differ} images decided differently", flush=True
        )
    met = reached(ours, theirs)
    print(
        f"{threat}: ours {average(ours)}; pyautoattack {average(theirs)}; "
        f"processor time {total(ours) / total(theirs):.2f} x: {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def line(run: Run) -> str:
    after = " ".join(f"{accuracy:.1f}" for accuracy in run.after)
    return f"{run.accuracy:.1f} % ({after}), {run.cpu:.0f} s ({run.wall:.0f} s), {run.forwards:,} forwards"


def average(runs: Sequence[Run]) -> str:
    accuracy = mean(run.accuracy for run in runs)
    return f"{accuracy:.2f} % (spread {spread(runs):.1f}, {undecided(runs)} images not alike over seeds)"


def total(runs: Sequence[Run]) -> float:
    return sum(run.cpu for run in runs)


if __name__ == "__main__":
    sys.exit(main())
