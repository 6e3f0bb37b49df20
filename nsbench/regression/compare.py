"""Baseline against new results: verdicts, pair by pair. No torch here, and nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nsbench.errors import ResultError
from nsbench.regression.baseline import Baseline, Reference
from nsbench.regression.entry import Entry, ModelFacts, comparable, flipped_images, reason_apart
from nsbench.regression.evidence import Noise, detectable_drop, lost_pvalue, mean_pvalue, moved_pvalue
from nsbench.regression.records import BaselineCheck, CostRatio, Moved, Rules, SuiteCheck, Verdict
from nsbench.results import Result
from nsbench.statistics import holm, mcnemar_of_counts
from nsbench.types import Setting

if TYPE_CHECKING:
    from nsbench.run.recording import Pair

CHANGES = {
    "normalisation": "normalisation",
    "parent_digest": "checkpoint",
    "weights_digest": "weights",
    "method_version": "method version",
}  # facts that may differ: the change that is checked


def check_results(
    baseline: Baseline,
    results: Sequence[Result],
    rules: Rules,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    any_model: bool = False,
    why_missing: Mapping[Pair, str] | None = None,
    reference: Reference | None = None,
) -> BaselineCheck:
    """Compare results with a baseline.

    `pairs`: (method, suite) that must be there, in this order; default: what the baseline holds. `any_model`: a result
    of another model than the baseline's is compared all the same. `why_missing`: why a run could not give a pair.
    `reference`: the workload timed in the run that gave the results; without it no speed is compared.
    """
    why = {(pair.method, pair.suite, pair.seed): reason for pair, reason in (why_missing or {}).items()}
    suites = []
    for method, suite in pairs or list(dict.fromkeys((e.method, e.suite) for e in baseline.entries)):
        held = [entry for entry in baseline.entries if (entry.method, entry.suite) == (method, suite)]
        for entry in held:
            suites.append(_compare(entry, results, any_model, why.get((method, suite, entry.seed), "")))
        if not held:
            reason = "the baseline does not hold it; record it anew"
            suites.append(SuiteCheck(method, suite, 0, None, reason=reason))
    judged = _judge(suites, rules)
    return BaselineCheck(
        baseline,
        rules,
        tuple(judged),
        tuple(_moved(baseline, judged, rules)),
        tuple(_costs(baseline, judged, reference, rules)),
    )


def _compare(before: Entry, results: Sequence[Result], any_model: bool, why: str) -> SuiteCheck:
    def incomparable(reason: str) -> SuiteCheck:
        return SuiteCheck(before.method, before.suite, before.seed, before, reason=reason)

    result = _counterpart(before, results, any_model)
    if result is None:
        return incomparable(why or _absent(before, results))
    try:
        after = Entry.of(result)
    except ResultError as error:
        return incomparable(str(error))
    if reason := reason_apart(after, before):
        return incomparable(reason)
    return _compared(before, after)


def _counterpart(before: Entry, results: Sequence[Result], any_model: bool) -> Result | None:
    """The result to compare with: of several, one of the same images, then of the same recipe, then the newest."""

    def likeness(result: Result) -> tuple[bool, bool, bool, bool, str]:
        facts = ModelFacts.of(result.provenance)
        return (
            result.model == before.model,
            comparable(result) == before.definition.measured,
            facts.recipe == before.model_facts.recipe,
            facts.normalisation == before.model_facts.normalisation,
            result.provenance.date,
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


def _compared(before: Entry, after: Entry) -> SuiteCheck:
    """The evidence; the verdict needs the whole family."""
    worse = after.values - before.values if before.definition.lower_is_better else before.values - after.values
    lost, won = worse > 1e-9, worse < -1e-9
    drop = float(worse.mean())
    mcnemar = None
    if before.definition.is_accuracy:
        counts = int(lost.sum()), int(won.sum())
        mcnemar, p = float(mcnemar_of_counts(*counts)), lost_pvalue(*counts, len(worse), before.noise)
    else:
        p = mean_pvalue(worse, before.noise)
    ids = before.images.ids
    return SuiteCheck(
        before.method,
        before.suite,
        before.seed,
        before,
        after,
        Verdict.OK,
        drop=drop,
        lost=ids[lost],
        won=ids[won],
        mcnemar=mcnemar,
        p=p,
        changes=tuple(_changes(before, after)),
    )


def _changes(before: Entry, after: Entry) -> list[str]:
    """What is different about the model, in words."""
    old, new = before.model_facts, after.model_facts
    return [
        *([f"model {after.model} instead of {before.model}"] if before.model != after.model else []),
        *(
            f"{word} {getattr(new, name)} instead of {getattr(old, name)}"
            for name, word in CHANGES.items()
            if getattr(new, name) != getattr(old, name)
        ),
        *_recipe_changes(old.recipe or {}, new.recipe or {}),
    ]


def _recipe_changes(old: Mapping[str, Setting], new: Mapping[str, Setting]) -> list[str]:
    return [
        f"recipe: {key} {new.get(key)} instead of {old.get(key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _judge(suites: Sequence[SuiteCheck], rules: Rules) -> list[SuiteCheck]:
    tested = [c for c in suites if c.after is not None]
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
        for c in suites
    ]


def _verdict(drop: float, p: float, rules: Rules) -> Verdict:
    if p > rules.alpha or abs(drop) < rules.min_drop:
        return Verdict.OK
    return Verdict.REGRESSED if drop > 0 else Verdict.IMPROVED


def _detectable(one: SuiteCheck, level: float, rules: Rules) -> float | None:
    """In the score's unit. A mean over conditions is taken as if an image were lost under all of them at once, which
    is when it is noticed last; where weights differ in sign, under all of the larger part."""
    before = one.before
    assert before is not None
    scale = (
        max(sum(w for w in before.definition.weights if w > 0), -sum(w for w in before.definition.weights if w < 0))
        / 100
    )
    noise = before.noise if before.definition.is_accuracy else Noise()
    drop = detectable_drop(one.n, before.right, level, noise, rules.min_drop / scale)
    return None if drop is None else drop * scale


def _moved(baseline: Baseline, suites: Sequence[SuiteCheck], rules: Rules) -> list[Moved]:
    """For each method with a recorded repeat: do more of its images change than in the repeat?

    An image counts once, in however many suites it appears: its outcomes under them go together.
    """
    counted = []
    for method, (repeat_flipped, repeat_images) in baseline.moved.items():
        mine = [(c.before, c.after) for c in suites if c.before and c.after and c.method == method]
        if mine:
            images = len({image for before, _ in mine for image in before.images.ids.tolist()})
            flipped = len({image for pair in mine for image in flipped_images(*pair).tolist()})
            counted.append((method, flipped, images, repeat_flipped, repeat_images))
    adjusted = holm([moved_pvalue(*counts) for _, *counts in counted])
    return [Moved(*counts, float(p), bool(p <= rules.alpha)) for counts, p in zip(counted, adjusted, strict=True)]


def _costs(
    baseline: Baseline,
    suites: Sequence[SuiteCheck],
    reference: Reference | None,
    rules: Rules,
) -> list[CostRatio]:
    pairs = [(c.before, c.after) for c in suites if c.before and c.after]
    if reference is None or baseline.reference is None or not pairs:
        return []
    old, new = ([side[k] for side in pairs] for k in (0, 1))
    return [
        CostRatio(
            "seconds",
            _ratio(_seconds(new) / reference.seconds, _seconds(old) / baseline.reference.seconds),
            rules.max_slowdown,
        ),
        CostRatio(
            "memory",
            _ratio(_memory(new) / reference.memory_mib, _memory(old) / baseline.reference.memory_mib),
            rules.max_memory,
        ),
    ]


def _ratio(new: float, old: float) -> float:
    return new / old if old else 1.0


def _seconds(entries: Sequence[Entry]) -> float:
    """Of the evaluations, and of one fit of each method."""
    fits = {entry.method: entry.run_facts.fit_seconds or 0.0 for entry in entries}
    return sum(entry.run_facts.seconds or 0.0 for entry in entries) + sum(fits.values())


def _memory(entries: Sequence[Entry]) -> float:
    return float(max(entry.run_facts.peak_memory_mib or 0 for entry in entries))
