"""Error rates and power of the leaderboard's verdicts, by simulated tables whose truth is known.

    python tests/benchmarks/verdicts.py [--tables 2000] [--seeds 3,5,10] [--sigma 0,0.05,0.15,0.3] [--noise 0,0.5]
                                        [--gain 0]

A table has six methods, ten columns of accuracies (1,000 images), one of mCE (500 images, fifteen conditions) and their
average. Whether an image is right is a latent normal variable's sign: how hard the image is, what this training is worth
(the same in all columns; its standard deviation is chosen so that accuracies near 60 % move by --sigma points), what
the method finds hard of its own, and what this training finds hard of its own. The last two have the spread --noise,
where images have 2: with 0, a better training is right wherever a worse one is. So population figures are known in
closed form. With --gain the first method is that many points ahead of the five equal ones.

Printed for each setting: tables with any false claim, by tests over images and trainings and by tests over images alone;
how many of the true differences of the average are found; and how often 95 % intervals hold the truth. The figures stand
in docs/verdicts.md.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nsbench.leaderboard.pairs import ALPHA, corrected, upper
from nsbench.statistics import ALEXNET_ERROR, Trained, paired_pvalues

METHODS = 6
IMAGES, CORRUPTED = 1000, 500
LEVELS = np.linspace(-1.5, 3.5, 10)  # of the ten columns: accuracies from about 25 to 95 %
HARD = 2.0  # spread over images of how hard they are for everybody
SLOPE = 100 * 0.38 / 2.1  # points of accuracy for a step of one in the latent variable, near 60 %
WEIGHTS = np.array([100 / (15 * error) for error in ALEXNET_ERROR.values()])
AVERAGE = "average"


@dataclass(frozen=True)
class Setting:
    seeds: int
    sigma: float
    noise: float
    gain: float


@dataclass(frozen=True)
class Column:
    """M methods: for each (S, n) what images add, and the population's figure."""

    rows: Sequence[np.ndarray]
    truth: np.ndarray  # (M,)
    accuracy: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--seeds", default="3,5,10")
    parser.add_argument("--sigma", default="0,0.05,0.15,0.3")
    parser.add_argument("--noise", default="0,0.5")
    parser.add_argument("--gain", default="0")
    options = parser.parse_args()
    print(
        "seeds  sigma  noise  gain | false claims  images alone | found | coverage: accuracy   mCE  average  differences"
    )
    for seeds in map(int, options.seeds.split(",")):
        for noise in map(float, options.noise.split(",")):
            for sigma in map(float, options.sigma.split(",")):
                for gain in map(float, options.gain.split(",")):
                    print(line(Setting(seeds, sigma, noise, gain), options.tables), flush=True)


def line(setting: Setting, tables: int) -> str:
    start, counts = time.perf_counter(), Counter[str]()
    for index in range(tables):
        counts.update(judged(table(np.random.default_rng([index, setting.seeds]), setting)))
    share = {name: counts[name] / counts[f"{name} of"] for name in counts if f"{name} of" in counts}
    covered = "  ".join(
        f"{100 * share[f'covered {what}']:8.1f}" for what in ("accuracy", "mCE", AVERAGE, "differences")
    )
    found = f"{100 * share['found']:5.1f}" if "found" in share else "    -"
    wrong = "  ".join(f"{100 * share[what]:10.1f} %" for what in ("false", "images alone"))
    return (
        f"{setting.seeds:5d}  {setting.sigma:5.2f}  {setting.noise:5.1f}  {setting.gain:4.1f} | {wrong} | {found} |      "
        f"{covered}   ({time.perf_counter() - start:.0f} s)"
    )


