"""Flags of two conditions of which the stronger one leaves more images right; a row's are tested together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nsbench.health.rows import UNATTACKED_SPLIT, Flag, Setting, curves, paired
from nsbench.statistics import discordant, holm, mcnemar_of_counts

ALPHA = 0.01  # of the comparisons of a row together
LEAST = 0.5  # percentage points that a comparison must differ by


def compared_flags(settings: Sequence[Setting]) -> Iterator[Flag]:
    """One flag per name, for its greatest difference, where the row's comparisons together allow it."""
    comparisons = [*_beaten(settings), *_above_clean(settings), *_rising(settings)]
    if not comparisons:
        return
    measured = [one.measure() for one in comparisons]
    adjusted = holm([p for _, p, _ in measured])
    failed = [
        (points, one, text)
        for one, (points, _, text), p in zip(comparisons, measured, adjusted, strict=True)
        if points > LEAST and p < ALPHA
    ]
    for name in dict.fromkeys(one.flag for _, one, _ in failed):
        mine = sorted((each for each in failed if each[1].flag == name), key=lambda each: -each[0])
        _, worst, text = mine[0]
        more = f", and {len(mine) - 1} more such pair(s)" if len(mine) > 1 else ""
        suites = dict.fromkeys(setting.result.suite for _, one, _ in mine for setting in (one.weak, one.strong))
        yield Flag(name, tuple(suites), f"{text}{more}: {worst.meaning}.")


@dataclass(frozen=True, eq=False)
class Expectation:
    """`strong` should leave no more images right than `weak` does."""

    flag: str
    weak: Setting
    strong: Setting
    meaning: str

    def measure(self) -> tuple[float, float, str]:
        """How many percentage points `weak` is the stronger one by, p (two-sided), and the figures in words.

        Where it is not the stronger one by more than LEAST nothing is claimed, and p is 1.
        """
        weak, strong, n = paired(self.weak, self.strong)
        if not n:
            weak, strong = self.weak.right, self.strong.right
        low, high = (100 * (np.count_nonzero(right) / len(right)) for right in (weak, strong))
        if high - low <= LEAST:
            return high - low, 1.0, ""
        if n:
            only_strong, only_weak, _ = discordant(strong, weak)
            p, on = float(mcnemar_of_counts(only_strong, only_weak)), f"the same {n:,} images, exact McNemar"
        else:
            p = fisher_exact(int(weak.sum()), len(weak), int(strong.sum()), len(strong))
            on = f"{len(weak):,} and {len(strong):,} images, Fisher's exact test"
        return (
            high - low,
            p,
            (f"{self.weak.name} leaves {low:.1f} % right and {self.strong.name} {high:.1f} % ({on}, p {_power(p)})"),
        )


def _beaten(settings: Sequence[Setting]) -> Iterator[Expectation]:
    """Weaker kinds of attack against stronger ones of no smaller budget in the same norm."""
    kinds = {
        "single step": ("single-step beats multi-step", ("multi-step",), "many steps should find what one finds"),
        "transfer": (
            "transfer beats white-box",
            ("single step", "multi-step"),
            "an attack that knows the model should find what a foreign one finds",
        ),
        "black box": ("black-box beats white-box", ("single step", "multi-step"), "gradients should help an attack"),
    }
    for weak in settings:
        flag, stronger, meaning = kinds.get(weak.kind, ("", (), ""))
        for strong in settings:
            if (
                strong.kind in stronger
                and weak.budget
                and strong.budget
                and weak.budget[0] == strong.budget[0]
                and weak.size <= strong.size * (1 + 1e-6)
            ):
                yield Expectation(flag, weak, strong, f"{meaning}, so gradients may be masked")


def _above_clean(settings: Sequence[Setting]) -> Iterator[Expectation]:
    for clean in settings:
        if clean.kind == "unattacked":
            for attacked in settings:
                split = UNATTACKED_SPLIT if attacked.condition.attack is None else attacked.condition.split
                if attacked.kind != "unattacked" and split == clean.condition.split:
                    yield Expectation(
                        "robust accuracy above clean",
                        clean,
                        attacked,
                        "an attack cannot help, so the images or labels of one of them are wrong",
                    )


def _rising(settings: Sequence[Setting]) -> Iterator[Expectation]:
    """Every step of a curve; of a single step, which may honestly overshoot (or may be one), only the two ends."""
    for curve in curves(settings):
        single = any(one.kind in ("single step", "") for one in curve)
        for less, more in [(curve[0], curve[-1])] if single else pairwise(curve):
            yield Expectation(
                "curve does not fall",
                less,
                more,
                "a larger budget contains the smaller one, so the attack does not use it",
            )


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
