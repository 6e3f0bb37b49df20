"""Figures of methods that were trained several times: images are drawn at random, and so are trainings.

A figure is a sum over images, y[training, image], averaged over trainings. Its error has three independent parts, of the
two-way random model training_s + image_i + (training x image)_si (S. Searle, G. Casella & C. McCulloch 1992, Variance
Components, chapter 4):

    variance of the mean = between + image,
    between = variance of the trainings' figures / S, with S - 1 degrees of freedom; it holds training and interaction,
              and is not taken below the interaction, which many images tell well,
    image   = variance of the images' means, less the interaction, which `between` holds already; not below zero.

So the variance is never below that over images alone, and no verdict on methods is surer than one on these weights.

Intervals are Student's with Satterthwaite's degrees of freedom over these parts (F. Satterthwaite 1946, Biometrics
Bulletin 2:110-114). Tests must hold far out in the tail, where a correction over many of them looks, and there this
approximation claims too much when three trainings happen to lie close together. They average the normal test over what
the true variance between trainings may be, given the observed one (a generalised p value: K.-W. Tsui & S. Weerahandi
1989, JASA 84:602-607); with one part alone that is Student's or the normal test. Trainings of two methods are taken as
drawn apart, with Welch's degrees of freedom; where they share their data order by a common seed this errs on the
careful side. `tests/benchmarks/verdicts.py` measures the error rates of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nsbench.statistics.accuracy import wilson
from nsbench.statistics.intervals import image_variance

NODES = 128  # of the integral over the variance between trainings: relative error below 1e-6 down to p = 1e-12
MOST_FREEDOM = 1e9  # beyond it Student's is the normal distribution
PAIRS = 50_000  # pairs worked out at a time: 50 MB


@dataclass(frozen=True, eq=False)
class Trained:
    """M rows on the same images, each with its own number of trainings; one training adds no variance of its own."""

    means: Sequence[np.ndarray]  # strata (M, m): what an image adds to a row's figure, mean over trainings
    observed: np.ndarray  # (M,) variance of the figure's mean over trainings, as these trainings have it
    interaction: np.ndarray  # (M,) the part of it that the spread over images holds as well
    freedom: np.ndarray  # (M,) degrees of freedom of `observed`; 0 for one training

    @classmethod
    def of(cls, rows: Sequence[Sequence[np.ndarray]]) -> Trained:
        """`rows`: for each row its strata (S, m), trainings x images, whose sum over images is the figure."""
        strata = range(len(rows[0]))
        interaction = np.array([sum(map(_interaction, row)) for row in rows])
        return cls(
            [np.array([row[stratum].mean(axis=0, dtype=np.float64) for row in rows]) for stratum in strata],
            np.array([_between(row) for row in rows]),
            interaction,
            np.array([len(row[0]) - 1 for row in rows]),
        )

    @property
    def between(self) -> np.ndarray:
        """(M,) the variance of the figure's mean over trainings, not below the interaction."""
        between: np.ndarray = np.maximum(self.observed, self.interaction)
        return between

    def pvalues(self) -> np.ndarray:
        """(M, M) two-sided p values of "equal figures, were there any number of trainings and images"."""
        figure = sum(stratum.sum(axis=1) for stratum in self.means)
        difference = np.abs(np.subtract.outer(figure, figure))
        none = difference <= 1e-9 * max(float(np.abs(figure).max()), 1e-12)
        images, images_freedom = image_variance(self.means)
        between, freedom = _welch(self.between, self.freedom)
        images = np.maximum(images - np.add.outer(self.interaction, self.interaction), 0.0)
        p = np.ones_like(difference)
        upper = np.triu_indices(len(p), 1)
        p[upper] = _averaged_pvalues(*(each[upper] for each in (difference, images, images_freedom, between, freedom)))
        least = 2.0 ** (1 - sum(stratum.shape[1] for stratum in self.means))  # the sign test's, where all images agree
        return np.where(none, 1.0, np.maximum(np.nan_to_num(np.minimum(p, p.T)), least))

    def interval(self, row: int, confidence: float = 0.95) -> tuple[float, float]:
        """Of one row's figure."""
        centre = float(sum(stratum[row].sum() for stratum in self.means))
        half = self._half([stratum[row] for stratum in self.means], [row], confidence)
        return centre - half, centre + half

    def accuracy_interval(self, row: int, confidence: float = 0.95) -> tuple[float, float]:
        """Of one row's figure where that is an accuracy in percent: Wilson's, never outside 0 to 100.

        With the number of images that would give the standard error found, less what Student's quantile asks for
        beyond the normal one (E. Korn & B. Graubard 1998, Survey Methodology 24:193-201).
        """
        from scipy.special import ndtri

        (stratum,) = self.means
        share, n = float(np.clip(stratum[row].sum() / 100, 0, 1)), stratum.shape[1]
        half = self._half([stratum[row]], [row], confidence) / 100
        effective = share * (1 - share) * (float(ndtri(0.5 + confidence / 2)) / half) ** 2 if half > 0 else n
        effective = min(effective, n * (self.freedom[row] + 1)) or n
        low, high = wilson(share * effective, effective, confidence)
        return 100 * low, 100 * high

    def difference(
        self, row: int, other: int, confidence: float = 0.95, *, accuracy: bool = False
    ) -> tuple[float, float]:
        """Interval of one row's figure minus another's.

        Of an accuracy in percent one image more counts as different in either direction, as in Bonett & Price's interval
        (see `paired`): where a handful of images differs, their spread is no measure of how few they might have been.
        """
        parts = [stratum[row] - stratum[other] for stratum in self.means]
        few = 2 * (100 / self.means[0].shape[1]) ** 2 if accuracy else 0.0
        centre, half = float(sum(part.sum() for part in parts)), self._half(parts, [row, other], confidence, few)
        most = 100.0 if accuracy else math.inf
        return max(centre - half, -most), min(centre + half, most)

    def _half(self, parts: Sequence[np.ndarray], rows: Sequence[int], confidence: float, more: float = 0.0) -> float:
        """Half the width of an interval; `parts`: strata (m,) of the rows' sum or difference; `more`: variance."""
        from scipy.special import stdtrit

        images, images_freedom = (float(each[0, 1]) for each in image_variance([np.array([p, 0 * p]) for p in parts]))
        images = max(images - float(self.interaction[rows].sum()), 0.0) + more
        total = float(self.between[rows].sum()) + images
        if total <= 0:
            return 0.0
        # what many images tell of the interaction is as good as known: only the trainings' own spread has few degrees
        parts_of_it = [*zip(self.observed[rows], self.freedom[rows], strict=True), (images, images_freedom)]
        uncertain = sum(variance**2 / freedom for variance, freedom in parts_of_it if variance > 0)
        freedom = min(total**2 / uncertain, MOST_FREEDOM) if uncertain > 0 else MOST_FREEDOM
        return float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(total)


