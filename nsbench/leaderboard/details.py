"""What stands behind single cells, read only for the rows and suites that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nsbench.errors import ResultError
from nsbench.leaderboard.outcomes import ImageSet
from nsbench.leaderboard.records import Row, Table
from nsbench.results import ConditionResult, Result
from nsbench.statistics import MCE_WEIGHTS
from nsbench.statistics.calibration import Bin, reliability
from nsbench.statistics.corruption_error import relative_mce

NOTHING = np.zeros(0)


@dataclass
class Details:
    """Of one table. Where outcomes are absent or cannot be read there is nothing: the table says which these are."""

    table: Table
    _places: dict[tuple[int, int], np.ndarray | None] = field(default_factory=dict)  # by id() of two sets of images

    def breaking_norms(self, row: Row, suite: str) -> np.ndarray:
        """(k,) l2 norms, [0, 1] pixel units, of the changes that broke images, where the attack was free to choose them.

        Of the first seed and condition: the images that were right before the attack and are wrong after it.
        """
        result = row.cells[suite].results[0]
        condition = result.conditions[0]
        if self.table.evidence is None or condition.attack is None or not _free(condition):
            return NOTHING
        try:
            outcomes = self.table.evidence.reader.outcomes(result, [condition.name])[condition.name]
        except ResultError:
            return NOTHING
        before, l2 = outcomes.extra.get("predictions_clean"), outcomes.extra.get("l2")
        if before is None or l2 is None:
            return NOTHING
        broken: np.ndarray = l2[(before == outcomes.labels) & ~outcomes.correct]
        return broken

    def reliability(self, row: Row, suite: str) -> tuple[list[Bin], int]:
        """Accuracy over confidence on a suite of one condition, the images of all seeds together; how many seeds.

        Nothing where the cell cannot be compared, or where the results of any seed hold no probabilities.
        """
        cell = row.cells.get(suite)
        if cell is None or not cell.comparable or self.table.evidence is None:
            return [], 0
        found = []
        for result in cell.results:
            try:
                (outcomes,) = self.table.evidence.reader.outcomes(result, [result.conditions[0].name]).values()
            except ResultError:
                return [], 0
            if outcomes.confidence is None or len(result.conditions) > 1:
                return [], 0
            found.append((outcomes.confidence, outcomes.correct))
        confidence, correct = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return reliability(confidence, correct), len(found)

    def relative_mce(self, row: Row, suite: str) -> float | None:
        """Relative mCE in percent, mean over seeds: the figure of `corruption_error.corruption_errors`.

        None unless all 75 conditions are there, and clean outcomes of the same weights on all their images.
        """
        clean = {one.seed: one for one in sorted(row.results, key=lambda one: one.paper) if _plain(one)}
        values = [self._relative(result, clean.get(result.seed)) for result in row.cells[suite].results]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def _relative(self, corrupted: Result, clean: Result | None) -> float | None:
        accuracy = {one.name: one.accuracy for one in corrupted.conditions}
        if clean is None or clean.provenance.weights_digest != corrupted.provenance.weights_digest:
            return None
        if not MCE_WEIGHTS.keys() <= accuracy.keys():
            return None
        clean_error = self._error_on_the_same(corrupted, clean)
        if clean_error is None:
            return None
        return relative_mce({name: 100 - one for name, one in accuracy.items()}, 100 * clean_error)

    def _error_on_the_same(self, corrupted: Result, clean: Result) -> float | None:
        """Share of the corrupted images that are wrong without corruption."""
        if self.table.evidence is None:
            return None
        one, two = (self.table.evidence.reader.per_image(result) for result in (corrupted, clean))
        if isinstance(one, str) or isinstance(two, str) or not two.accuracy:
            return None
        places = self._in(one.images, two.images)
        return None if places is None else 1 - float(two.values[places].mean()) / 100

    def _in(self, images: ImageSet, others: ImageSet) -> np.ndarray | None:
        """Positions of `images` in `others`; None where one is not there."""
        key = id(images), id(others)
        if key not in self._places:
            places = {image_id: place for place, image_id in enumerate(others.ids.tolist())}
            found = np.array([places.get(one, -1) for one in images.ids.tolist()])
            same = found.min(initial=0) >= 0 and np.array_equal(others.labels[found], images.labels)
            self._places[key] = found if same else None
        return self._places[key]


def corruption_errors(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Errors in percent, corruption -> severity, in their order; mean over these results, one for each seed.

    {} unless all conditions, more than one, are on splits c/<corruption>/<severity>. Corruptions are in the order of
    the conditions.
    """
    errors: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for condition in result.conditions:
            kind, *which = condition.split.split("/")
            if kind != "c" or len(which) != 2 or len(result.conditions) < 2:
                return {}
            corruption, severity = which
            errors.setdefault(corruption, {}).setdefault(severity, []).append(100 - condition.accuracy)
    return {
        name: {severity: sum(mine[severity]) / len(mine[severity]) for severity in sorted(mine)}
        for name, mine in errors.items()
    }


def _free(condition: ConditionResult) -> bool:
    """The attack chose how far it goes: any distance, or all of a patch."""
    threat = condition.threat
    return threat is not None and (threat.norm == "patch" or (threat.norm == "l2" and threat.eps is None))


def _plain(result: Result) -> bool:
    """One condition: the clean split as the checkpoint prepares it, not attacked."""
    first, *others = result.conditions
    as_usual = first.split == "clean" and first.preprocess == "checkpoint"
    return result.group == "clean" and not others and as_usual and not first.attacked
