"""The bootstrap over images for figures that are sums over images, paired across methods.

Notation: M methods, G strata of m images each; y[method, image] is what an image adds to a method's figure, so that the
figure is the sum over all images. One draw of images serves all methods and, because an image's y holds what it adds
through every suite it appears in, all suites: differences between methods keep the pairing (B. Efron & R. Tibshirani
1993, An Introduction to the Bootstrap, chapters 8 and 13). Images are drawn within their stratum, whose size is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nsbench.randomness import generator
from nsbench.statistics.accuracy import wilson

RESAMPLES = 10_000
CELLS = 4_000_000  # counts held at a time: 16 MB
DRAWN = 1 << 16  # images drawn at a time, whose counts stay in the processor's cache
ENOUGH = 50  # images that differ: p values of 2^-49 and less are as good as none
PAIRS, AT_ONCE = 50_000, 64  # pairs and images that are compared at a time: 13 MB
UNITS = 5_000  # most units that are drawn; of a larger stratum, equal random groups of images are drawn together


def resampled_sums(strata: Sequence[np.ndarray], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(resamples, M) figures on resampled images; `strata`: arrays (M, m). The same seed and sizes, the same draws."""
    sums = np.zeros((resamples, len(strata[0])))
    for index, y_MN in enumerate(strata):
        rng = generator(seed, "bootstrap", index, y_MN.shape[1], resamples)
        total_M = y_MN.sum(axis=1, dtype=np.float64)
        centred_NM = _units(y_MN - total_M[:, None] / y_MN.shape[1], rng)
        chunk = max(1, CELLS // len(centred_NM))
        for start in range(0, resamples, chunk):
            part = slice(start, min(start + chunk, resamples))
            sums[part] += counts(rng, len(centred_NM), part.stop - part.start) @ centred_NM
        sums += total_M
    return sums


def _units(centred_MN: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(units, M) float32: images, or the sums of random groups of them, which have the same spread."""
    m = centred_MN.shape[1]
    if m > UNITS:
        starts = np.linspace(0, m, UNITS, endpoint=False).astype(np.int64)
        centred_MN = np.add.reduceat(centred_MN[:, rng.permutation(m)], starts, axis=1)
    return np.ascontiguousarray(centred_MN.T, dtype=np.float32)  # deviations, not totals: single precision is enough


def counts(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """(resamples, n) float32: how often each of n images is drawn in n draws with replacement."""
    found = np.empty((resamples, n), dtype=np.float32)
    step = max(1, DRAWN // n)
    for start in range(0, resamples, step):
        part = found[start : start + step]
        drawn = rng.integers(0, n, part.shape, dtype=np.int64)
        drawn += n * np.arange(len(part))[:, None]
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    return found


def percentile_interval(sums: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) over the first axis."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(sums, [tail, 1 - tail], axis=0)
    return low, high


def bootstrap_mean(
    values: np.ndarray,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of n independent values. Seeded: the same values, the same interval.

    Where all are alike it has no width; `mean_interval` says what they can tell.
    """
    sums = resampled_sums([np.asarray(values, dtype=np.float64)[None] / len(values)], resamples, seed)
    low, high = percentile_interval(sums[:, 0], confidence)
    return float(low), float(high)


def mean_interval(values: np.ndarray, least: float, most: float) -> tuple[float, float]:
    """95 % interval of the mean of n independent values between `least` and `most`: the bootstrap's.

    Where all are alike, none of n differs, so no more do than the upper bound of Wilson's interval for 0 of n, each by as
    much as it can: of an accuracy this is Wilson's interval itself.
    """
    if np.ptp(values) > 1e-9 * max(abs(least), abs(most)):
        return bootstrap_mean(values)
    value, differ = float(values.mean()), wilson(0, len(values))[1]
    return value - differ * (value - least), value + differ * (most - value)


def paired_pvalues(strata: Sequence[np.ndarray]) -> np.ndarray:
    """(M, M) two-sided p values of "equal figures", from the bootstrap's standard error of every paired difference.

    A figure is a sum over images, so the standard error that infinitely many resamples would give is known in closed
    form, and p values far below 1 / resamples, which a correction over many pairs asks for, are not cut off. Student's
    t with Welch and Satterthwaite's degrees of freedom over the strata, and no smaller than the sign test allows with
    the images that differ. Methods that agree on every image have p = 1.
    """
    from scipy.special import stdtr

    figures_M = sum(y.sum(axis=1, dtype=np.float64) for y in strata)
    above_MM = ~np.tri(len(figures_M), dtype=bool)
    variance_P, df_P = (each[above_MM] for each in image_variance(strata))
    difference_P = np.abs(np.subtract.outer(figures_M, figures_M)[above_MM])
    none_P = difference_P <= 1e-9 * max(float(np.abs(figures_M).max()), 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        t_P = np.where(none_P, 0.0, difference_P / np.sqrt(variance_P))
    p_MM = np.ones(above_MM.shape)
    p_MM[above_MM] = np.where(none_P, 1.0, 2 * stdtr(df_P, -t_P))
    # Of k images of n that differ, t^2 is at most k (n - 1) / (n - k), and the sum of squares k times the largest one
    n, square_P = sum(y.shape[1] for y in strata), np.minimum(t_P, 1e150) ** 2
    largest = max(float(np.ptp(y, axis=0).max()) for y in strata) ** 2 or 1.0
    least_MM = np.zeros(above_MM.shape)
    least_MM[above_MM] = np.floor(np.maximum(n * square_P / (max(n - 1, 1) + square_P), 0.5 * variance_P / largest))
    return no_smaller_than_signs(np.minimum(p_MM, p_MM.T), strata, least_MM)


def no_smaller_than_signs(p_MM: np.ndarray, strata: Sequence[np.ndarray], least_MM: np.ndarray) -> np.ndarray:
    """(M, M) p values, none below 2^(1 - k): what an exact test of signs can give where two rows differ on k images.

    `least_MM`: images on which two rows differ at least; k is counted where it may matter, and no further than ENOUGH.
    Both arrays are written to: of a thousand rows each is 8 MB.
    """
    floor_MM = np.exp2(np.subtract(1, least_MM, out=least_MM), out=least_MM)
    rows, others = np.nonzero(np.triu(p_MM < floor_MM, 1))
    for start in range(0, len(rows), PAIRS):
        one, other = rows[start : start + PAIRS], others[start : start + PAIRS]
        differ = _images_that_differ(strata, one, other)
        floor = np.where(differ > ENOUGH, 0.0, 2.0 ** (1 - np.maximum(differ, 1)))
        p_MM[one, other] = p_MM[other, one] = np.maximum(p_MM[one, other], floor)
    return p_MM


def _images_that_differ(strata: Sequence[np.ndarray], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(pairs,) on how many images rows `one` and `other` differ; where more than ENOUGH do, some number above it."""
    differ = np.zeros(len(one))
    for y_MN in strata:
        rounding = 1e-6 * float(np.abs(y_MN).max(initial=0))
        for start in range(0, y_MN.shape[1], AT_ONCE):
            few = np.flatnonzero(differ <= ENOUGH)
            if not few.size:
                return differ
            part_MN = y_MN[:, start : start + AT_ONCE]
            differ[few] += (np.abs(part_MN[one[few]] - part_MN[other[few]]) > rounding).sum(axis=1)
    return differ


def image_variance(strata: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(M, M) variances of the paired differences of figures, over the drawing of images, and degrees of freedom."""
    variance_MM = np.zeros((len(strata[0]), len(strata[0])))
    squares_MM = np.zeros_like(variance_MM)
    for y_MN in strata:
        m = y_MN.shape[1]
        part_MM = _difference_variance(y_MN) * m / max(m - 1, 1)
        variance_MM += part_MM
        squares_MM += part_MM**2 / max(m - 1, 1)
    most = max(sum(y_MN.shape[1] - 1 for y_MN in strata), 1)  # of rows that differ alike on every image
    with np.errstate(divide="ignore", invalid="ignore"):
        return variance_MM, np.where(squares_MM > 0, variance_MM**2 / squares_MM, most)


def _difference_variance(y_MN: np.ndarray) -> np.ndarray:
    """(M, M): sum over images of (d - mean d)^2, d the difference of two methods."""
    centred = y_MN - y_MN.mean(axis=1, keepdims=True, dtype=np.float64)
    gram = centred @ centred.T
    own = np.diag(gram)
    total = own[:, None] + own[None, :]
    squares = total - 2 * gram
    return np.where(squares > 1e-12 * total, squares, 0.0)  # below: rounding of two methods that agree