def _between(row: Sequence[np.ndarray]) -> float:
    """Variance of a row's figure over trainings, divided by their number."""
    figures = np.sum([stratum.sum(axis=1, dtype=np.float64) for stratum in row], axis=0)
    return float(np.var(figures, ddof=1)) / len(figures) if len(figures) > 1 else 0.0


def _interaction(stratum: np.ndarray) -> float:
    """What remains beyond trainings and images, as it stands in the variance of the sum of the images' means."""
    trainings, m = stratum.shape
    if trainings < 2 or m < 2:
        return 0.0
    values = stratum.astype(np.float64)
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((rest**2).sum() * m / ((m - 1) * (trainings - 1) * trainings))


def _welch(between: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, M) variances of differences between trainings, with Welch and Satterthwaite's degrees of freedom."""
    squares = np.divide(between**2, freedom, out=np.zeros_like(between), where=freedom > 0)
    total, parts = np.add.outer(between, between), np.add.outer(squares, squares)
    return total, np.divide(total**2, parts, out=np.ones_like(total), where=parts > 0)


def _averaged_pvalues(
    difference: np.ndarray, images: np.ndarray, images_freedom: np.ndarray, between: np.ndarray, freedom: np.ndarray
) -> np.ndarray:
    """(k,) p values: Student's of `images` averaged over the variance between trainings, freedom x between / chi2."""
    from scipy.special import stdtr

    p = np.empty(len(difference))
    for start in range(0, len(p), PAIRS):
        part = slice(start, start + PAIRS)
        f = freedom[part, None]
        # log chi2 with its density: the rule of equal steps is all but exact for what dies out this fast at both ends
        low, high = np.log(f) - 64 / f - 2, np.log(f) + np.log1p(12 / np.sqrt(f) + 60 / f)
        logarithm = low + (high - low) * np.linspace(0, 1, NODES)
        density = f * logarithm / 2 - np.exp(logarithm) / 2
        weight = np.exp(density - density.max(axis=1, keepdims=True))
        variance = images[part, None] + between[part, None] * f * np.exp(-logarithm)
        with np.errstate(divide="ignore", invalid="ignore"):
            known = (
                images_freedom[part, None] * (variance / images[part, None]) ** 2
            )  # Satterthwaite's: one part is given
            tail = 2 * stdtr(np.minimum(known, MOST_FREEDOM), -difference[part, None] / np.sqrt(variance))
        p[part] = (weight * tail).sum(axis=1) / weight.sum(axis=1)
    return p
