"""Rows that another results folder lends to a table, so that a row of one's own does not stand alone.

Lent is what could have been measured here: with the same checkpoint, preprocessing, seeds, suite version and images (by
their digests), not trained or trained by the recipe of a row of this table (by any, where nothing here is trained), and
only in suites that this table has. A row that the table has itself is never lent. Lent rows are marked, and take part in
every comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nsbench.leaderboard.cells import columns_of
from nsbench.results import Result
from nsbench.results.comparability import Kin, Measured, kin_of


@dataclass(frozen=True)
class Lender:
    """Another results folder."""

    name: str  # rows of it are marked as "from <name>"
    results: Sequence[Result]


def lent(own: Sequence[Result], offered: Iterable[Result], known: Mapping[int, Measured]) -> list[Result]:
    """What of `offered` joins the table of `own`; all are of one source, image set and preprocessing.

    `known`: by id(result), of all of them.
    """
    _, references = columns_of(own, known)
    rows, seeds = {(r.method, kin_of(r)) for r in own}, {r.seed for r in own}
    kin, starts = {kin_of(r) for r in own}, {kin_of(r).checkpoint for r in own}
    trained = {kin_of(r).checkpoint for r in own if kin_of(r).recipe}

    def is_related(theirs: Kin) -> bool:
        start = theirs.checkpoint
        return theirs in kin or (start in starts and (not theirs.recipe or start not in trained))

    return [
        r
        for r in offered
        if r.seed in seeds
        and is_related(kin_of(r))
        and (r.method, kin_of(r)) not in rows
        and r.suite in references
        and not known[id(r)].reason_apart(references[r.suite])
    ]
