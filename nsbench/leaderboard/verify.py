"""Whether a stored result's figures are those that its outcomes give. What a board cannot verify it does not compare.

Worked out again when a file is read, without the suite's code: each condition's images and accuracy, the score by its
composition, its interval, and the figures beside it that `statistics.accuracy` and the corruption errors give. Not
verified are the score and the interval of a suite that does not say what its score is made of, and figures of a suite's
own that stand beside it. Results that were never stored have no outcomes file, and nothing to be verified by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from nsbench.errors import DataError, ResultError
from nsbench.leaderboard.outcomes import NOT_MADE_OF, TOLERANCE, PerImage, Reader
from nsbench.results import Result
from nsbench.statistics import bootstrap_mean, mean_interval, wilson
from nsbench.statistics.accuracy import beside_accuracy
from nsbench.statistics.corruption_error import errors_beside

DRAWN = 0.02  # of an interval's width, where the bootstrap's draws are the same but for rounding
ROOM = 0.1  # of an interval's width: draws of a bootstrap, and their number, may differ between versions
ROOM_OF_FEW = 0.35  # the same where a bootstrap is over fewer than FEW images, which it follows image by image
FEW = 100
ROUNDED = 1e-3  # percentage points: accuracies of conditions are stored to four decimals


def problem(result: Result, reader: Reader) -> str:
    """Why a result's figures are not those of its outcomes, in one line; "" where they are."""
    if result.path is None:
        return ""
    try:
        return next(_differences(result, reader), "")
    except (ResultError, DataError) as error:
        return str(error)


def _differences(result: Result, reader: Reader) -> Iterator[str]:
    yield from _conditions(result, reader)
    one = reader.per_image(result)
    if isinstance(one, PerImage):
        yield from _score(result, one)
        yield from _extra(result, reader)
    elif one != NOT_MADE_OF:
        yield one


def _conditions(result: Result, reader: Reader) -> Iterator[str]:
    reader.rows(result, beside=_looks_beside(result))  # what is asked for later is read with it
    right: dict[str, tuple[int, int]] = {}
    for one in reader.right(result):
        hits = np.count_nonzero(one.right_CN, axis=1).tolist()
        right |= {name: (each, len(one.images.ids)) for name, each in zip(one.conditions, hits, strict=True)}
    for condition in result.conditions:
        hit, n = right[condition.name]
        if condition.n != n:
            yield f"condition {condition.name}: says n = {condition.n:,}, and its outcomes have {n:,}"
        if abs(condition.accuracy - 100 * hit / n) > ROUNDED:
            found = f"its outcomes give {100 * hit / n:.4f}"
            yield f"condition {condition.name}: says accuracy {condition.accuracy:.4f}, and {found}"


def _looks_beside(result: Result) -> bool:
    """Whether more than predictions is asked of its file: by `_expected`, or by the health flags of attacks."""
    made_of = result.score.made_of
    return (made_of is not None and made_of.is_accuracy) or any(one.attacked for one in result.conditions)


def _score(result: Result, one: PerImage) -> Iterator[str]:
    score, n = result.score, len(one.images.ids)
    if score.n != n:
        yield f"says n = {score.n:,}, and its outcomes have {n:,}"
    for interval in (_wilson, _expanded, _alike, _bootstrapped):  # the quickest first
        if found := interval(result, one):
            low, high, room = found
            if max(abs(score.low - low), abs(score.high - high)) <= room:
                return
    yield f"says the interval {score.low:.4f} to {score.high:.4f}, and its outcomes give {low:.4f} to {high:.4f}"


# Low, high and what a stated end may be away, by each way to make an interval; None where it is none for this score


def _wilson(result: Result, one: PerImage) -> tuple[float, float, float] | None:
    """Of the accuracy of one condition."""
    made_of, n = result.score.made_of, len(one.values)
    if made_of is None or not made_of.is_accuracy:
        return None
    (weight,) = [weight for weight in made_of.weights.values() if weight]
    low, high = wilson(int(np.count_nonzero(one.values)), n)
    return weight * low, weight * high, TOLERANCE * max(1.0, abs(weight) / 100)


def _expanded(result: Result, one: PerImage) -> tuple[float, float, float] | None:
    """About what a bootstrap over images gives, for thousands of results at once: the normal interval with the shift of
    its ends by the skewness (P. Hall 1992, The Bootstrap and Edgeworth Expansion, section 3.5)."""
    if one.accuracy:
        return None
    values, n = one.values.astype(np.float64), len(one.values)
    centred = values - values.mean()
    error = float(np.sqrt(np.mean(centred**2) / n))
    skewness = float(np.mean(centred * centred * centred) / np.mean(centred**2) ** 1.5) if error > 0 else 0.0
    shift = error * skewness * (1.96**2 - 1) / (6 * n**0.5)
    low, high = values.mean() - 1.96 * error + shift, values.mean() + 1.96 * error + shift
    return low, high, max(_rounding(values), (ROOM if n >= FEW else ROOM_OF_FEW) * (high - low))


def _bootstrapped(result: Result, one: PerImage) -> tuple[float, float, float] | None:
    """The bootstrap itself: where a few images weigh more than all others, no expansion follows it."""
    if one.accuracy:
        return None
    values = one.values.astype(np.float64)
    low, high = bootstrap_mean(values)
    return low, high, max(_rounding(values), DRAWN * (high - low))


def _alike(result: Result, one: PerImage) -> tuple[float, float, float] | None:
    """Where no image differs from another one; a bootstrap, which until 2026-12-01 was asked there too, has no width."""
    values, made_of = one.values.astype(np.float64), result.score.made_of
    if one.accuracy or made_of is None or np.ptp(values) > _rounding(values):
        return None
    low, high = mean_interval(np.full(len(values), values.mean()), *made_of.bounds)
    return low, high, _rounding(values)


def _rounding(values: np.ndarray) -> float:
    """Values per image are held in single precision."""
    return max(TOLERANCE, 1e-6 * float(np.abs(values).max()))


def _extra(result: Result, reader: Reader) -> Iterator[str]:
    """Differences in the figures beside the score that the standard functions give."""
    expected = _expected(result, reader)
    for name, value in result.score.extra.items():
        if name in expected and abs(value - expected[name]) > ROUNDED:
            yield f"says {name} is {value:.4f}, and its outcomes give {expected[name]:.4f}"


def _expected(result: Result, reader: Reader) -> Mapping[str, float]:
    """By name, as far as a standard function gives them for what the score is made of."""
    made_of = result.score.made_of
    if made_of is None or not result.score.extra:
        return {}
    first, *others = result.conditions
    if made_of.is_accuracy and made_of.weights.get(first.name):
        further = {f"accuracy {one.name}": one.accuracy for one in others}
        return beside_accuracy(reader.outcomes(result, [first.name])[first.name]) | further
    if made_of.counts == "wrong":
        return errors_beside({one.name: 100 - one.accuracy for one in result.conditions})
    return {}
