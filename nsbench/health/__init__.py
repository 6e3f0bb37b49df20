"""Health flags: signs that a row's adversarial figures flatter it, or that labels are wrong, from stored outcomes.

The checks are those of Athalye et al. 2018 (arXiv:1802.00420, section 3.1) and Carlini et al. 2019 (arXiv:1902.06705,
section 5). An attack's kind is measured, not declared: transfer (never calls the model), black box (calls it without
gradients), single step (one gradient per image) and multi-step. Comparisons are on the same images (exact McNemar, or
Fisher's exact test where the image sets differ); one is flagged where the difference exceeds 0.5 percentage points
and p, by Holm over all comparisons of the row, is below 0.01. A flag is a reason to look, not a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nsbench.health.comparisons import ALPHA, LEAST, compared_flags, fisher_exact
from nsbench.health.labels import doubts, label_flags
from nsbench.health.rows import Flag, settings_of
from nsbench.health.signs import CHANGED_SHARE, FLAT, REACH_SHARE, REPEAT_CHANGE, ROOM, SPAN, ZERO_SHARE, single_flags
from nsbench.results import Result
from nsbench.results.reader import OutcomesReader

__all__ = [
    "ALPHA",
    "CHANGED_SHARE",
    "FLAT",
    "LEAST",
    "REACH_SHARE",
    "REPEAT_CHANGE",
    "ROOM",
    "SPAN",
    "ZERO_SHARE",
    "Flag",
    "RowKey",
    "doubts",
    "fisher_exact",
    "flags",
    "flags_by_row",
]
RowKey = tuple[str, str, str, int, str]  # source, model, method, seed, digest of the weights


def flags_by_row(results: Iterable[Result], reader: OutcomesReader | None = None) -> dict[RowKey, list[Flag]]:
    """The flags of every row that has any; a row is what one method made of one model with one seed."""
    rows: dict[RowKey, list[Result]] = {}
    for one in results:
        rows.setdefault((one.source, one.model, one.method, one.seed, one.provenance.weights_digest), []).append(one)
    return {key: raised for key, mine in rows.items() if (raised := flags(mine, reader))}


def flags(results: Sequence[Result], reader: OutcomesReader | None = None) -> list[Flag]:
    """The flags of one row, at most one of each name. A result whose outcomes cannot be read takes no part."""
    reader = reader or OutcomesReader()
    settings = [setting for one in results for setting in settings_of(one, reader)]
    raised = [*compared_flags(settings), *single_flags(results, settings), *label_flags(results, reader)]
    return list({flag.name: flag for flag in reversed(raised)}.values())[::-1]
