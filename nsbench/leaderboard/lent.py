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
from nsbench.results.comparability import Measured, recipe_key


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
    rows, seeds = {(r.method, *_kin(r)) for r in own}, {r.seed for r in own}
    kin, parents = {_kin(r) for r in own}, {_parent(r) for r in own}
    trained = {_parent(r) for r in own if recipe_key(r)}
    return [
        r
        for r in offered
        if r.seed in seeds
        and (_kin(r) in kin or (_parent(r) in parents and (not recipe_key(r) or _parent(r) not in trained)))
        and (r.method, *_kin(r)) not in rows
        and r.suite in references
        and not known[id(r)].reason_apart(references[r.suite])
    ]


def _parent(result: Result) -> tuple[str, str, str]:
    return result.model, result.provenance.normalisation, result.provenance.parent_digest


def _kin(result: Result) -> tuple[str, str, str, str]:
    """Equal for results that differ in method, suite and seed alone."""
    return *_parent(result), recipe_key(result)
