"""Every figure of a submitted result against the same worked out here, by the suite's own function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nsbench import registry
from nsbench.errors import NsbenchError
from nsbench.results import Result
from nsbench.statistics import accuracy
from nsbench.submission.archive import shown
from nsbench.types import Outcomes, Suite

EXACT = 1e-6
BOOTSTRAP = 0.1  # of an interval's width: draws and their number may change between versions
FIELDS = ("title", "group", "order", "paper", "unit", "lower_is_better")


def figure_problems(result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
    """Differences from what the suite that is installed here measures and computes, a line each."""
    if result.suite not in registry.suites:
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
    return problems or _conditions(result, suite) or _score(result, suite, outcomes)


def _conditions(result: Result, suite: Suite) -> list[str]:
    """What was evaluated is what the suite says, attack by attack."""
    own: list[dict[str, Any]] = [
        {
            "name": c.name,
            "split": c.split,
            "attack": c.attack,
            "params": dict(c.params),
            "threat": str(c.threat) if c.threat else None,
            "preprocess": c.preprocess,
        }
        for c in suite.conditions()
    ]
    stated = [{key: condition[key] for key in own[0]} for condition in result.conditions]
    if [c["name"] for c in stated] != [c["name"] for c in own]:
        return ["lists other conditions than the suite has"]
    for condition, expected in zip(stated, own, strict=True):
        for key, value in expected.items():
            if condition[key] != value:
                return [
                    f"condition {shown(expected['name'])}: {key} is {shown(str(condition[key]))}, and the suite's "
                    f"is {shown(str(value))}"
                ]
    return [
        f"condition {shown(c.name)}: has more images than the suite's {c.limit:,}"
        for c, mine in zip(suite.conditions(), result.conditions, strict=True)
        if c.limit and mine["n"] > c.limit
    ]


def _score(result: Result, suite: Suite, outcomes: Mapping[str, Outcomes]) -> list[str]:
    try:
        score = suite.score(outcomes)
    except NsbenchError as error:
        return [f"its score cannot be worked out: {error}"]
    stated, problems = result.score, []
    if stated.n != score.n:
        problems.append(f"says n = {stated.n:,}, and its outcomes have {score.n:,}")
    if abs(stated.value - score.value) > EXACT:
        problems.append(f"says {stated.value:.4f} {suite.unit}, and its outcomes give {score.value:.4f}")
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
    unknown = sorted(set(stated.extra) - set(score.extra))
    return problems + [f"states {shown(key)}, which the suite does not measure" for key in unknown[:3]]
