"""Errors under corruption: mCE, relative mCE, and the tables behind them (Hendrycks and Dietterich, ICLR 2019, 4.2).

For a classifier f, corruption c and severity s with top-1 error E, and AlexNet as the yardstick:
    CE(c) = sum_s E_f(c, s) / sum_s E_alexnet(c, s)                                        mCE = mean over c
    relative CE(c) = sum_s (E_f(c, s) - E_f(clean)) / sum_s (E_alexnet(c, s) - E_alexnet(clean))
Both are defined over all fifteen corruptions and five severities. A smaller run has a mean error, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nsbench.errors import DataError
from nsbench.statistics.accuracy import ALEXNET_ERROR, MCE_WEIGHTS, SEVERITIES
from nsbench.statistics.intervals import mean_interval
from nsbench.types import Composition, Outcomes, Score

ALEXNET_CLEAN_ERROR = 0.43478  # of torchvision's AlexNet on the clean validation set; the paper rounds to 43.5 %
FIFTEEN = tuple(ALEXNET_ERROR)
CONDITIONS = len(FIFTEEN) * len(SEVERITIES)


@dataclass(frozen=True)
class CorruptionErrors:
    """What a classifier got wrong under the corruptions that were evaluated, all on the same n images. In percent."""

    corruptions: tuple[str, ...]  # those evaluated, the fifteen first, in their usual order
    errors_CS: np.ndarray  # (corruptions, 5 severities); nan: not evaluated
    n: int
    clean_error: float | None  # of the same images without corruption
    mean_error: Score  # over the evaluated conditions (over the 75 where all of them are there)
    mce: Score | None  # None: not all 75 conditions are there
    relative_mce: Score | None  # None: not all 75, or no clean outcomes

    @property
    def complete(self) -> bool:
        """All fifteen corruptions at all five severities."""
        return self.mce is not None

    @property
    def conditions(self) -> list[str]:
        """Names of the conditions that were evaluated."""
        there_CS = np.isfinite(self.errors_CS)
        return [
            f"{corruption}/{severity}"
            for corruption, there_S in zip(self.corruptions, there_CS, strict=True)
            for severity, there in zip(SEVERITIES, there_S, strict=True)
            if there
        ]

    @property
    def label(self) -> str:
        """What the headline is: "mCE", or the mean error of a partial run."""
        return "mCE" if self.complete else f"mean error, partial: {self._of_the_fifteen()} of {CONDITIONS} conditions"

    def _of_the_fifteen(self) -> int:
        rows = [corruption in ALEXNET_ERROR for corruption in self.corruptions]
        return int(np.isfinite(self.errors_CS[rows]).sum())

    @property
    def headline(self) -> Score:
        """mCE where it exists, else the mean error; `label` says which. Figures of the other kinds stand in `extra`."""
        extra = {"mean error": self.mean_error.value}
        if self.relative_mce is not None:
            extra["relative mCE"] = self.relative_mce.value
        if self.clean_error is not None:
            extra["clean error"] = self.clean_error
        extra |= _named(self.corruptions, self.errors_CS, self.complete)
        if self.mce is None:
            extra |= {"partial": 1.0, "conditions": float(len(self.conditions))}
        score = self.mce or self.mean_error
        return Score(score.value, score.low, score.high, score.n, extra, self.made_of)

    @property
    def made_of(self) -> Composition:
        """Of what the headline is the mean: the fifteen at AlexNet's weights, or all conditions alike."""
        if self.complete:
            return Composition(MCE_WEIGHTS, "wrong")
        return Composition(dict.fromkeys(self.conditions, 100 / len(self.conditions)), "wrong")

    @property
    def per_corruption(self) -> dict[str, float]:
        """Mean error over the evaluated severities of each corruption."""
        return _by_corruption(self.corruptions, self.errors_CS)

    @property
    def per_severity(self) -> dict[int, float]:
        """Mean error over the corruptions that were evaluated at each severity; of the fifteen alone if complete."""
        return _by_severity(self.errors_CS, self.complete)

    @property
    def corruption_error(self) -> dict[str, float]:
        """CE of each of the fifteen corruptions that has all five severities: 100 is AlexNet."""
        return {
            name: float(row.mean()) / ALEXNET_ERROR[name]
            for name, row in zip(self.corruptions, self.errors_CS, strict=True)
            if name in ALEXNET_ERROR and np.isfinite(row).all()
        }

    def lines(self) -> list[str]:
        """A table for people: error at each severity, mean, CE; the headline below."""
        rows = [f"{'':18}" + "".join(f"{s:>7}" for s in SEVERITIES) + f"{'mean':>8}{'CE':>8}"]
        for name, errors in zip(self.corruptions, self.errors_CS, strict=True):
            ce = self.corruption_error.get(name)
            cells = "".join(_cell(error, 7) for error in errors)
            rows.append(f"{name:18}{cells}{_cell(self.per_corruption[name], 8)}{_cell(ce, 8)}")
        means = "".join(_cell(self.per_severity.get(s), 7) for s in SEVERITIES)
        rows.append(f"{'mean':18}{means}{_cell(self.mean_error.value, 8)}")
        score = self.headline
        rows.append(f"{self.label}: {score.value:.2f} [{score.low:.2f}, {score.high:.2f}], {self.n} images")
        if self.relative_mce is not None:
            relative = self.relative_mce
            rows.append(f"relative mCE: {relative.value:.2f} [{relative.low:.2f}, {relative.high:.2f}]")
        return rows


