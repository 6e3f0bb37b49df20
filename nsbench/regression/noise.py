"""What the same code flips when it runs again: the record of a repeat, and what it lets expect of the next run.

The same code on another CPU, with other threads or another batch size, flips a few borderline images, and a refitted
model a few more. A baseline therefore records a repeat: of m image outcomes of a suite, so many were lost and so many
won though nothing had changed.

**How often noise will lose an image** is told by the repeats of all suites of a method together, as far as they agree.
Suite j has its own rate q_j, r_j of m outcomes were lost:

    r_j ~ Binomial(m, q_j),    q_j ~ Beta(s mu, s (1 - mu)),    mu ~ Beta(1/2, 1/2),    s / (s + m) ~ Uniform(0, 1)

(the uniform prior of the shrinkage, Christiansen & Morris). Where the suites are alike, s comes out large and each is
predicted from all; where they differ, s comes out small and each is predicted from its own repeat, so that one noisy
suite is not taken for a quiet one. Zero flips of 500 leave rates of up to about 0.4 % likely, not zero.

**Shared images.** Clean and attacked suites hold the same images, and one borderline image may flip in all of them: then
eleven suites tell no more than one. With c_i the flips of image i over the suites, counts are divided by the design
effect sum c_i^2 / sum c_i (Rao & Scott), to which an image that flips in all suites that hold it is added with the
weight of one flip, because few flips cannot show that they come alone.

Everything is computed on a grid of rates. References: C. Christiansen & C. Morris 1997, J. American Statistical
Association 92:618-632; J. Rao & A. Scott 1992, Biometrics 48:577-585.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

STEPS = 320  # of the grid of rates
SMALLEST = 2e-5  # rate; below it lies one step
SHRINKAGES = (np.arange(10) + 0.5) / 10  # s / (s + m)
EVERY = 6  # step of the grid of mu, in steps of the rates'
NEGLIGIBLE = 1e-12  # weight


@dataclass(frozen=True)
class Noise:
    """What same-code repeats changed in one suite: the default is "not recorded"."""

    images: int = 0  # m: image outcomes compared, over all repeats
    flipped: int = 0  # of these, changed
    mean: float = 0.0  # change per image in the score's unit, positive is worse; of |change| where `lost` is None
    sd: float = 0.0  # of the change per image
    lost: int | None = None  # of the flipped, changed for the worse; None: the direction was not recorded

    @classmethod
    def of(cls, worse: np.ndarray) -> Noise:
        """From how much worse each image's contribution became in a repeat, over all repeats: shape (m,)."""
        change = np.asarray(worse, dtype=np.float64)
        sd = float(change.std(ddof=1)) if change.size > 1 else 0.0
        lost, won = int((change > 1e-9).sum()), int((change < -1e-9).sum())
        return cls(change.size, lost + won, float(change.mean()) if change.size else 0.0, sd, lost)

    def toward(self, *, better: bool) -> int:
        """Flips for the worse, or for the better; all of them, the worst case, where the direction is not known."""
        if self.lost is None:
            return self.flipped
        return self.flipped - self.lost if better else self.lost

    def shift(self, *, better: bool) -> float:
        """The mean change for the worse, or for the better, in the score's unit."""
        return self.mean if self.lost is None else -self.mean if better else self.mean


NOT_RECORDED = Noise()


@dataclass(frozen=True)
class Together:
    """How far the same images flip in several accuracies of one method, in its repeats."""

    flips: int = 0  # sum of c_i
    squares: float = 0.0  # sum of c_i^2
    most: int = 1  # accuracies that hold the same image
    average: Noise = NOT_RECORDED  # of the accuracies' average, over the images of all of them

    @classmethod
    def of(cls, flips: Sequence[int], most: int, average: Noise) -> Together:
        """From how often each image flipped, over suites and repeats; images that did not may be left out."""
        return cls(sum(flips), float(sum(c**2 for c in flips)), most, average)

    @property
    def design_effect(self) -> float:
        """By how much counts of flips are to be divided; see the module. At least 1."""
        return (max(self.squares, self.flips) + self.most) / (self.flips + 1)


@dataclass(frozen=True, eq=False)
class Rates:
    """What is known of the share of outcomes that noise flips in one direction in one suite: G rates with weights."""

    rates_G: np.ndarray
    weights_G: np.ndarray  # their sum is 1

    @cached_property
    def mean(self) -> float:
        """The expected share."""
        return float(self.weights_G @ self.rates_G)

    def tail(self, flips: int, n: int) -> float:
        """The probability that noise flips at least so many of n images."""
        from scipy.special import bdtrc

        return 1.0 if flips <= 0 else min(1.0, float(self.weights_G @ bdtrc(flips - 1, n, self.rates_G)))

    @classmethod
    def on_grid(cls, weights_Q: np.ndarray) -> Rates:
        """Without the rates that are as good as excluded."""
        kept = weights_Q > NEGLIGIBLE * weights_Q.sum()
        return cls(_rates()[kept], weights_Q[kept] / weights_Q[kept].sum())


@lru_cache(maxsize=256)
def rates_of(flipped: tuple[int, ...], images: tuple[int, ...], design_effect: float = 1.0) -> tuple[Rates, ...]:
    """Of each suite of a method, from the repeats of all of them; see the module.

    `flipped`: r_j, in one direction; `images`: m_j, all above 0.
    """
    if not flipped:
        return ()
    r = np.asarray(flipped, dtype=np.float64)[:, None] / design_effect
    m = np.asarray(images, dtype=np.float64)[:, None] / design_effect
    log_prior_H, spread_HQ = _prior(float(f"{m.mean():.2g}"))
    grid = _rates()
    log_JQ = r * np.log(grid) + (m - r) * np.log1p(-grid)
    likelihood_JQ = np.exp(log_JQ - log_JQ.max(axis=1, keepdims=True))
    evidence_HJ = np.maximum(spread_HQ @ likelihood_JQ.T, 1e-300)
    log_H = log_prior_H + np.log(evidence_HJ).sum(axis=1)
    share_H = np.exp(log_H - log_H.max())
    weights_JQ = ((share_H[:, None] / evidence_HJ).T @ spread_HQ) * likelihood_JQ
    return tuple(map(Rates.on_grid, weights_JQ))


@lru_cache(maxsize=1)
def _edges() -> np.ndarray:
    return np.concatenate([[0.0], np.geomspace(SMALLEST, 1.0, STEPS + 1)])


@lru_cache(maxsize=1)
def _rates() -> np.ndarray:
    """(Q,) the grid: middles of its steps."""
    edges = _edges()
    return np.concatenate([[SMALLEST / 2], np.sqrt(edges[1:-1] * edges[2:])])


@lru_cache(maxsize=64)
def _prior(images: float) -> tuple[np.ndarray, np.ndarray]:
    """(H,) log probability of each pair of mu and s, and (H, Q) the distribution of a suite's rate under each."""
    from scipy.special import betainc

    edges, places = _edges(), np.arange(0, STEPS + 1, EVERY)
    mu_M = _rates()[np.minimum(places + EVERY // 2, STEPS)]
    share_M = np.add.reduceat(np.diff(betainc(0.5, 0.5, edges)), places)
    s_S = images * SHRINKAGES / (1 - SHRINKAGES)
    a_H, b_H = np.outer(s_S, mu_M).reshape(-1, 1), np.outer(s_S, 1 - mu_M).reshape(-1, 1)
    log_prior_H = np.log(np.tile(share_M, len(s_S)) / len(s_S))
    return log_prior_H, np.diff(betainc(a_H, b_H, edges), axis=1)
