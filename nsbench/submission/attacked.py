"""What the harness reports of attacked images, in outcomes and on the attack card: all of it, and nothing impossible."""

from __future__ import annotations

import numpy as np

from nsbench.results import ConditionResult, Result
from nsbench.types import Outcomes, ThreatModel

NORMS = ("linf", "l2")
REPORTED = ("predictions_clean", "predictions_uint8", *NORMS)  # of every image of an attacked condition
ROUNDING = 1e-5, 1e-6  # relative and absolute room of a norm kept in single precision


def attack_problems(result: Result, condition: ConditionResult, mine: Outcomes) -> list[str]:
    """What cannot be, a line each."""
    if condition.attack is None:
        return _unattacked(condition, mine)
    if missing := [name for name in REPORTED if name not in mine.extra]:
        return [f"its outcomes lack {', '.join(missing)}, which is reported of every attacked image"]
    return [*_norms(condition, mine), *_untouched(mine), *_card(result, condition, mine)]


def _unattacked(condition: ConditionResult, mine: Outcomes) -> list[str]:
    problems = []
    if odd := [name for name in REPORTED if name in mine.extra]:
        problems.append(f"its outcomes have {', '.join(odd)}, and nothing was attacked")
    if condition.attack_card:
        problems.append("has an attack card, and nothing was attacked")
    return problems


def _norms(condition: ConditionResult, mine: Outcomes) -> list[str]:
    """Norms are finite, fit each other, and stay inside the budget."""
    problems = [
        f"{norm} norms that are negative or not finite"
        for norm in NORMS
        if not np.isfinite(mine.extra[norm]).all() or (mine.extra[norm] < 0).any()
    ]
    if problems or condition.threat is None:
        return problems or ["has an attack without a threat model"]
    linf, l2 = (mine.extra[norm].astype(np.float64) for norm in NORMS)
    if (linf > _with_room(l2)).any():
        problems.append("linf norms above the l2 norms of the same change")
    threat = condition.threat
    bound = (
        str(condition.params.get("bound")) if threat.norm == "patch" else threat.norm
    )  # a patch's change may be bounded
    if bound in NORMS and threat.eps is not None and (mine.extra[bound] > _with_room(threat.eps)).any():
        problems.append(f"{bound} norms beyond the budget of {ThreatModel(bound, threat.eps)}")
    return problems


def _with_room(norm: float | np.ndarray) -> float | np.ndarray:
    return norm * (1 + ROUNDING[0]) + ROUNDING[1]


def _untouched(mine: Outcomes) -> list[str]:
    """An image that was wrong before the attack is not attacked, and stays as it was."""
    before = mine.extra["predictions_clean"]
    wrong = before != mine.labels
    if (wrong & mine.correct).any():
        return ["images that the attack made right: what is wrong before it is not attacked"]
    changed = (mine.predictions != before) | (mine.extra["predictions_uint8"] != before)
    changed |= (mine.extra["linf"] != 0) | (mine.extra["l2"] != 0)
    if (wrong & changed).any():
        return [f"{(wrong & changed).sum():,} images that were wrong before the attack and are changed by it"]
    return []


def _card(result: Result, condition: ConditionResult, mine: Outcomes) -> list[str]:
    card = condition.attack_card
    if card is None:
        return [] if result.outcomes_format == "npz" else ["has no attack card"]  # the first versions made none
    right = int((mine.extra["predictions_clean"] == mine.labels).sum())
    if card.images != right:
        return [f"its attack card says {card.images:,} images were attacked, and {right:,} were right before"]
    return []