def _cell(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None or not np.isfinite(value) else f"{value:>{width}.1f}"


def corruption_errors(outcomes: Mapping[str, Outcomes], clean: Outcomes | None = None) -> CorruptionErrors:
    """Everything about the conditions "<corruption>/<severity>", any number of them, all on the same images.

    `clean`: outcomes of the same images, or of more, without corruption, for the relative mCE. Raises DataError for
    another condition's name, conditions on different images, or none.
    """
    names = _ordered(outcomes)
    first, order = names[0], np.argsort(outcomes[names[0]].ids)
    ids, labels = outcomes[first].ids[order], outcomes[first].labels[order]
    if not len(ids):
        raise DataError(f"corruption errors: {first} holds no images; look at its split of the data source")
    wrong = {name: _wrong(name, outcomes[name], ids, labels, first) for name in names}
    corruptions, errors_CS = _grid(names, {name: 100 * float(flags.mean()) for name, flags in wrong.items()})
    needed = [f"{c}/{s}" for c in FIFTEEN for s in SEVERITIES]
    complete = all(name in wrong for name in needed)
    mean_N = np.array([wrong[name] for name in (needed if complete else names)]).mean(axis=0)
    clean_N = None if clean is None else _clean_wrong(clean, ids, labels)
    mce = relative = None
    if complete:
        error_CN = np.array([np.mean([wrong[f"{c}/{s}"] for s in SEVERITIES], axis=0) for c in FIFTEEN])
        alexnet_C1 = np.array(list(ALEXNET_ERROR.values()))[:, None]
        # All of these figures are means over images of one number per image, so one bootstrap serves 75 conditions.
        mce = _score((error_CN / alexnet_C1).mean(axis=0), 0, (1 / alexnet_C1).mean())
        if clean_N is not None:
            beyond_C1 = alexnet_C1 - ALEXNET_CLEAN_ERROR
            most = (1 / beyond_C1).mean()
            relative = _score(((error_CN - clean_N) / beyond_C1).mean(axis=0), -most, most)
    clean_error = None if clean_N is None else 100 * float(clean_N.mean())
    return CorruptionErrors(corruptions, errors_CS, len(ids), clean_error, _score(mean_N, 0, 1), mce, relative)


def mean_corruption_error(outcomes: Mapping[str, Outcomes]) -> Score:
    """mCE x 100 of all 15 x 5 conditions "<corruption>/<severity>"; lower is better, AlexNet has 100.

    A further condition "clean" on the same images adds the relative mCE. extra: "mean error", "relative mCE",
    "error <corruption>", "error severity <severity>", in percent. Raises DataError, naming what is missing, unless
    all 75 are there on the same images: a part of them is no mCE (see `corruption_errors`).
    """
    missing = [f"{c}/{s}" for c in FIFTEEN for s in SEVERITIES if f"{c}/{s}" not in outcomes]
    if missing:
        raise DataError(
            f"mCE needs all {CONDITIONS} corruptions x severities; {len(missing)} missing: {_shorten(missing)}"
        )
    corrupted = {name: found for name, found in outcomes.items() if name != "clean"}
    return corruption_errors(corrupted, outcomes.get("clean")).headline


def errors_beside(errors: Mapping[str, float]) -> dict[str, float]:
    """The figures that stand beside a corruption error, from the errors in percent of its conditions alone.

    {} unless conditions are called "<corruption>/<severity>", but for "clean". Of all 75 the fifteen count, else all.
    """
    clean = errors.get("clean")
    mine = {name: error for name, error in errors.items() if name != "clean"}
    try:
        names = _ordered(mine)
    except DataError:
        return {}
    complete = MCE_WEIGHTS.keys() <= mine.keys()
    found = {"mean error": _mean(mine[name] for name in (MCE_WEIGHTS if complete else names))}
    found |= _named(*_grid(names, mine), complete)
    if clean is not None:
        found["clean error"] = clean
        if complete:
            found["relative mCE"] = relative_mce(mine, clean)
    return found


def _grid(names: Sequence[str], errors: Mapping[str, float]) -> tuple[tuple[str, ...], np.ndarray]:
    """The corruptions of conditions in their order, and (corruptions, 5 severities) errors; nan: not evaluated."""
    corruptions = tuple(dict.fromkeys(name.rpartition("/")[0] for name in names))
    return corruptions, np.array([[errors.get(f"{c}/{s}", np.nan) for s in SEVERITIES] for c in corruptions])


def _named(corruptions: Sequence[str], errors_CS: np.ndarray, complete: bool) -> dict[str, float]:
    """The means as they stand beside a score: "error <corruption>", "error severity <severity>"."""
    found = {f"error {name}": error for name, error in _by_corruption(corruptions, errors_CS).items()}
    return found | {f"error severity {s}": error for s, error in _by_severity(errors_CS, complete).items()}


def _by_corruption(corruptions: Sequence[str], errors_CS: np.ndarray) -> dict[str, float]:
    return {name: _mean_of_finite(row) for name, row in zip(corruptions, errors_CS, strict=True)}


def _by_severity(errors_CS: np.ndarray, complete: bool) -> dict[int, float]:
    rows = errors_CS[: len(FIFTEEN)] if complete else errors_CS
    return {
        s: _mean_of_finite(column) for s, column in zip(SEVERITIES, rows.T, strict=True) if np.isfinite(column).any()
    }


def relative_mce(errors: Mapping[str, float], clean: float) -> float:
    """In percent, from errors in percent of all 75 conditions and of the same images without corruption.

    Hendrycks & Dietterich's, section 4.2, with AlexNet's errors of all severities together.
    """
    return 100 * _mean(
        (_mean(errors[f"{c}/{s}"] for s in SEVERITIES) - clean) / (100 * (alexnet - ALEXNET_CLEAN_ERROR))
        for c, alexnet in ALEXNET_ERROR.items()
    )


def _mean_of_finite(values: np.ndarray) -> float:
    """np.nanmean, which takes ten times as long where nothing is missing."""
    mean = float(np.add.reduce(values)) / len(values)
    return mean if np.isfinite(mean) else float(np.nanmean(values))


def _mean(values: Iterable[float]) -> float:
    mine = np.array(list(values))
    return float(np.add.reduce(mine)) / len(mine)


def partial_corruption_error(outcomes: Mapping[str, Outcomes]) -> Score:
    """Mean error in percent over a part of the conditions: for small runs. It is no mCE and is never shown as one."""
    found = corruption_errors(outcomes)
    return Score(
        found.mean_error.value,
        found.mean_error.low,
        found.mean_error.high,
        found.mean_error.n,
        {name: value for name, value in found.headline.extra.items() if name.startswith("error ")},
        Composition(dict.fromkeys(found.conditions, 100 / len(found.conditions)), "wrong"),
    )


def _ordered(conditions: Iterable[str]) -> list[str]:
    """Names of the conditions, the fifteen first. Raises DataError for what is no corruption and severity."""
    return list(_order(tuple(conditions)))


@lru_cache(maxsize=64)
def _order(conditions: tuple[str, ...]) -> tuple[str, ...]:
    """The same; a board has thousands of results of the same conditions."""
    if not conditions:
        raise DataError("corruption errors: no condition was evaluated; choose at least one corruption and severity")
    for name in conditions:
        corruption, _, severity = name.rpartition("/")
        if not corruption or severity not in map(str, SEVERITIES):
            raise DataError(f"corruption errors: condition '{name}' is not <corruption>/<severity 1 to 5>")

    def place(name: str) -> tuple[int, str, str]:
        corruption, _, severity = name.rpartition("/")
        return FIFTEEN.index(corruption) if corruption in ALEXNET_ERROR else len(FIFTEEN), corruption, severity

    return tuple(sorted(conditions, key=place))


def _wrong(name: str, outcomes: Outcomes, ids: np.ndarray, labels: np.ndarray, first: str) -> np.ndarray:
    """(n,) bool in the order of the sorted `ids`."""
    order = np.argsort(outcomes.ids)
    if not np.array_equal(outcomes.ids[order], ids):
        raise DataError(
            f"corruption errors need the same images in every condition; {name} has others than {first} "
            f"({len(order)} and {len(ids)} images), such as {_differing(outcomes.ids, ids)}; is the data set half copied?"
        )
    if (relabelled := outcomes.labels[order] != labels).any():
        raise DataError(
            f"corruption errors need the same images in every condition; {ids[relabelled][0]} has another label in {name} "
            f"than in {first}; are its labels numbered otherwise?"
        )
    return ~outcomes.correct[order]


def _differing(ids: np.ndarray, others: np.ndarray) -> str:
    """An image that only one of two holds."""
    return str(np.setxor1d(ids, others)[0])


def _clean_wrong(clean: Outcomes, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) bool: the corrupted images without corruption."""
    places = {image_id: place for place, image_id in enumerate(clean.ids.tolist())}
    if absent := [image_id for image_id in ids.tolist() if image_id not in places]:
        raise DataError(
            f"relative mCE needs the clean outcomes of the corrupted images; {len(absent)} of {len(ids)} "
            f"are missing, such as {absent[0]}"
        )
    found = np.array([places[image_id] for image_id in ids.tolist()])
    if (relabelled := clean.labels[found] != labels).any():
        raise DataError(
            f"relative mCE needs the clean outcomes of the corrupted images; {ids[relabelled][0]} has another label among "
            "the clean ones; are its labels numbered otherwise?"
        )
    wrong: np.ndarray = ~clean.correct[found]
    return wrong


def _score(contribution_N: np.ndarray, least: float, most: float) -> Score:
    """100 x the mean of one number per image, between `least` and `most`."""
    values = 100 * contribution_N.astype(np.float64)
    low, high = mean_interval(values, 100 * least, 100 * most)
    return Score(float(values.mean()), low, high, values.size)


def _shorten(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
