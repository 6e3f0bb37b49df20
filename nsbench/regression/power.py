"""Which drop a check would find: the size that is called regressed with a probability of 80 %.

One suite drops and the others stay as the check saw them. Each image that is right is lost with the same probability,
in all conditions of a score that has several; noise flips images beside them at the rate that the repeat tells. Of an
accuracy the probability is exact, given the noise's expected rate: over how many images noise wins (binomial), and how
many must then be lost for both claims and for `min_drop` (`evidence.py`). Of a mean it is
over how many images are lost, each worth its average, and over the mean of the noise (normal): whether Welch's t then
reaches the level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nsbench.regression.evidence import CHANGED, Known, Observed, Side, fair_pvalue

POWER = 0.8


def detectable_drop(k: int, observed: Sequence[Observed], worse: Side, alpha: float, min_drop: float) -> float | None:
    """Of suite k, in its score's unit; None where even the loss of every image would not be called.

    `worse`: the check's tests for the worse (`evidence.side`); `alpha`: of the whole check, two-sided; `min_drop` in the
    score's unit.
    """
    one = observed[k]
    if not one.losable:
        return None
    noise, fair = (_level(k, observed, p_K, alpha / 2) for p_K in (worse.noise_K, _tested(worse)))
    if one.accuracy:
        return _of_an_accuracy(one, worse.rates[k], noise, fair, min_drop)
    return _of_a_mean(one, noise if one.noise.images else fair, min_drop)


def _tested(worse: Side) -> np.ndarray:
    return np.where(worse.changed_K, worse.fair_K, np.nan)


def _level(k: int, observed: Sequence[Observed], p_K: np.ndarray, level: float) -> float:
    """Largest p of a claim that is called for suite k if no other suite moved: Bonferroni, the first step of Hommel."""
    tested = [one.method for one, p in zip(observed, p_K, strict=True) if not np.isnan(p)]
    mine = observed[k].method
    return level / (len({*tested, mine}) * max(tested.count(mine) + bool(np.isnan(p_K[k])), 1))


def _of_an_accuracy(one: Observed, known: Known | None, noise: float, fair: float, min_drop: float) -> float | None:
    """`noise` and `fair`: the levels of the claims."""
    from scipy.special import bdtrc

    extra, fewest, flips, lost, won = 0.0, 1, 1, 0.0, 0.0
    if known:
        extra = known.surplus(one.n)
        fewest = _first(one.losable, lambda lost: known.toward.tail(lost, one.n) <= noise)
        flips = _first(one.n, lambda moved: known.either.tail(moved, one.n) <= CHANGED)
        lost, won = known.toward.mean, 0.0 if one.noise.lost is None else known.against.mean
    most = _first(one.n, lambda k: float(bdtrc(k - 1.0, one.n, won)) <= 1e-6)  # as many or more are all but impossible
    won_W = np.arange(most)
    share_W = binomial(won_W, one.n, won)
    needed_W = np.array([_needed(int(w), max(fewest, flips - int(w)), one, extra, fair, min_drop) for w in won_W])
    share_W, needed_W = share_W[needed_W <= one.losable], needed_W[needed_W <= one.losable]
    beside = min(lost * one.n / one.losable, 1.0)
    share = _least(lambda own: float(share_W @ bdtrc(needed_W - 1.0, one.losable, 1 - (1 - own) * (1 - beside))))
    return None if share is None else share * one.losable * one.loss / one.n


def _needed(won: int, fewest: int, one: Observed, extra: float, level: float, min_drop: float) -> int:
    """Images to be lost where so many are won; one more than there are if that is not enough."""

    def called(lost: int) -> bool:
        far = one.loss * (lost - won) / one.n >= min_drop - 1e-9
        return lost >= fewest and far and float(fair_pvalue(lost, won, extra)) <= level

    return _first(one.losable, called)


def _of_a_mean(one: Observed, level: float, min_drop: float) -> float | None:
    from scipy.special import ndtr, stdtrit

    lost_L = np.arange(one.losable + 1)
    drop_L = lost_L * one.loss / one.n
    now_L = np.maximum(lost_L * one.square / one.n - drop_L**2, 0.0) + one.noise.sd**2
    before = one.noise.sd**2 / one.noise.images if one.noise.images else 0.0
    least_L = stdtrit(one.n - 1, 1 - level) * np.sqrt(now_L / one.n + before)
    spread = max((one.noise.sd**2 / one.n + before) ** 0.5, 1e-9)  # of the noise's mean, now and in the repeat
    called_L = np.where(drop_L >= min_drop - 1e-9, ndtr((drop_L - least_L) / spread), 0.0)
    called_L[0] = 0.0
    share = _least(lambda lost: float(binomial(lost_L, one.losable, lost) @ called_L))
    return None if share is None else share * one.losable * one.loss / one.n


def binomial(k: np.ndarray, n: int, share: float) -> np.ndarray:
    """P(Binomial(n, share) = k). scipy.stats has it too; importing that takes as long as a check of stored results."""
    from scipy.special import gammaln, xlog1py, xlogy

    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    p: np.ndarray = np.exp(ways + xlogy(k, share) + xlog1py(n - k, -share))
    return p


def _first(last: int, true: Callable[[int], bool]) -> int:
    """The first of 1, ..., last for which a condition holds that then holds for all that follow; else last + 1."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle + 1, high)
    return low


def _least(power: Callable[[float], float]) -> float | None:
    """The least share with a power of 80 %; None where even 1 does not reach it."""
    low, high = 0.0, 1.0
    if power(high) < POWER:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high
