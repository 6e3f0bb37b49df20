"""Health flags: signs that a row's adversarial figures flatter it, computed from stored outcomes.

The checks are those of Athalye et al. 2018 (arXiv:1802.00420, section 3.1) and Carlini et al. 2019 (arXiv:1902.06705,
section 5). An attack's kind is measured, not declared: transfer (never calls the model), black box (calls it without
gradients), single step (one gradient per image) and multi-step. Comparisons are on the same images (exact McNemar, or
Fisher's exact test where the image sets differ); one is flagged where the difference exceeds 0.5 percentage points
and p, by Holm over all comparisons of the row, is below 0.01. A flag is a reason to look, not a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from nsbench.data.source import TRANSFER
from nsbench.errors import ResultError
from nsbench.results import Result
from nsbench.statistics import difference_interval, discordant, holm, mcnemar_of_counts, wilson
from nsbench.types import Outcomes

ALPHA = 0.01  # of the comparisons of a row together
LEAST = 0.5  # percentage points that a comparison must differ by
FLAT = 1.0  # percentage points: a curve that falls by less, with confidence, does not fall
ROOM = 5.0  # percent: below this accuracy a curve has no room to fall
SPAN = 4.0  # least ratio of the largest to the smallest budget of a curve that ought to fall
ZERO_SHARE = 0.01  # of images whose gradient is exactly zero: float32 alone hardly gives any
CHANGED_SHARE = 0.001  # of predictions that may differ between two passes, by rounding in other batches
REPEAT_CHANGE = 0.01  # of the logits' standard deviation, between two passes of one batch
TRANSFER_SPLITS = {"damagenet": ("linf", 25.5 / 255)}  # sets that were attacked beforehand, and their budget

RowKey = tuple[str, str, str, int, str]  # source, model, method, seed, digest of the weights


@dataclass(frozen=True)
class Flag:
    """One sign of ill health of a row."""

    name: str  # "zero gradients", ...
    suites: tuple[str, ...]  # whose figures raise it
    sentence: str  # why, with the figures


@dataclass(frozen=True, eq=False)
class _Setting:
    """One condition of one result."""

    result: Result
    condition: Mapping[str, Any]
    outcomes: Outcomes
    reader: Reader

    @property
    def name(self) -> str:
        budget = f" at {self.condition['threat']}" if self.condition["threat"] else ""
        return f"{self.result.title}{budget}"

    @property
    def card(self) -> Mapping[str, Any]:
        return self.condition.get("attack_card") or {}

    @property
    def budget(self) -> tuple[str, float] | None:
        """(norm, largest norm of the change in [0, 1] pixel units), where there is one."""
        if self.condition["split"] in TRANSFER_SPLITS:
            return TRANSFER_SPLITS[self.condition["split"]]
        match = re.fullmatch(r"(linf|l2) ([0-9.e+-]+)(/255)?", str(self.condition["threat"]))
        return (match[1], float(match[2]) / (255 if match[3] else 1)) if match else None

    @property
    def size(self) -> float:
        return self.budget[1] if self.budget else 0.0

    @property
    def kind(self) -> str:
        """"clean", "transfer", "black box", "single step", "multi-step", or "" where it is not known."""
        if self.condition["attack"] is None:
            return "clean" if not _attacked(self.condition) else "" if _on_itself(self) else "transfer"
        if not self.card.get("images"):
            return ""
        if not self.card["backwards"]:
            return "black box" if self.card["forwards"] else "transfer"
        steps = self.card.get("steps", self.card["backwards"])
        return "single step" if steps * self.card.get("restarts", 1) <= 1 else "multi-step"

    @property
    def unattacked(self) -> np.ndarray | None:
        """Predictions on the images as they are, where they are known."""
        if self.condition["attack"] is None:
            return self.outcomes.predictions
        return self.outcomes.extra.get("predictions_clean")


@dataclass(frozen=True, eq=False)
class _Comparison:
    """`strong` should leave no more images right than `weak` does."""

    flag: str
    weak: _Setting
    strong: _Setting
    meaning: str

    def measure(self) -> tuple[float, float, str]:
        """How many percentage points `weak` is the stronger one by, p (two-sided), and the figures in words.

        Where it is not the stronger one by more than LEAST nothing is claimed, and p is 1.
        """
        weak, strong, n = _paired(self.weak, self.strong)
        if not n:
            weak, strong = self.weak.outcomes.correct, self.strong.outcomes.correct
        low, high = 100 * float(weak.mean()), 100 * float(strong.mean())
        if high - low <= LEAST:
            return high - low, 1.0, ""
        if n:
            only_strong, only_weak, _ = discordant(strong, weak)
            p, on = float(mcnemar_of_counts(only_strong, only_weak)), f"the same {n:,} images, exact McNemar"
        else:
            p = fisher_exact(int(weak.sum()), len(weak), int(strong.sum()), len(strong))
            on = f"{len(weak):,} and {len(strong):,} images, Fisher's exact test"
        return high - low, p, (f"{self.weak.name} leaves {low:.1f} % right and {self.strong.name} {high:.1f} % ({on}, "
                               f"p {_power(p)})")


class Reader(Protocol):
    """Where outcomes come from."""

    def outcomes(self, result: Result, names: Sequence[str]) -> Mapping[str, Outcomes]:
        """Of these conditions. Raises ResultError."""

    def common(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the ids that both arrays of ids hold."""


