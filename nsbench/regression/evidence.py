"""Is a drop more than noise, and more than chance? The tests of a check, over all suites of all methods.

A suite is called regressed if two claims hold and the drop that was seen is worth naming. All is tested in either
direction; alpha is the chance of any false verdict in a check, half of it for the worse and half for the better.

**1. It changed: more images are lost than noise loses.** Null: this is the same code, and b of n images were lost, each
with the rate q that the repeat tells (`noise.py`): b ~ Binomial(n, q), and

    p_noise = E_q P(Binomial(n, q) >= b)

The global hypothesis of a method, "none of its suites lost more than noise", is tested first, by Simes' test at alpha / 2
divided by the number of methods; which suites changed is then told by Hommel's closed testing procedure, which tests
every set of suites of the method so. Simes' test holds for tests that are independent or positively dependent, as those
on the same images are.

**2. It got worse: the images that changed are no fair coin.** A change of the code may flip images both ways and cost
nothing. Null: beyond noise, an image is as likely to be lost as to be won. Of the d = b + c images that flipped, b were
lost and c won, and noise loses k = n (q_lost - q_won) more than it wins,

    b ~ Binomial(d, 1/2 + max(k, 0) / (2 d)),    p_fair = P(Binomial(d, ...) >= b)

which is exact McNemar's one-sided test where noise has no direction. Given the numbers d, these tests do not know which
suites have many flips, so only suites take part that do: E_q P(Binomial(n, q_lost + q_won) >= d) <= 1 %. The others can
not be called. Over those that take part the correction is that of claim 1.

`p` is 2 max(p_noise, p_fair), `p_adjusted` the same of both corrected ones. **3. The drop itself** is compared with
`min_drop` as it was seen; that has no part in the tests. So an unchanged check is called wrongly at most with alpha
(claim 1), and one that changed and is no worse at most with alpha too (claim 2).

**A mean of one number per image** (mCE, and the average of a method's accuracies, which finds a small drop of all of them
though no single one can be named). One test serves for both claims and stands with claim 1: the change of n images now
against that of m in the repeat, Welch's t = (mean - mean_repeat) / sqrt(s^2 / n + s_repeat^2 / m).

**Without a repeat** there is no claim 1, noise counts as none, and claim 2 is tested for all suites, by Student's paired
test for a mean.

**Assumed**: a later run of the same code flips outcomes at the rate of the repeat (a machine or a refit that is noisier
than the repeat is a change, and is reported as one); within a suite images flip independently, across suites in any way
together. Where a baseline of schema 1 holds no direction, all its flips count as lost for a drop, as won for a gain.
Error rates and power, simulated: docs/regression.md.

**Moved.** Whether anything changed at all, for the better or the worse: more images flip now than in the repeat, by
Fisher's exact test (one-sided): given f + r flips in n + m image outcomes that are equally likely to flip,
p = P(Hypergeometric(n + m, f + r, n) >= f).

References: Q. McNemar 1947, Psychometrika 12:153-157; R. Simes 1986, Biometrika 73:751-754; G. Hommel 1988, Biometrika
75:383-386; S. Sarkar 1998, Annals of Statistics 26:494-504 (Simes under positive dependence); B. Welch 1947, Biometrika
34:28-35; A. Agresti 2013, Categorical Data Analysis, chapter 3 (Fisher).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nsbench.regression.noise import NOT_RECORDED, Noise, Rates, Together, rates_of
from nsbench.statistics import hommel

CHANGED = 0.01  # level at which a suite has more flips than noise, which claim 2 needs; uncorrected


@dataclass(frozen=True)
class Observed:
    """What one suite of one method, with one seed, shows: now against the baseline, on the same n images."""

    method: str
    n: int
    lost: int  # images that got worse
    won: int
    noise: Noise = NOT_RECORDED
    drop: float = 0.0  # mean change per image in the score's unit, positive is worse; of an accuracy 100 (b - c) / n
    sd: float = 0.0  # of the change per image
    accuracy: bool = True  # lost and won images say everything
    losable: int = 0  # images that can be lost: right in any condition
    loss: float = 100.0  # change of such an image that is lost altogether, on average ...
    square: float = 10_000.0  # ... and the mean of its square

    @classmethod
    def of(cls, method: str, worse: np.ndarray, noise: Noise, *, accuracy: bool, losses: np.ndarray) -> Observed:
        """From the change of each image, positive is worse, and its change were it lost altogether: shapes (n,)."""
        n, can = len(worse), losses[losses > 1e-9]
        loss, square = (float(can.mean()), float((can**2).mean())) if len(can) else (0.0, 0.0)
        lost, won = int((worse > 1e-9).sum()), int((worse < -1e-9).sum())
        sd = float(worse.std(ddof=1)) if n > 1 else 0.0
        return cls(method, n, lost, won, noise, float(worse.mean()), sd, accuracy, len(can), loss, square)

    def toward(self, *, better: bool) -> tuple[int, int, float]:
        """Images moved in this direction and against it, and the drop (or gain)."""
        return (self.won, self.lost, -self.drop) if better else (self.lost, self.won, self.drop)


@dataclass(frozen=True)
class Evidence:
    """Of one suite, in the direction in which it moved (for the worse where it did not). Two-sided."""

    p: float  # of this suite alone
    p_adjusted: float  # over the whole check: the smallest alpha at which it is called


@dataclass(frozen=True, eq=False)
class Side:
    """The whole check in one direction: K suites, one-sided p values."""

    rates: tuple[Known | None, ...]  # what the repeat tells of an accuracy; None: no repeat, or a mean
    noise_K: np.ndarray  # p of claim 1; nan where there is no repeat
    fair_K: np.ndarray  # p of claim 2; nan where claim 1 says it all
    changed_K: np.ndarray  # claim 2 is tested: flips are more than noise, or there is no repeat
    adjusted_K: np.ndarray  # of both, over the whole check


@dataclass(frozen=True, eq=False)
class Known:
    """Of an accuracy: how often noise flips its images."""

    toward: Rates  # in the direction of a side
    against: Rates
    either: Rates

    def surplus(self, n: int) -> float:
        """k: how many more of n images noise is expected to flip in the direction than against it; at least 0."""
        return max(0.0, n * (self.toward.mean - self.against.mean))


def weigh(observed: Sequence[Observed], together: Mapping[str, Together] | None = None) -> list[Evidence]:
    """The evidence of every suite of a check; `together`: by method, from the baseline's repeats."""
    worse, better = (side(observed, together or {}, better=better) for better in (False, True))
    found = []
    for k, one in enumerate(observed):
        mine = better if one.drop < 0 else worse
        p = float(np.fmax(mine.noise_K[k], mine.fair_K[k]))
        found.append(Evidence(min(1.0, 2 * p), min(1.0, 2 * float(mine.adjusted_K[k]))))
    return found


