"""Baseline against new results: verdicts, pair by pair. No torch here, and nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nsbench.errors import ResultError
from nsbench.regression.baseline import Baseline, Reference
from nsbench.regression.entry import Entry, comparable, flipped_images
from nsbench.regression.evidence import detectable_drop, lost_pvalue, mean_pvalue, moved_pvalue
from nsbench.regression.records import Check, Comparison, Cost, Moved, Rules, Verdict
from nsbench.results import Result
from nsbench.statistics import holm, mcnemar_of_counts

CHANGES = {
    "normalisation": "normalisation",
    "parent_digest": "checkpoint",
    "weights_digest": "weights",
    "method_version": "method version",
}  # facts that may differ: the change that is checked


def check(
    baseline: Baseline,
    results: Sequence[Result],
    rules: Rules,
    *,
    pairs: Iterable[str] = (),
    any_model: bool = False,
    why_missing: Mapping[str, str] | None = None,
    reference: Reference | None = None,
) -> Check:
    """Compare results with a baseline.

    `pairs`: "method x suite" that must be there, in this order; default: what the baseline holds. `any_model`: a result
    of another model than the baseline's is compared all the same. `why_missing`: pair -> why a run could not give it.
    `reference`: the workload timed in the run that gave the results; without it no speed is compared.
    """
    wanted = list(pairs) or list(dict.fromkeys(f"{e.method} x {e.suite}" for e in baseline.entries))
    comparisons = []
    for pair in wanted:
        held = [entry for entry in baseline.entries if f"{entry.method} x {entry.suite}" == pair]
        for entry in held:
            why = [(why_missing or {}).get(name, "") for name in (pair, f"{pair} (seed {entry.seed})")]
            comparisons.append(_compare(entry, results, any_model, "".join(why)))
        if not held:
            comparisons.append(Comparison(pair, None, reason="the baseline does not hold it; record it anew"))
    judged = _judge(comparisons, rules)
    return Check(
        baseline,
        rules,
        tuple(judged),
        tuple(_moved(baseline, judged, rules)),
        tuple(_costs(baseline, judged, reference, rules)),
    )


def _compare(before: Entry, results: Sequence[Result], any_model: bool, why: str) -> Comparison:
    def incomparable(reason: str) -> Comparison:
        return Comparison(before.key, before, reason=reason)

    result = _counterpart(before, results, any_model)
    if result is None:
        return incomparable(why or _absent(before, results))
    try:
        after = Entry.of(result)
    except ResultError as error:
        return incomparable(str(error))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return incomparable(f"{result.path}: its outcomes are malformed ({error})")
    if reason := reason_apart(after, before):
        return incomparable(reason)
    return _compared(before, after)


def _counterpart(before: Entry, results: Sequence[Result], any_model: bool) -> Result | None:
    """The result to compare with: of several, one of the same images, then of the same recipe, then the newest."""
    recipe, normalisation = before.facts.get("recipe"), before.facts.get("normalisation")

    def likeness(result: Result) -> tuple:
        facts = result.provenance
        return (
            result.model == before.model,
            comparable(result) == before.measured,
            facts.get("recipe") == recipe,
            facts.get("normalisation") == normalisation,
            str(facts.get("date")),
        )

    fitting = [
        r
        for r in results
        if (r.source, r.method, r.suite, r.seed) == (before.source, before.method, before.suite, before.seed)
        and (any_model or r.model == before.model)
    ]
    return max(fitting, key=likeness, default=None)


def _absent(before: Entry, results: Sequence[Result]) -> str:
    same = [r for r in results if (r.method, r.suite) == (before.method, before.suite)]
    if not same:
        return "there is no result of it"
    for what in ("source", "model", "seed"):
        if others := sorted({str(getattr(r, what)) for r in same} - {str(getattr(before, what))}):
            return f"{what}: {', '.join(others)} instead of {getattr(before, what)}"
    return "there is no result of it"


def reason_apart(after: Entry, before: Entry) -> str:
    """Why two entries cannot be compared: other data, another definition of the suite, other images; named."""
    images = after.images.reason_apart(before.images)
    if after.measured != before.measured:
        for what, old in before.measured.items():
            new = after.measured.get(what)
            if new != old and what != "images":
                return f"{what}: {_difference(new, old)}" + (f"; {images}" if images else "")
        return images or "other data: the pictures, ids or labels changed though their names did not"
    if images:
        return images
    if (after.conditions, after.weights, after.rewards) != (before.conditions, before.weights, before.rewards):
        return "the score is made of its outcomes in another way than in the baseline"
    return ""


def _difference(new: Any, old: Any) -> str:
    """The first place where two plain values differ."""
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return next(_difference(a, b) for a, b in zip(new, old, strict=True) if a != b)
    if isinstance(new, list) and isinstance(old, list):
        return f"{len(new)} instead of {len(old)}"
    return f"{new} instead of {old}"


def _compared(before: Entry, after: Entry) -> Comparison:
    """The evidence; the verdict needs the whole family."""
    worse = after.values - before.values if before.lower_is_better else before.values - after.values
    lost, won = worse > 1e-9, worse < -1e-9
    drop = float(worse.mean())
    mcnemar = None
    if before.is_accuracy:
        counts = int(lost.sum()), int(won.sum())
        mcnemar, p = float(mcnemar_of_counts(*counts)), lost_pvalue(*counts, len(worse), before.noise)
    else:
        p = mean_pvalue(worse, before.noise)
    changes = [
        f"{word} {after.facts[key]} instead of {before.facts[key]}"
        for key, word in CHANGES.items()
        if before.facts.get(key) != after.facts.get(key)
    ]
    changes += _recipe_changes(before.facts.get("recipe") or {}, after.facts.get("recipe") or {})
    if before.model != after.model:
        changes.insert(0, f"model {after.model} instead of {before.model}")
    ids = before.images.ids
    return Comparison(
        before.key, before, after, Verdict.OK, "", drop, ids[lost], ids[won], mcnemar, p, changes=tuple(changes)
    )


def _recipe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"recipe: {key} {new.get(key)} instead of {old.get(key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _judge(comparisons: Sequence[Comparison], rules: Rules) -> list[Comparison]:
    tested = [c for c in comparisons if c.after is not None]
    adjusted = dict(zip(map(id, tested), holm([c.p for c in tested]), strict=True)) if tested else {}
    level = rules.alpha / max(len(tested), 1)
    return [
        replace(
            c,
            verdict=_verdict(c.drop, float(adjusted[id(c)]), rules),
            p_holm=float(adjusted[id(c)]),
            detectable=_detectable(c, level, rules),
        )
        if id(c) in adjusted
        else c
        for c in comparisons
    ]


def _verdict(drop: float, p: float, rules: Rules) -> Verdict:
    if p > rules.alpha or abs(drop) < rules.min_drop:
        return Verdict.OK
    return Verdict.REGRESSED if drop > 0 else Verdict.IMPROVED


def _detectable(comparison: Comparison, level: float, rules: Rules) -> float | None:
    """In the score's unit. A mean over conditions is taken as if an image were lost under all of them at once, which
    is when it is noticed last."""
    before = comparison.before
    assert before is not None
    scale = sum(before.weights) / 100
    found = detectable_drop(
        comparison.n,
        before.right,
        level,
        before.noise if before.is_accuracy else type(before.noise)(),
        rules.min_drop / scale,
    )
    return None if found is None else found * scale


def _moved(baseline: Baseline, comparisons: Sequence[Comparison], rules: Rules) -> list[Moved]:
    """For each method with a recorded repeat: do more of its images change than in the repeat?

    An image counts once, in however many suites it appears: its outcomes under them go together.
    """
    found = []
    for method, (repeat_flipped, repeat_images) in baseline.moved.items():
        mine = [(c.before, c.after) for c in comparisons if c.before and c.after and c.before.method == method]
        if mine:
            images = len({image for before, _ in mine for image in before.images.ids.tolist()})
            flipped = len({image for pair in mine for image in flipped_images(*pair).tolist()})
            found.append((method, flipped, images, repeat_flipped, repeat_images))
    adjusted = holm([moved_pvalue(*counts) for _, *counts in found])
    return [Moved(*counts, float(p), bool(p <= rules.alpha)) for counts, p in zip(found, adjusted, strict=True)]


def _costs(
    baseline: Baseline,
    comparisons: Sequence[Comparison],
    reference: Reference | None,
    rules: Rules,
) -> list[Cost]:
    pairs = [(c.before, c.after) for c in comparisons if c.before and c.after]
    if reference is None or baseline.reference is None or not pairs:
        return []
    old, new = ([side[k] for side in pairs] for k in (0, 1))
    return [
        Cost(
            "seconds",
            _ratio(_seconds(new) / reference.seconds, _seconds(old) / baseline.reference.seconds),
            rules.max_slowdown,
        ),
        Cost(
            "memory",
            _ratio(_memory(new) / reference.memory_mib, _memory(old) / baseline.reference.memory_mib),
            rules.max_memory,
        ),
    ]


def _ratio(new: float, old: float) -> float:
    return new / old if old else 1.0


def _seconds(entries: Sequence[Entry]) -> float:
    """Of the evaluations, and of one fit of each method."""
    fits = {entry.method: float(entry.facts.get("fit_seconds") or 0) for entry in entries}
    return sum(float(entry.facts.get("seconds") or 0) for entry in entries) + sum(fits.values())


def _memory(entries: Sequence[Entry]) -> float:
    return max(float(entry.facts.get("peak_memory_mib") or 0) for entry in entries)
