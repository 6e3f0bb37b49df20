"""Baseline against new results: verdicts, pair by pair. No torch here, and nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nsbench.errors import ResultError
from nsbench.regression.baseline import Baseline, Reference
from nsbench.regression.entry import Entry, ModelFacts, averaged, comparable, flipped_images, reason_apart
from nsbench.regression.evidence import Observed, moved_pvalue, side, weigh
from nsbench.regression.power import detectable_drop
from nsbench.regression.records import BaselineCheck, CostRatio, MethodCheck, Moved, Rules, SuiteCheck, Verdict
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
    judged, methods = _judge(suites, baseline, rules)
    return BaselineCheck(
        baseline,
        rules,
        tuple(judged),
        tuple(_moved(baseline, judged, rules)),
        tuple(_costs(baseline, judged, reference, rules)),
        tuple(methods),
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
    """What became of each image; evidence and verdict need the whole check."""
    worse = before.worse(after)
    lost, won = worse > 1e-9, worse < -1e-9
    mcnemar = float(mcnemar_of_counts(lost.sum(), won.sum())) if before.definition.is_accuracy else None
    ids = before.images.ids
    return SuiteCheck(
        before.method,
        before.suite,
        before.seed,
        before,
        after,
        Verdict.OK,
        drop=float(worse.mean()),
        lost=ids[lost],
        won=ids[won],
        mcnemar=mcnemar,
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


def _judge(
    suites: Sequence[SuiteCheck], baseline: Baseline, rules: Rules
) -> tuple[list[SuiteCheck], list[MethodCheck]]:
    """The suites that could be compared, and the averages of methods, are one family of tests."""
    tested = [(c, c.before, c.after) for c in suites if c.before is not None and c.after is not None]
    averages = _averages([(before, after) for _, before, after in tested], baseline)
    observed = [_observed(before, after) for _, before, after in tested] + [one for one, _ in averages]
    together = baseline.clusters
    worse = side(observed, together, better=False)
    drops = [detectable_drop(k, observed, worse, rules.alpha, rules.min_drop) for k in range(len(tested))]
    evidence = weigh(observed, together)
    judged = {
        id(c): replace(
            c,
            verdict=verdict(c.drop, one.p_adjusted, rules),
            p=one.p,
            p_adjusted=one.p_adjusted,
            detectable=drop,
        )
        for (c, _, _), one, drop in zip(tested, evidence, drops, strict=False)
    }
    methods = [
        MethodCheck(seen.method, count, seen.drop, one.p_adjusted, verdict(seen.drop, one.p_adjusted, rules))
        for (seen, count), one in zip(averages, evidence[len(tested) :], strict=True)
    ]
    return [judged.get(id(c), c) for c in suites], methods


def _observed(before: Entry, after: Entry) -> Observed:
    accuracy = before.definition.is_accuracy
    return Observed.of(before.method, before.worse(after), before.noise, accuracy=accuracy, losses=before.losses)


def _averages(pairs: Sequence[tuple[Entry, Entry]], baseline: Baseline) -> list[tuple[Observed, int]]:
    """The average of each method's accuracies, and how many: where there are several and all were compared."""
    found = []
    for method, together in baseline.together.items():
        mine = [(b, a) for b, a in pairs if b.method == method and b.definition.is_accuracy]
        held = sum(e.method == method and e.definition.is_accuracy for e in baseline.entries)
        if together.average.images and len(mine) == held > 1:
            worse = averaged([(before.images.ids, before.worse(after)) for before, after in mine])
            losses = averaged([(before.images.ids, before.losses) for before, _ in mine])
            found.append((Observed.of(method, worse, together.average, accuracy=False, losses=losses), held))
    return found


def verdict(drop: float, p: float, rules: Rules) -> Verdict:
    """Of a drop in the score's unit (negative: a gain) and its p over the whole check."""
    if p > rules.alpha or abs(drop) < rules.min_drop - 1e-9:
        return Verdict.OK
    return Verdict.REGRESSED if drop > 0 else Verdict.IMPROVED


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
