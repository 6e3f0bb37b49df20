"""Is a drop more than noise? Tests of the same images before and after, against the flips of a same-code repeat.

The same code on another CPU, with other threads or another batch size, flips a few borderline images, and a refitted
model a few more. A baseline therefore records a repeat: r of m image outcomes flipped though nothing had changed. An
honest drop must stand out from that, in the worst case that every image that noise flips is lost.

**Accuracy.** b images lost, c won, of n. Exact McNemar asks whether b exceeds c by chance: P(Bin(b + c, 1/2) >= b).
Here K of the b losses may be noise, where K has the predictive distribution of the flips among n images after the
repeat, with Jeffreys' prior: K ~ BetaBinomial(n, r + 1/2, m - r + 1/2). Then

    p = min(1, 2 sum_k P(K = k) P(Bin(b - k + c, 1/2) >= b - k))

which is McNemar's exact two-sided p where no repeat was recorded (K = 0) and never below it.

**A mean of one number per image** (mCE). With d the change of each image, the noise's worst case is a shift by the
repeat's mean |d|: t = (|mean d| - mean |d_repeat|) / sqrt(s^2 / n + s_repeat^2 / m), Student with n - 1 degrees.

**Moved.** Whether anything changed at all, for the better or the worse: more images flip now than in the repeat, by
Fisher's exact test (one-sided): given f + r flips in n + m image outcomes that are equally likely to flip,
p = P(Hypergeometric(n + m, f + r, n) >= f).

References: Q. McNemar 1947, Psychometrika 12:153-157; A. Gelman et al. 2013, Bayesian Data Analysis, chapters 2 and 6
(Jeffreys' prior, prediction); A. Agresti 2013, Categorical Data Analysis, chapter 3 (Fisher).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nsbench.statistics import mcnemar_of_counts

POWER = 0.8


@dataclass(frozen=True)
class Noise:
    """What same-code repeats changed in one suite: the default is "not recorded"."""

    images: int = 0  # m: image outcomes compared, over all repeats
    flipped: int = 0  # r: of these, changed
    mean: float = 0.0  # of |change| per image, in the score's unit
    sd: float = 0.0  # of |change| per image

    @classmethod
    def of(cls, changes: np.ndarray) -> Noise:
        """From the change of each image's contribution, repeat minus baseline, over all repeats: shape (m,)."""
        size = np.abs(np.asarray(changes, dtype=np.float64))
        sd = float(size.std(ddof=1)) if size.size > 1 else 0.0
        return cls(size.size, int((size > 0).sum()), float(size.mean()) if size.size else 0.0, sd)


def lost_pvalue(lost: int, won: int, n: int, noise: Noise = Noise()) -> float:
    """Two-sided p of "as many lost as won, apart from noise", for the larger of the two; see the module."""
    from scipy.stats import betabinom, binom

    b, c = max(lost, won), min(lost, won)
    if not noise.images:
        return float(mcnemar_of_counts(b, c))
    k = np.arange(b)  # from k = b on, nothing is left to explain
    weights = betabinom.pmf(k, n, noise.flipped + 0.5, noise.images - noise.flipped + 0.5)
    tails = binom.sf(b - k - 1, b - k + c, 0.5)
    rest = max(0.0, 1 - float(weights.sum()))
    return min(1.0, 2 * (float(weights @ tails) + rest))


def mean_pvalue(changes: np.ndarray, noise: Noise = Noise()) -> float:
    """Two-sided p of "the mean change is noise", from the change of each of n images; see the module."""
    from scipy.special import stdtr

    n = len(changes)
    excess = abs(float(changes.mean())) - noise.mean
    if n < 2 or excess <= 0:
        return 1.0
    variance = float(changes.var(ddof=1)) / n + (noise.sd**2 / noise.images if noise.images else 0.0)
    if variance == 0:
        return 1.0 if n < 3 else 0.0  # every image changed by the same amount
    return min(1.0, 2 * float(stdtr(n - 1, -excess / variance**0.5)))


def moved_pvalue(flipped: int, n: int, repeat_flipped: int, repeat_n: int) -> float:
    """One-sided p of "no more images flip than in the repeat". 1 where no repeat was recorded; see the module."""
    from scipy.stats import hypergeom

    if not repeat_n or not flipped:
        return 1.0
    return float(hypergeom.sf(flipped - 1, n + repeat_n, flipped + repeat_flipped, n))


def detectable_drop(n: int, right: int, alpha: float, noise: Noise = Noise(), min_drop: float = 0.0) -> float | None:
    """The drop in points that is called regressed with a probability of 80 %, where no image is won.

    Of n images `right` can be lost; each is lost with the same probability. `alpha` is the level of the single test
    (the family's divided by its size is the worst case of Holm's correction); `min_drop` is in points. None: even the
    loss of every right image would not be called. With images won beside those lost, a larger drop is needed.
    """
    from scipy.stats import binom

    called = np.arange(1, right + 1)
    called = called[(100 * called / n >= min_drop - 1e-9)]
    low, high = 0, len(called)  # the fewest losses that are called; p falls with each loss
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if lost_pvalue(int(called[middle]), 0, n, noise) <= alpha else (middle + 1, high)
    if low == len(called):
        return None
    needed = int(called[low])
    share_low, share_high = 0.0, 1.0
    for _ in range(50):  # bisection: the power rises with the share that is lost
        share = (share_low + share_high) / 2
        enough = binom.sf(needed - 1, right, share) >= POWER
        share_low, share_high = (share_low, share) if enough else (share, share_high)
    return 100 * share_high * right / n
