"""What tells two threat models apart, in words: those that people read, where these say all of it.

They show six digits, and of a bounded patch not the bound. The words decide whether a stored result is this very
measurement, so they are what they were wherever nothing was left out.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import isclose

from nsbench.types import ThreatModel

LARGEST = 1000  # of a denominator: 22.3214 % is what 50 of 224 pixels are shown as
SAME = 1e-9  # relative difference that no float32 shows


@cache
def threat_words(threat: ThreatModel | None) -> str:
    """Different for threat models that differ."""
    said = str(threat)
    if threat is None or _says_all(threat):
        return said
    return f"{said} {threat!r}"


def _says_all(threat: ThreatModel) -> bool:
    if threat.norm == "patch":
        return threat == ThreatModel("patch", patches=threat.patches)
    if threat.norm in ("square", "flow"):
        return threat == ThreatModel(threat.norm, share=threat.share) and _is_meant(threat.share, 100)
    if replace(threat, eps=None) != ThreatModel(threat.norm):
        return False
    return threat.eps is None or _is_meant(threat.eps, 255 if threat.norm == "linf" else 1)


def _is_meant(value: float, unit: int) -> bool:
    """Whether the value is the one that its six digits in this unit stand for: the simplest fraction that is shown
    alike, else the digits themselves."""
    digits = f"{value * unit:g}"
    try:
        shown = Fraction(digits)
    except ValueError:  # infinite, or no number
        return False
    small = (shown.limit_denominator(largest) for largest in range(1, LARGEST + 1))
    meant = next((one for one in small if f"{float(one):g}" == digits), shown)
    return isclose(value, float(meant / unit), rel_tol=SAME)