def side(observed: Sequence[Observed], together: Mapping[str, Together], *, better: bool) -> Side:
    """All tests in one direction."""
    rates = _known(observed, together, better)
    noise, fair, changed = np.full(len(observed), np.nan), np.full(len(observed), np.nan), np.ones(len(observed), bool)
    for k, one in enumerate(observed):
        moved, against, drop = one.toward(better=better)
        known = rates[k]
        if not one.accuracy:
            (noise if one.noise.images else fair)[k] = mean_pvalue(drop, one.sd, one.n, one.noise, better=better)
        elif known is None:
            fair[k] = fair_pvalue(moved, against)
        else:
            noise[k] = known.toward.tail(moved, one.n)
            fair[k] = fair_pvalue(moved, against, known.surplus(one.n))
            changed[k] = known.either.tail(moved + against, one.n) <= CHANGED
    methods = [one.method for one in observed]
    adjusted = np.fmax(_adjusted(methods, noise), _adjusted(methods, np.where(changed, fair, np.nan)))
    return Side(tuple(rates), noise, fair, changed, np.where(changed, adjusted, 1.0))


def _known(observed: Sequence[Observed], together: Mapping[str, Together], better: bool) -> list[Known | None]:
    """Of every accuracy with a repeat: told by those of its method."""
    found: list[Known | None] = [None] * len(observed)
    for method in dict.fromkeys(one.method for one in observed):
        mine = [k for k, one in enumerate(observed) if one.method == method and one.accuracy and one.noise.images]
        effect = together.get(method, Together(most=max(len(mine), 1))).design_effect
        images = tuple(observed[k].noise.images for k in mine)
        flipped = [tuple(observed[k].noise.toward(better=way) for k in mine) for way in (better, not better)]
        flipped.append(tuple(observed[k].noise.flipped for k in mine))
        for k, *each in zip(mine, *(rates_of(flips, images, effect) for flips in flipped), strict=True):
            found[k] = Known(*each)
    return found


