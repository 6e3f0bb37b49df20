"""Every figure of a submitted result against the same worked out here, by the suite's own function."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose

from nsbench import registry
from nsbench.errors import NsbenchError
from nsbench.results import ConditionResult, Result
from nsbench.statistics import accuracy
from nsbench.submission.archive import shown
from nsbench.types import Composition, Condition, Outcomes, Suite, ThreatModel

EXACT = 1e-6
BOOTSTRAP = 0.1  # of an interval's width: draws and their number may change between versions
FIELDS = ("title", "group", "order", "paper", "unit", "lower_is_better")


def suite_problems(result: Result) -> list[str]:
    """Differences from what the suite that is installed here measures, a line each."""
    if result.suite not in registry.suites and not _is_made_again(result):
        known = ", ".join(registry.suites)
        return [f"suite {shown(result.suite)} is not known here, so its score cannot be worked out; known: {known}"]
    suite = registry.suites[result.suite]
    if result.suite_version != suite.version:
        return [f"is of version {result.suite_version} of the suite; version {suite.version} is installed here"]
    pairs = [(field, getattr(result, field), getattr(suite, field)) for field in FIELDS]
    problems = [
        f"{field} is {shown(str(stated))}, and the suite's is {shown(str(own))}"
        for field, stated, own in pairs
        if stated != own
    ]
    return problems or _method(result) or _conditions(result, suite)


def _is_made_again(result: Result) -> bool:
    from nsbench.run.attack_settings import is_made_again  # torch comes with it

    return is_made_again(result.suite, [one.params for one in result.conditions])


def _method(result: Result) -> list[str]:
    """What the method is called and is in a comparison, where it is known here."""
    if result.method not in registry.methods:
        return []
    own = registry.methods[result.method]
    pairs = [("method_role", result.method_role, own.role), ("method_title", result.method_title, own.title)]
    return [
        f"{field} is {shown(stated)}, and that of {shown(result.method)} is {shown(known)}"
        for field, stated, known in pairs
        if stated != known
    ]


def _conditions(result: Result, suite: Suite) -> list[str]:
    """What was evaluated is what the suite says, attack by attack."""
    own = suite.conditions()
    if [one.name for one in result.conditions] != [one.name for one in own]:
        return ["lists other conditions than the suite has"]
    for stated, expected in zip(result.conditions, own, strict=True):
        old = result.outcomes_format == "npz"
        theirs = _asked(stated, old)
        for field, value in _asked(expected, old).items():
            if theirs[field] != value:
                return [
                    f"condition {shown(expected.name)}: {field} is {shown(str(theirs[field]))}, and the suite's "
                    f"is {shown(str(value))}"
                ]
    return [
        f"condition {shown(expected.name)}: has more images than the suite's {expected.limit:,}"
        for expected, stated in zip(own, result.conditions, strict=True)
        if expected.limit and stated.n > expected.limit
    ]


def _asked(one: Condition | ConditionResult, old: bool) -> dict[str, object]:
    """What a condition asks for, by field; budgets as they are shown. `old`: as schema 1 kept it."""
    return {
        "split": one.split,
        "attack": one.attack,
        "params": dict(one.params),
        "threat": _budget(one.threat, old),
        "beforehand": _budget(one.beforehand, old),
        "preprocess": one.preprocess,
    }


def _budget(threat: ThreatModel | None, old: bool) -> str | None:
    """As it is shown, with what its norm leaves out: patches of another norm, the bound of a patch's change."""
    if threat is None:
        return None
    if threat.norm != "patch":
        return f"{threat}, {threat.patches} patches" if threat.patches else str(threat)
    return str(threat) if old or threat.eps is None else f"{threat} within {threat.eps:.6g}"


def _same(stated: Composition | None, own: Composition | None) -> bool:
    """The same outcomes count, with the same weights but for rounding."""
    if stated is None or own is None:
        return stated is own
    mine, theirs = ({name: w for name, w in one.weights.items() if w} for one in (own, stated))
    return (
        stated.counts == own.counts
        and mine.keys() == theirs.keys()
        and all(isclose(theirs[name], weight, rel_tol=1e-9) for name, weight in mine.items())
    )


def score_problems(result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
    """Differences from what the suite's own function makes of the outcomes, a line each."""
    suite = registry.suites[result.suite]
    try:
        score = suite.score(outcomes)
    except NsbenchError as error:
        return [f"its score cannot be worked out: {str(error).splitlines()[0]}"]
    stated, problems = result.score, []
    if stated.n != score.n:
        problems.append(f"says n = {stated.n:,}, and its outcomes have {score.n:,}")
    if abs(stated.value - score.value) > EXACT:
        problems.append(f"says {stated.value:.4f} {suite.unit}, and its outcomes give {score.value:.4f}")
    if not _same(stated.made_of, score.made_of):
        problems.append("says that its score is made of its outcomes in another way than the suite makes it")
    room = EXACT if suite.score is accuracy else max(EXACT, BOOTSTRAP * (score.high - score.low))
    if max(abs(stated.low - score.low), abs(stated.high - score.high)) > room:
        problems.append(
            f"says the interval {stated.low:.4f} to {stated.high:.4f}, and its outcomes give "
            f"{score.low:.4f} to {score.high:.4f}"
        )
    problems += [
        f"says {shown(key)} is {stated.extra[key]:.4f}, and its outcomes give {value:.4f}"
        for key, value in score.extra.items()
        if key in stated.extra and abs(stated.extra[key] - value) > 1e-4
    ]
    unknown, missing = sorted(set(stated.extra) - set(score.extra)), sorted(set(score.extra) - set(stated.extra))
    if missing and result.outcomes_format != "npz":  # suites of schema 1 stated fewer
        problems.append(f"does not state {', '.join(map(shown, missing[:3]))}, which its outcomes give")
    return problems + [f"states {shown(key)}, which the suite does not measure" for key in unknown[:3]]