def table(rng: np.random.Generator, setting: Setting) -> dict[str, Column]:
    """Columns by name; all methods are equal but for the first one's gain."""
    worth = setting.sigma / SLOPE * rng.standard_normal((METHODS, setting.seeds, 1))
    ahead = np.zeros(METHODS)
    ahead[0] = setting.gain / SLOPE
    over_images = float(np.sqrt(HARD**2 + 2 * setting.noise**2))
    spread = float(np.hypot(setting.sigma / SLOPE, over_images))
    columns = {}
    for place, level in enumerate(LEVELS):
        right = latent(rng, setting, IMAGES) + worth + (level + ahead)[:, None, None] > 0
        truth = 100 * ndtr((level + ahead) / spread)
        columns[f"accuracy {place}"] = Column(list(100 * right / IMAGES), truth, True)
    added = np.zeros((METHODS, setting.seeds, CORRUPTED))
    truth = np.zeros(METHODS)
    shared = latent(rng, setting, CORRUPTED) * 0.8  # the same images in all corruptions
    for weight, level in zip(WEIGHTS, np.linspace(-1, 2, len(WEIGHTS)), strict=True):
        own = rng.standard_normal(added.shape, dtype=np.float32) * (0.6 * over_images)
        added += weight * (shared + own + worth + (level + ahead)[:, None, None] <= 0)
        truth += weight * ndtr(-(level + ahead) / spread)
    columns["mCE"] = Column(list(added / CORRUPTED), truth, False)
    return columns


def latent(rng: np.random.Generator, setting: Setting, n: int) -> np.ndarray:
    """(M, S, n): how easy images are, for everybody, for a method, for a training."""
    total = np.zeros((METHODS, setting.seeds, n), dtype=np.float32)
    shapes = (HARD, (1, 1, n)), (setting.noise, (METHODS, 1, n)), (setting.noise, (METHODS, setting.seeds, n))
    for spread, shape in shapes:
        total += spread * rng.standard_normal(shape, dtype=np.float32)
    return total


def judged(columns: dict[str, Column]) -> Counter[str]:
    """Counts, each with how many there could be under its name and "of"."""
    strata = {name: [[row] for row in column.rows] for name, column in columns.items()}
    strata[AVERAGE] = [
        [(row if column.accuracy else 100 / row.shape[1] - row) / len(columns) for row, column in each]
        for each in ([(column.rows[method], column) for column in columns.values()] for method in range(METHODS))
    ]
    truth = {name: column.truth for name, column in columns.items()}
    truth[AVERAGE] = np.mean([c.truth if c.accuracy else 100 - c.truth for c in columns.values()], axis=0)
    trained = {name: Trained.of(rows) for name, rows in strata.items()}
    rows = tuple(range(METHODS))
    alone = {name: paired_pvalues(one.means) for name, one in trained.items()}
    both = corrected({name: (rows, upper(np.maximum(one.pvalues(), alone[name]))) for name, one in trained.items()})
    images = corrected({name: (rows, upper(p)) for name, p in alone.items()})
    equal = upper(np.equal.outer(truth[AVERAGE], truth[AVERAGE]))
    counts = Counter(
        {
            "false": int(any((pairs.adjusted[equal] <= ALPHA).any() for pairs in both.values())),
            "false of": 1,
            "images alone": int(any((pairs.adjusted[equal] <= ALPHA).any() for pairs in images.values())),
            "images alone of": 1,
        }
    )
    if not equal.all():
        counts.update({"found": int((both[AVERAGE].adjusted[~equal] <= ALPHA).sum()), "found of": int((~equal).sum())})
    for name, one in trained.items():
        kind = "accuracy" if name in columns and columns[name].accuracy else name
        for row in range(METHODS):
            low, high = one.accuracy_interval(row) if kind == "accuracy" else one.interval(row)
            counts.update({f"covered {kind}": int(low <= truth[name][row] <= high), f"covered {kind} of": 1})
        for row in range(METHODS - 1):
            low, high = one.difference(row, row + 1, accuracy=kind == "accuracy")
            inside = low <= truth[name][row] - truth[name][row + 1] <= high
            counts.update({"covered differences": int(inside), "covered differences of": 1})
    return counts


if __name__ == "__main__":
    main()