class Stored:
    """Outcomes as the results folder has them."""

    def outcomes(self, result: Result, names: Sequence[str]) -> Mapping[str, Outcomes]:
        return result.outcomes()

    def common(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return common_places(one, other)


def common_places(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in two arrays of ids of the images that both hold."""
    if one is other or np.array_equal(one, other):
        return (np.arange(len(one)),) * 2
    _, at_one, at_other = np.intersect1d(one, other, return_indices=True)
    return at_one, at_other


def flags_by_row(results: Iterable[Result], reader: Reader | None = None) -> dict[RowKey, list[Flag]]:
    """The flags of every row that has any; a row is what one method made of one model with one seed."""
    rows: dict[RowKey, list[Result]] = {}
    for one in results:
        digest = str(one.provenance.get("weights_digest", ""))
        rows.setdefault((one.source, one.model, one.method, one.seed, digest), []).append(one)
    return {key: found for key, mine in rows.items() if (found := flags(mine, reader))}


def flags(results: Sequence[Result], reader: Reader | None = None) -> list[Flag]:
    """The flags of one row, at most one of each name. A result whose outcomes cannot be read takes no part."""
    settings = [setting for one in results for setting in _settings(one, reader or Stored())]
    comparisons = [*_beaten(settings), *_above_clean(settings), *_rising(settings)]
    found = [*_significant(comparisons), *_flat(settings), *_zero_gradients(settings), *_restless(results, settings),
             *_probabilities(results), *_white_box(settings)]
    return list({flag.name: flag for flag in reversed(found)}.values())[::-1]


def _settings(result: Result, reader: Reader) -> list[_Setting]:
    """The conditions that say something about attacks: what was attacked, and the clean images beside it."""
    wanted = [one for one in result.conditions if one["split"] == "clean" or _attacked(one)]
    if not wanted:
        return []
    try:
        outcomes = reader.outcomes(result, [str(one["name"]) for one in wanted])
    except ResultError:  # the leaderboard names it
        return []
    return [_Setting(result, one, outcomes[str(one["name"])], reader) for one in wanted]


def _beaten(settings: Sequence[_Setting]) -> Iterator[_Comparison]:
    """Weaker kinds of attack against stronger ones of no smaller budget in the same norm."""
    kinds = {"single step": ("single-step beats multi-step", ("multi-step",), "many steps should find what one finds"),
             "transfer": ("transfer beats white-box", ("single step", "multi-step"),
                          "an attack that knows the model should find what a foreign one finds"),
             "black box": ("black-box beats white-box", ("single step", "multi-step"),
                           "gradients should help an attack")}
    for weak in settings:
        flag, stronger, meaning = kinds.get(weak.kind, ("", (), ""))
        for strong in settings:
            if strong.kind in stronger and weak.budget and strong.budget and weak.budget[0] == strong.budget[0] \
                    and weak.size <= strong.size * (1 + 1e-6):
                yield _Comparison(flag, weak, strong, f"{meaning}, so gradients may be masked")


def _above_clean(settings: Sequence[_Setting]) -> Iterator[_Comparison]:
    for clean in settings:
        if clean.kind == "clean":
            for attacked in settings:
                split = "clean" if attacked.condition["attack"] is None else attacked.condition["split"]
                if attacked.kind != "clean" and split == clean.condition["split"]:
                    yield _Comparison("robust accuracy above clean", clean, attacked,
                                      "an attack cannot help, so the images or labels of one of them are wrong")


def _curves(settings: Sequence[_Setting]) -> Iterator[list[_Setting]]:
    """Conditions of one result that differ in the budget alone, by rising budget."""
    groups: dict[tuple, list[_Setting]] = {}
    for one in settings:
        if one.condition["attack"] and one.budget:
            key = (id(one.result), one.condition["attack"], one.condition["split"], one.budget[0],
                   str(sorted(one.condition["params"].items())))
            groups.setdefault(key, []).append(one)
    for curve in groups.values():
        if len(curve) > 1:
            yield sorted(curve, key=lambda one: one.size)


def _rising(settings: Sequence[_Setting]) -> Iterator[_Comparison]:
    """Every step of a curve; of a single step, which may honestly overshoot (or may be one), only the two ends."""
    for curve in _curves(settings):
        single = any(one.kind in ("single step", "") for one in curve)
        for less, more in [(curve[0], curve[-1])] if single else pairwise(curve):
            yield _Comparison("curve does not fall", less, more,
                              "a larger budget contains the smaller one, so the attack does not use it")


def _significant(comparisons: Sequence[_Comparison]) -> Iterator[Flag]:
    """One flag per name, for its greatest difference, where the row's comparisons together allow it."""
    if not comparisons:
        return
    measured = [one.measure() for one in comparisons]
    adjusted = holm([p for _, p, _ in measured])
    found = [(points, one, text) for one, (points, _, text), p in zip(comparisons, measured, adjusted, strict=True)
             if points > LEAST and p < ALPHA]
    for name in dict.fromkeys(one.flag for _, one, _ in found):
        mine = sorted((each for each in found if each[1].flag == name), key=lambda each: -each[0])
        _, worst, text = mine[0]
        more = f", and {len(mine) - 1} more such pair(s)" if len(mine) > 1 else ""
        suites = dict.fromkeys(setting.result.suite for _, one, _ in mine for setting in (one.weak, one.strong))
        yield Flag(name, tuple(suites), f"{text}{more}: {worst.meaning}.")


def _flat(settings: Sequence[_Setting]) -> Iterator[Flag]:
    """A curve whose fall over a wide range of budgets is, with 99 % confidence, less than one percentage point."""
    for curve in _curves(settings):
        first, last = curve[0], curve[-1]
        ratio = last.size / max(first.size, 1e-9)
        less, more, n = _paired(first, last)
        if not n or ratio < SPAN:
            continue
        only_less, only_more, _ = discordant(less, more)
        _, fall = difference_interval(only_less, only_more, n, 0.99)
        if 100 * float(fall) < FLAT and 100 * wilson(int(more.sum()), n, 0.99)[0] > ROOM:
            yield Flag("curve does not fall", (first.result.suite,), (
                f"{first.name} leaves {100 * less.mean():.1f} % right and {last.name} {100 * more.mean():.1f} % (the "
                f"same {n:,} images; the fall is below {FLAT:g} point with 99 % confidence): a budget "
                f"{ratio:.3g} times as large should break more, so the attack does not work "
                "on this model."))


def _zero_gradients(settings: Sequence[_Setting]) -> Iterator[Flag]:
    for one in settings:
        zero, n = int(one.card.get("zero_gradients", 0)), int(one.card.get("looked_at", 0))
        if n and wilson(zero, n, 0.99)[0] > ZERO_SHARE:
            yield Flag("zero gradients", (one.result.suite,), (
                f"{one.name}: the loss has a gradient of exactly zero at {zero:,} of {n:,} images, so an attack that "
                f"follows gradients cannot start there (flagged above {100 * ZERO_SHARE:g} % with 99 % confidence)."))


def _restless(results: Sequence[Result], settings: Sequence[_Setting]) -> Iterator[Flag]:
    """Outputs that differ between passes of the same images."""
    for result in results:
        outputs = result.provenance.get("outputs") or {}
        if outputs.get("repeat_change", 0.0) > REPEAT_CHANGE:
            yield Flag("random outputs", (result.suite,), (
                f"{result.title}: two passes of the same {outputs['images']} images differ by "
                f"{100 * outputs['repeat_change']:.2g} % of the logits' standard deviation, so attacks follow one draw "
                f"and are judged on another (flagged above {100 * REPEAT_CHANGE:g} %)."))
    known = [(one, predictions) for one in settings if (predictions := one.unattacked) is not None]
    for (one, before), (other, again) in pairwise(known):
        same = all(one.condition[key] == other.condition[key] for key in ("data_digest", "preprocess"))
        if same and one.result is not other.result:
            at_one, at_other = _common(one, other)
            yield from _changed(before[at_one] != again[at_other], (one, other),
                                "the same unattacked images, evaluated twice")
    for one, before in known:
        if one.condition["attack"]:
            untouched = np.asarray(one.outcomes.extra["linf"]) == 0
            yield from _changed((one.outcomes.predictions != before)[untouched], (one,),
                                "images that the attack gave back unchanged, evaluated again")


def _changed(changed: np.ndarray, settings: Sequence[_Setting], what: str) -> Iterator[Flag]:
    if len(changed) and wilson(int(changed.sum()), len(changed), 0.99)[0] > CHANGED_SHARE:
        yield Flag("random outputs", tuple(dict.fromkeys(one.result.suite for one in settings)), (
            f"{' and '.join(one.name for one in settings)}: {int(changed.sum()):,} of {len(changed):,} predictions "
            f"differ on {what} (flagged above {100 * CHANGED_SHARE:g} % with 99 % confidence)."))


def _probabilities(results: Sequence[Result]) -> Iterator[Flag]:
    for result in results:
        outputs = result.provenance.get("outputs") or {}
        if outputs.get("probabilities"):
            yield Flag("softmax instead of logits", (result.suite,), (
                f"{result.title}: the outputs of the first {outputs['images']} images lie in [0, 1] and sum to 1; "
                "losses on probabilities have vanishing gradients, so let the model return logits."))


def _attacked(condition: Mapping[str, Any]) -> bool:
    """Here, or beforehand."""
    split = str(condition["split"])
    return bool(condition["attack"]) or split in TRANSFER_SPLITS or split.startswith(TRANSFER)


def _on_itself(one: _Setting) -> bool:
    """Whether a transfer set was made on the very weights that were judged."""
    digest = one.result.provenance.get("weights_digest")
    return str(one.condition["split"]).startswith(TRANSFER) and f"(weights {digest})" in str(one.condition["origin"])


def _white_box(settings: Sequence[_Setting]) -> Iterator[Flag]:
    for one in settings:
        if _on_itself(one):
            yield Flag("judged on its own transfer set", (one.result.suite,), (
                f"{one.name}: the images were {one.condition['origin']}, the very weights that are judged here, so the "
                "figure is that of a white-box attack and tells nothing about transfer."))


def _common(one: _Setting, other: _Setting) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images that both hold."""
    return one.reader.common(one.outcomes.ids, other.outcomes.ids)


def _paired(one: _Setting, other: _Setting) -> tuple[np.ndarray, np.ndarray, int]:
    """Right or wrong on the images that both hold, and how many these are."""
    at_one, at_other = _common(one, other)
    return one.outcomes.correct[at_one], other.outcomes.correct[at_other], len(at_one)


def fisher_exact(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Two-sided p value of "equal shares" (R. A. Fisher 1935): of all tables as likely as this one, or less so.

    scipy.stats has it too, and takes 2 ms.
    """
    from scipy.special import gammaln

    together = hits + other_hits
    x = np.arange(max(0, together - other_n), min(n, together) + 1)
    log = -(gammaln(x + 1) + gammaln(n - x + 1) + gammaln(together - x + 1) + gammaln(other_n - together + x + 1))
    share = np.exp(log - log.max())
    return min(1.0, float(share[log <= log[hits - x[0]] + 1e-7].sum() / share.sum()))


def _power(p: float) -> str:
    return "< 1e-6" if p < 1e-6 else f"= {p:.2g}"
