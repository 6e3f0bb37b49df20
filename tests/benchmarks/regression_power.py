"""How often `nsbench check` is wrong, and what it finds, by simulated checks whose truth is known.

    python tests/benchmarks/regression_power.py [--checks 2000] [--noise 0.2,1,3] [--kinds symmetric,lost]
                                                [--images 500] [--methods 2] [--min-drop 0.5] [--together 1,4]

A check has two methods of eleven columns on 500 images each: ten accuracies from 30 to 95 % and one mCE. A baseline and
its same-code repeat are drawn, and then the check. --noise: percent of all outcomes that the same code flips;
"symmetric": half of them are lost and half won; "lost": all are lost. The first four accuracies and the mCE hold the same
images; --together 4: the same of them flip in all of these (10: in all ten accuracies), 1: each flips alone. What is
planted takes every right image of a column with the same probability (of mCE, in all conditions at once).

Printed for each noise:
  unchanged   percent of checks of the same code with a pair called regressed; with one called regressed or improved;
              and that fail where they are strict (moved methods fail as well)
  no worse    the same first figure where 2 % of the images of every column are lost and 2 % won, which costs nothing
  one         percent of checks that find a drop of 3 points in one of the 22 columns (an accuracy)
  every       percent that fail where all 22 columns drop by 2 points; that name one of them; of these drops, percent named
  stated      how often the drop is found that an unchanged check says it would find with a probability of 80 %,
              of an accuracy and of an mCE
The figures stand in docs/regression.md.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nsbench.regression import Rules, Verdict
from nsbench.regression.compare import verdict
from nsbench.regression.entry import averaged
from nsbench.regression.evidence import Observed, moved_pvalue, side, weigh
from nsbench.regression.noise import Noise, Together
from nsbench.regression.power import detectable_drop
from nsbench.statistics import MCE_WEIGHTS, holm

LEVELS = np.linspace(0.3, 0.95, 10)  # of the ten accuracies
WEIGHTS = np.array(list(MCE_WEIGHTS.values()))  # (C,) what a wrong outcome of an image adds to its part of mCE
CORRUPT_LEVEL = 0.6
SHARED = 4  # accuracies on the same images: clean and three attacks


@dataclass(frozen=True)
class Setting:
    """Of the simulated checks."""

    images: int
    methods: int
    noise: float  # share of outcomes
    kind: str  # "symmetric" or "lost"
    together: int  # accuracies that hold the same images, which flip together
    rules: Rules


@dataclass(frozen=True)
class Planted:
    """What a change does to the columns, in shares of all images (of mCE in points / 100)."""

    lost: np.ndarray  # (columns,)
    won: np.ndarray


@dataclass(frozen=True)
class Before:
    """A method's baseline: which outcomes are right, and what a repeat told of the noise."""

    right_AN: np.ndarray  # of the accuracies
    right_CN: np.ndarray  # of the conditions of mCE
    noise: Sequence[Noise]  # of the accuracies, then of mCE
    together: Together
    moved: int  # images


@dataclass(frozen=True)
class After:
    """Change of every outcome: 1 lost, -1 won."""

    worse_AN: np.ndarray
    worse_N: np.ndarray  # of mCE, in points


def none(columns: int) -> Planted:
    return Planted(np.zeros(columns), np.zeros(columns))


def measured_again(
    rng: np.random.Generator, right_AN: np.ndarray, right_CN: np.ndarray, s: Setting, p: Planted
) -> After:
    """The outcomes of another run: the change that is planted, and noise."""
    lost = s.noise / (1 if s.kind == "lost" else 2)
    won = s.noise - lost
    columns, images = right_AN.shape
    u_AN, u_CN = rng.random(right_AN.shape), rng.random(right_CN.shape, dtype=np.float32)
    if s.together > 1:
        u_AN[: s.together] = u_CN[:] = u_AN[0]
    noisy_AN = flips(u_AN, right_AN, lost, won)
    changed_AN = flips(rng.random(right_AN.shape), right_AN, p.lost[:columns, None], p.won[:columns, None])
    worse_AN = np.where(changed_AN != 0, changed_AN, noisy_AN)
    noisy_CN = flips(u_CN, right_CN, lost, won)
    worse_N = WEIGHTS @ noisy_CN
    if p.lost[-1] or p.won[-1]:
        value_N = WEIGHTS @ right_CN
        u = rng.random(images)
        worse_N = np.where(u < 100 * p.lost[-1] / value_N.mean(), value_N, worse_N)
        worse_N = np.where(u > 1 - 100 * p.won[-1] / value_N.mean(), -value_N, worse_N)
    return After(worse_AN, worse_N)


