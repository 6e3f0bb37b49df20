"""What a submitted result says of itself, held against its own outcomes and the method that is installed here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from nsbench import registry
from nsbench.data.source import digest_of
from nsbench.results import Provenance, Result
from nsbench.submission.archive import shown
from nsbench.types import Outcomes

UNTOUCHED = "untouched"  # the role of the checkpoint as it is: see types.ROLES


def statement_problems(result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
    """Contradictions, a line each."""
    return [*_images(result, outcomes), *_training(result), *_dates(result.provenance)][:10]


def _images(result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
    own, problems = result.provenance, []
    if own.data_digest != digest_of(*(one.data_digest for one in result.conditions)):
        problems.append("provenance.data_digest is not that of its conditions' data digests")
    for condition in result.conditions:
        name, here = shown(condition.name), condition.n + len(condition.unreadable)
        if own.limit is not None and here > own.limit:
            problems.append(f"condition {name}: has {here:,} images under a limit of {own.limit:,}")
        if both := sorted(condition.unreadable.keys() & set(outcomes[condition.name].ids.tolist())):
            problems.append(f"condition {name}: image {shown(both[0])} could not be read and has an outcome")
    return problems


def _training(result: Result) -> list[str]:
    own, problems = result.provenance, []
    if result.method in registry.methods:
        trains = registry.methods[result.method].trains
        if trains and own.recipe is None:
            problems.append(f"provenance.recipe is empty, and {shown(result.method)} trains")
        if not trains and own.recipe is not None:
            problems.append(f"provenance.recipe is {shown(own.recipe.name)}, and {shown(result.method)} does not train")
    if own.recipe is None and (own.history or own.forward_equivalents):
        problems.append("provenance.recipe is empty, and a training's history or cost is there")
    if own.recipe is not None and own.recipe.seed != result.seed:
        problems.append(f"provenance.recipe.seed is {own.recipe.seed}, and the result's seed is {result.seed}")
    if own.lineage and "+".join(stage.method for stage in own.lineage) != result.method:
        problems.append(f"provenance.lineage is of other methods than {shown(result.method)}")
    if own.lineage and own.lineage[-1].weights_digest != own.weights_digest:
        problems.append("provenance.lineage ends with other weights than provenance.weights_digest")
    if result.method_role == UNTOUCHED and own.parent_digest not in ("", own.weights_digest):
        problems.append("provenance.weights_digest is not the checkpoint's, parent_digest, which nothing has touched")
    return problems


def _dates(own: Provenance) -> list[str]:
    """The newest of two results is the one that is shown, by the text of its date."""
    try:
        moment = datetime.fromisoformat(own.date)
    except ValueError:
        return [f"provenance.date is {shown(own.date)}, and no date such as 2026-01-31T12:00:00+00:00"]
    if moment.isoformat(timespec="seconds") != own.date or moment.utcoffset() is None or moment.utcoffset():
        return [f"provenance.date is {shown(own.date)}, and not to the second in UTC"]
    return []