def _adjusted(methods: Sequence[str], p_K: np.ndarray) -> np.ndarray:
    """One claim over the check: Hommel within a method, Bonferroni over methods; nan stays, as what is not tested."""
    adjusted, names = np.full(len(p_K), np.nan), np.array(methods)
    tested = dict.fromkeys(names[~np.isnan(p_K)].tolist())
    for method in tested:
        mine = (names == method) & ~np.isnan(p_K)
        adjusted[mine] = np.minimum(1.0, len(tested) * hommel(p_K[mine]))
    return adjusted


def fair_pvalue(moved: ArrayLike, against: ArrayLike, surplus: float = 0.0) -> np.ndarray:
    """One-sided p of claim 2, for images that moved in the direction and against it: arrays of any one shape."""
    from scipy.special import bdtrc

    b, c = np.asarray(moved, dtype=np.int64), np.asarray(against, dtype=np.int64)
    d = np.maximum(b + c, 1)
    p: np.ndarray = np.where(b > 0, bdtrc(np.maximum(b - 1.0, 0), d, np.minimum(1.0, 0.5 + surplus / (2 * d))), 1.0)
    return p


def mean_pvalue(drop: float, sd: float, n: int, noise: Noise = NOT_RECORDED, *, better: bool = False) -> float:
    """One-sided p of "the mean change is noise", from mean and standard deviation over n images; see the module."""
    from scipy.special import stdtr

    excess = drop - noise.shift(better=better)
    now, before = sd**2 / n, noise.sd**2 / noise.images if noise.images else 0.0
    variance = now + before
    if n < 3 or (excess <= 0 and variance == 0):
        return 1.0
    least = 2.0**-n  # the sign test's, where every image changes alike
    if variance == 0:
        return least
    degrees = variance**2 / (now**2 / (n - 1) + (before**2 / (noise.images - 1) if before else 0.0))
    return max(float(stdtr(degrees, -excess / variance**0.5)), least)


def moved_pvalue(flipped: int, n: int, repeat_flipped: int, repeat_n: int) -> float:
    """One-sided p of "no more images flip than in the repeat". 1 where no repeat was recorded; see the module."""
    from scipy.special import gammaln

    if not repeat_n or not flipped:
        return 1.0
    all_, both = n + repeat_n, flipped + repeat_flipped

    def ways(of: int, k: np.ndarray) -> np.ndarray:
        logarithm: np.ndarray = gammaln(of + 1) - gammaln(k + 1) - gammaln(of - k + 1)
        return logarithm

    k = np.arange(max(flipped, both - repeat_n), min(both, n) + 1)  # of all flips, now: hypergeometric
    return min(1.0, float(np.exp(ways(both, k) + ways(all_ - both, n - k) - ways(all_, np.array(n))).sum()))