def flips(u: np.ndarray, right: np.ndarray, lost: np.ndarray | float, won: np.ndarray | float) -> np.ndarray:
    """1 where a right outcome is lost, -1 where a wrong one is won; these are shares of all outcomes of a row."""
    share = right.mean(axis=1, keepdims=True)
    found: np.ndarray = np.where(right, (u < lost / share).astype(np.int8), -(u < won / (1 - share)).astype(np.int8))
    return found


def recorded(rng: np.random.Generator, s: Setting) -> Before:
    """The baseline of one method, with its repeat."""
    shared = max(s.together, SHARED)
    right_AN = rng.random((len(LEVELS), s.images)) < LEVELS[:, None]
    right_CN = rng.random((len(WEIGHTS), s.images)) < CORRUPT_LEVEL
    repeat = measured_again(rng, right_AN, right_CN, s, none(len(LEVELS) + 1))
    noise = [Noise.of(100.0 * row) for row in repeat.worse_AN] + [Noise.of(repeat.worse_N)]
    flipped_AN = repeat.worse_AN != 0
    moved = images_moved(repeat, s)
    by_image = np.concatenate([flipped_AN[:shared].sum(axis=0), flipped_AN[shared:].ravel()])
    average = Noise.of(averaged_over(repeat.worse_AN, shared))
    return Before(right_AN, right_CN, noise, Together.of(by_image.astype(int).tolist(), shared, average), moved)


def averaged_over(worse_AN: np.ndarray, shared: int) -> np.ndarray:
    """What each image adds to the average of the accuracies, in points; the first `shared` hold the same images."""
    parts = [
        (np.arange(worse_AN.shape[1]) + max(0, a - shared + 1) * 10**6, 100.0 * row) for a, row in enumerate(worse_AN)
    ]
    return averaged(parts)


def images_moved(after: After, s: Setting) -> int:
    """Distinct images with another outcome."""
    shared, flipped_AN = max(s.together, SHARED), after.worse_AN != 0
    return int((flipped_AN[:shared].any(axis=0) | (after.worse_N != 0)).sum() + flipped_AN[shared:].sum())


def seen(method: str, before: Before, after: After) -> list[Observed]:
    """What the check sees of a method: its columns, and the average of its accuracies."""
    value_N = WEIGHTS @ before.right_CN
    rows = [
        Observed.of(method, 100.0 * row, noise, accuracy=True, losses=100.0 * right)
        for row, noise, right in zip(after.worse_AN, before.noise, before.right_AN, strict=False)
    ]
    rows.append(Observed.of(method, after.worse_N, before.noise[-1], accuracy=False, losses=value_N))
    worse_N = averaged_over(after.worse_AN, before.together.most)
    return [*rows, Observed.of(method, worse_N, before.together.average, accuracy=False, losses=100.0 + 0 * worse_N)]


def columns_of(check: Sequence[Sequence[Observed]]) -> list[Observed]:
    return [one for method in check for one in method]


def verdicts(observed: Sequence[Observed], together: dict[str, Together], rules: Rules) -> list[Verdict]:
    return [
        verdict(one.drop, evidence.p_adjusted, rules)
        for one, evidence in zip(observed, weigh(observed, together), strict=True)
    ]


