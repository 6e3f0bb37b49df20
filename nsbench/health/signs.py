"""Flags that are each judged alone: flat curves, zero gradients, random outputs, probabilities, own transfer sets,
attacks that fail though nothing bounds them, and attacks that stopped too early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from nsbench.health.rows import NORMS, Flag, Setting, common, curves, paired
from nsbench.results import Result
from nsbench.statistics import difference_interval, discordant, wilson

FLAT = 1.0  # percentage points: a curve that falls by less, with confidence, does not fall
ROOM = 5.0  # percent: below this accuracy a curve has no room to fall
SPAN = 4.0  # least ratio of the largest to the smallest budget of a curve that ought to fall
ZERO_SHARE = 0.01  # of images whose gradient is exactly zero: float32 alone hardly gives any
CHANGED_SHARE = 0.001  # of predictions that may differ between two passes, by rounding in other batches
REACH_SHARE = 0.01  # of images that an attack was about to break when its iterations ended
REPEAT_CHANGE = 0.01  # of the logits' standard deviation, between two passes of one batch


def single_flags(results: Sequence[Result], settings: Sequence[Setting]) -> Iterator[Flag]:
    """What the rules below find, in their order; of flags of one name the caller keeps the first."""
    yield from _flat(settings)
    yield from _zero_gradients(settings)
    yield from _restless(results, settings)
    yield from _probabilities(results)
    yield from _white_box(settings)
    yield from _without_bound(settings)
    yield from _stopped_early(settings)


def _flat(settings: Sequence[Setting]) -> Iterator[Flag]:
    """A curve whose fall over a wide range of budgets is, with 99 % confidence, less than one percentage point."""
    for curve in curves(settings):
        first, last = curve[0], curve[-1]
        ratio = last.size / max(first.size, 1e-9)
        less, more, n = paired(first, last)
        if not n or ratio < SPAN:
            continue
        only_less, only_more, _ = discordant(less, more)
        _, fall = difference_interval(only_less, only_more, n, 0.99)
        if 100 * float(fall) < FLAT and 100 * wilson(int(more.sum()), n, 0.99)[0] > ROOM:
            yield Flag(
                "curve does not fall",
                (first.result.suite,),
                (
                    f"{first.name} leaves {100 * less.mean():.1f} % right and {last.name} {100 * more.mean():.1f} % (the "
                    f"same {n:,} images; the fall is below {FLAT:g} point with 99 % confidence): a budget "
                    f"{ratio:.3g} times as large should break more, so the attack does not work "
                    "on this model."
                ),
            )


def _zero_gradients(settings: Sequence[Setting]) -> Iterator[Flag]:
    for one in settings:
        zero, n = (one.card.zero_gradients, one.card.looked_at) if one.card else (0, 0)
        if n and wilson(zero, n, 0.99)[0] > ZERO_SHARE:
            yield Flag(
                "zero gradients",
                (one.result.suite,),
                (
                    f"{one.name}: the loss has a gradient of exactly zero at {zero:,} of {n:,} images, so an attack that "
                    f"follows gradients cannot start there (flagged above {100 * ZERO_SHARE:g} % with 99 % confidence)."
                ),
            )


def _restless(results: Sequence[Result], settings: Sequence[Setting]) -> Iterator[Flag]:
    """Outputs that differ between passes of the same images."""
    for result in results:
        outputs = result.provenance.outputs
        if outputs and outputs.repeat_change > REPEAT_CHANGE:
            yield Flag(
                "random outputs",
                (result.suite,),
                (
                    f"{result.title}: two passes of the same {outputs.images} images differ by "
                    f"{100 * outputs.repeat_change:.2g} % of the logits' standard deviation, so attacks follow "
                    f"{_passes(result)} and are judged on another (flagged above {100 * REPEAT_CHANGE:g} %)."
                ),
            )
    known = [(one, predictions) for one in settings if (predictions := one.unattacked) is not None]
    known.sort(key=lambda each: (_images_of(each[0]), each[0].result.suite, each[0].condition.name))
    for (one, before), (other, again) in pairwise(known):
        if _images_of(one) == _images_of(other) and one.result is not other.result:
            at_one, at_other = common(one, other)
            yield from _changed(
                before[at_one] != again[at_other], (one, other), "the same unattacked images, evaluated twice"
            )
    for one, before in known:
        if one.condition.attack and "linf" in one.outcomes.extra:
            untouched = one.outcomes.extra["linf"] == 0
            yield from _changed(
                (one.outcomes.predictions != before)[untouched],
                (one,),
                "images that the attack gave back unchanged, evaluated again",
            )


def _images_of(setting: Setting) -> tuple[str, str]:
    return setting.condition.data_digest, setting.condition.preprocess


def _passes(result: Result) -> str:
    """How many draws of the model the attacks of a result follow at each step."""
    passes = {int(one.params.get("eot") or 1) for one in result.conditions if one.attack} or {1}  # type: ignore[arg-type]
    return "one draw" if min(passes) == 1 else f"the mean of {min(passes)} draws"


def _changed(changed: np.ndarray, settings: Sequence[Setting], what: str) -> Iterator[Flag]:
    if len(changed) and wilson(int(changed.sum()), len(changed), 0.99)[0] > CHANGED_SHARE:
        yield Flag(
            "random outputs",
            tuple(dict.fromkeys(one.result.suite for one in settings)),
            (
                f"{' and '.join(one.name for one in settings)}: {int(changed.sum()):,} of {len(changed):,} predictions "
                f"differ on {what} (flagged above {100 * CHANGED_SHARE:g} % with 99 % confidence)."
            ),
        )


def _probabilities(results: Sequence[Result]) -> Iterator[Flag]:
    for result in results:
        outputs = result.provenance.outputs
        if outputs and outputs.probabilities:
            yield Flag(
                "softmax instead of logits",
                (result.suite,),
                (
                    f"{result.title}: the outputs of the first {outputs.images} images lie in [0, 1] and sum to 1; "
                    "losses on probabilities have vanishing gradients, so let the model return logits."
                ),
            )


def _white_box(settings: Sequence[Setting]) -> Iterator[Flag]:
    for one in settings:
        if one.on_itself:
            yield Flag(
                "judged on its own transfer set",
                (one.result.suite,),
                (
                    f"{one.name}: the images were {one.condition.origin}, the very weights that are judged here, so the "
                    "figure is that of a white-box attack and tells nothing about transfer."
                ),
            )


def _without_bound(settings: Sequence[Setting]) -> Iterator[Flag]:
    """With no bound on the change there is an adversarial image of every image: what stays right, the settings left."""
    for one in settings:
        threat, right = one.condition.threat, one.right
        if not (one.condition.attack and threat and threat.norm in NORMS and threat.eps is None):
            continue
        if 100 * wilson(int(right.sum()), len(right), 0.99)[0] > ROOM:
            yield Flag(
                "unbounded attack fails",
                (one.result.suite,),
                (
                    f"{one.name}: nothing bounds the change, and {100 * right.mean():.1f} % of {len(right):,} images stay "
                    f"right (flagged above {ROOM:g} % with 99 % confidence), so the attack's settings stop it and not the "
                    f"model{_how_it_ended(one)}. A weight that is fixed, such as the c of this loss, counts less where all "
                    "logits are small; a search for it does not depend on their scale."
                ),
            )


def _stopped_early(settings: Sequence[Setting]) -> Iterator[Flag]:
    """More than one image of a hundred, with 99 % confidence, would break if the attack took as many steps again."""
    for one in settings:
        ended, n = one.card.convergence if one.card else None, one.condition.n
        if ended is None or not ended.within_reach or wilson(ended.within_reach, n, 0.99)[0] <= REACH_SHARE:
            continue
        yield Flag(
            "attack stopped early",
            (one.result.suite,),
            (
                f"{one.name}{_named(one)}: at the pace of the last tenth of its steps, as many steps again would break "
                f"{ended.within_reach:,} more of {n:,} images (flagged above {100 * REACH_SHARE:g} % with 99 % "
                "confidence), so the budget of steps was too small and the accuracy is an upper bound. Give the attack "
                f"more steps{_twice(one)}."
            ),
        )


def _named(one: Setting) -> str:
    """The condition's name, where its result has several."""
    return f" ({one.condition.name})" if len(one.result.conditions) > 1 else ""


def _twice(one: Setting) -> str:
    steps = one.card.steps if one.card else None
    return f": --set-attack steps={2 * steps:.10g}" if steps else ""


def _how_it_ended(one: Setting) -> str:
    ended = one.card.convergence if one.card else None
    if ended is None or not ended.unbroken:
        return ""
    left = "" if ended.margin_left is None else f"{100 * ended.margin_left:.0f} % of the label's margin was left, and "
    return f": at its last step {left}the loss still fell at {ended.falling:,} of {ended.unbroken:,} unbroken images"
