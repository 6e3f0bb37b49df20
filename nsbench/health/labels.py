"""Labels in doubt: an accuracy on natural images that cannot be told from chance, and the order that would explain it.

A list of labels in another order than the model's (counted from one, sorted by name, numbered by a loader) gives the
accuracy of a guess, and nothing else looks wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nsbench.data import wnids
from nsbench.errors import ResultError
from nsbench.health.rows import Flag
from nsbench.results import ConditionResult, Result
from nsbench.results.reader import OutcomesReader
from nsbench.types import Outcomes

NATURAL = ("clean", "v2", "r", "sketch")  # splits of the data vocabulary whose images nobody chose or made to be hard
FEWEST = 20  # images that say something
ALPHA = 0.01  # of the binomial test against chance
EXPLAINED = 0.3  # share of images that another order must get right to be named, and several times chance
NAME = "labels in doubt"


@dataclass(frozen=True)
class Doubt:
    """About the labels of one condition."""

    condition: ConditionResult
    right: int
    n: int
    chance: float
    order: str  # that would explain it, in words; ""

    def words(self) -> str:
        explained = f" {self.order}" if self.order else ""
        return (
            f"{100 * self.right / self.n:.1f} % of {self.n:,} images of '{self.condition.split}' are right, no more than "
            f"by chance ({100 * self.chance:.2g} %): are the labels in another order than the model's?{explained}"
        )


def doubts(conditions: Sequence[ConditionResult], outcomes: Mapping[str, Outcomes]) -> list[Doubt]:
    """Of the natural, unattacked conditions."""
    return [doubt for one in _natural(conditions) if (doubt := _doubt(one, outcomes[one.name]))]


def label_flags(results: Sequence[Result], reader: OutcomesReader) -> Iterator[Flag]:
    """One for each result whose labels are in doubt, with what the same weights reach on another natural set."""
    known: list[tuple[Result, list[Doubt]]] = []
    for result in results:
        conditions = _natural(result.conditions)
        if not conditions:
            continue
        try:
            outcomes = reader.outcomes(result, [one.name for one in conditions], beside=False)
        except ResultError:  # the leaderboard names it
            continue
        known.append((result, doubts(conditions, outcomes)))
    trusted = [result for result, raised in known if not raised]
    for result, raised in known:
        for doubt in raised:
            beside = f" The same weights have {trusted[0].score.value:.1f} % on {trusted[0].title}." if trusted else ""
            yield Flag(NAME, (result.suite,), f"{result.title}: {doubt.words()}{beside}")


def _natural(conditions: Sequence[ConditionResult]) -> list[ConditionResult]:
    return [one for one in conditions if one.split in NATURAL and not one.attacked]


def _doubt(condition: ConditionResult, outcomes: Outcomes) -> Doubt | None:
    from scipy.special import bdtrc

    n, right = len(outcomes), int(outcomes.correct.sum())
    classes, labels = np.unique(outcomes.labels, return_counts=True)
    if n < FEWEST or len(classes) < 2:
        return None
    # A model that names other classes, too, is right less often by chance; one that names a single class proves nothing
    named = [np.count_nonzero(outcomes.predictions == one) for one in classes]
    chance = min(1 / len(classes), float(np.dot(labels, named)) / n**2)
    if right and bdtrc(right - 1, n, chance) <= ALPHA:  # so many or more by chance
        return None
    return Doubt(condition, right, n, chance, _order(outcomes.labels, outcomes.predictions, chance))


def _order(labels: np.ndarray, predictions: np.ndarray, chance: float) -> str:
    """What another order of the labels would get right, in words; "" where none explains the predictions."""
    least = max(EXPLAINED, 5 * chance)
    for shift, words in ((-1, "counted from one instead of zero"), (1, "one too low")):
        share = float(np.mean(predictions == labels + shift))
        if share >= least:
            return f"Labels {words} would explain {100 * share:.0f} %."
    names = wnids.names()
    if labels.max() < len(names):
        by_name = np.array(sorted(range(len(names)), key=lambda label: names[label].lower()))
        share = float(np.mean(predictions == by_name[labels]))
        if share >= least:
            return f"Labels in the order of the classes' names, not of their wnids, would explain {100 * share:.0f} %."
    likely = {int(one): int(np.bincount(predictions[labels == one]).argmax()) for one in np.unique(labels)}
    share = float(np.mean(predictions == np.array([likely[one] for one in labels.tolist()])))
    apart = len(set(likely.values())) / len(likely)
    if share >= least and apart >= 0.9 and len(labels) >= 3 * len(likely):
        return f"One and the same other class for each label would explain {100 * share:.0f} %."
    return ""