def simulated(rng: np.random.Generator, s: Setting) -> Counter[str]:
    """One check of each kind on one baseline; counts, each with how many there could be under its name and "of"."""
    names = [f"method{k}" for k in range(s.methods)]
    before = {name: recorded(rng, s) for name in names}
    together = {name: one.together for name, one in before.items()}
    width = len(LEVELS) + 1
    counts: Counter[str] = Counter()

    def again(name: str, planted: Planted) -> After:
        return measured_again(rng, before[name].right_AN, before[name].right_CN, s, planted)

    def checked(observed: list[Observed]) -> list[Verdict]:
        return verdicts(observed, together, s.rules)

    after = {name: again(name, none(width)) for name in names}
    same = columns_of([seen(name, before[name], after[name]) for name in names])
    found = checked(same)
    regressed, called = Verdict.REGRESSED in found, any(one is not Verdict.OK for one in found)
    total = s.images * (len(LEVELS) + 1 - max(s.together, SHARED))
    p_moved = [moved_pvalue(images_moved(one, s), total, before[name].moved, total) for name, one in after.items()]
    strict = called or float(holm(p_moved).min()) <= s.rules.alpha
    counts.update({"unchanged": regressed, "called": called, "strict": strict})

    churn = Planted(np.full(width, 0.02), np.full(width, 0.02))
    found = checked(columns_of([seen(name, before[name], again(name, churn)) for name in names]))
    counts.update({"no worse": Verdict.REGRESSED in found})

    place, lost = int(rng.integers(len(LEVELS))), np.zeros(width)
    lost[place] = 0.03
    dropped = seen(names[0], before[names[0]], again(names[0], Planted(lost, np.zeros(width))))
    counts.update({"one": checked([*dropped, *same[len(dropped) :]])[place] is Verdict.REGRESSED})

    every = Planted(np.full(width, 0.02), np.zeros(width))
    found = checked(columns_of([seen(name, before[name], again(name, every)) for name in names]))
    pairs = [one for k, one in enumerate(found) if k % (width + 1) != width]  # without the averages
    named = pairs.count(Verdict.REGRESSED)
    counts.update({"every": Verdict.REGRESSED in found, "named": named > 0, "each": named})

    worse = side(same, together, better=False)
    for what, column in (("stated", place), ("stated mCE", width - 1)):
        drop = detectable_drop(column, same, worse, s.rules.alpha, s.rules.min_drop)
        if drop is None:
            continue
        lost = np.zeros(width)
        lost[column] = drop / 100
        once_more = seen(names[0], before[names[0]], again(names[0], Planted(lost, np.zeros(width))))[column]
        found = checked([*same[:column], once_more, *same[column + 1 :]])
        counts.update({what: found[column] is Verdict.REGRESSED, f"{what} of": 1, f"{what} drop": drop})
    return counts


def line(s: Setting, checks: int) -> str:
    start, counts = time.perf_counter(), Counter[str]()
    for number in range(checks):
        counts.update(simulated(np.random.default_rng([number, round(1e5 * s.noise), s.together, s.kind == "lost"]), s))
    percent = {name: 100 * count / checks for name, count in counts.items()}
    pairs = s.methods * (len(LEVELS) + 1)
    stated = []
    for what in ("stated", "stated mCE"):
        total = max(counts[f"{what} of"], 1)
        stated.append(f"{100 * counts[what] / total:5.1f} at {counts[f'{what} drop'] / total:3.1f}")
    parts = (
        f"{100 * s.noise:4.1f} %  {s.kind:9s}  {s.together:8d}",
        f"{percent['unchanged']:5.2f}  {percent['called']:5.2f}  {percent['strict']:5.2f}",
        f"{percent['no worse']:5.2f}",
        f"{percent['one']:5.1f}",
        f"{percent['every']:5.1f}  {percent['named']:5.1f}  {percent['each'] / pairs:5.1f}",
        f"{'  '.join(stated)}   ({time.perf_counter() - start:.0f} s)",
    )
    return " | ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checks", type=int, default=2000)
    parser.add_argument("--noise", default="0.2,1,3")
    parser.add_argument("--kinds", default="symmetric,lost")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--methods", type=int, default=2)
    parser.add_argument("--min-drop", type=float, default=0.5)
    parser.add_argument("--together", default="1,4")
    options = parser.parse_args()
    print(
        "noise   kind       together | unchanged, either, strict | no worse | one | every, named, each"
        " | stated: accuracy, mCE"
    )
    for together in map(int, options.together.split(",")):
        for kind in options.kinds.split(","):
            for noise in map(float, options.noise.split(",")):
                rules = replace(Rules(), min_drop=options.min_drop)
                setting = Setting(options.images, options.methods, noise / 100, kind, together, rules)
                print(line(setting, options.checks), flush=True)


if __name__ == "__main__":
    main()
