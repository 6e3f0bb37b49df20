"""What a row was measured at before: every dated measurement of a suite that a results folder still holds.

A cell shows of each seed the newest measurement that its column compares; earlier ones, of another suite version, other
weights or other images, stay in the folder. The same measurement made again replaces the earlier one, so it has no
history. An earlier version of the method has a row of its own and belongs to the same history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from nsbench.leaderboard.records import Measurement, Row
from nsbench.results import Result
from nsbench.results.comparability import method_key

NEW_DAYS = 30  # how much older than the newest result of its table the newest of a new row is, at the most


def with_history(rows: Sequence[Row], results: Sequence[Result]) -> list[Row]:
    """The rows with what the folder holds of each suite that was measured more than once, newest first."""
    held: dict[object, list[Result]] = defaultdict(list)
    for result in results:
        held[method_key(result)].append(result)
    return [replace(row, history=_histories(row, held[method_key(row.results[0])])) for row in rows]


def _histories(row: Row, results: Sequence[Result]) -> dict[str, tuple[Measurement, ...]]:
    shown = {id(result) for result in row.results}
    by_seed: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda r: (r.provenance.date, r.suite_version, r.identity)):
        by_seed[result.suite, result.seed].append(result)
    found: dict[str, list[Measurement]] = defaultdict(list)
    for (suite, _), mine in by_seed.items():
        for before, result in zip([None, *mine], mine, strict=False):
            found[suite].append(_measurement(result, before, id(result) in shown))
    return {
        suite: tuple(sorted(mine, key=lambda one: (one.date, one.suite_version, -one.seed), reverse=True))
        for suite, mine in found.items()
        if suite in row.cells and len(mine) > len({one.seed for one in mine})
    }


def _measurement(result: Result, before: Result | None, shown: bool) -> Measurement:
    own, score = result.provenance, result.score
    return Measurement(
        own.date,
        result.seed,
        score.value,
        score.low,
        score.high,
        result.suite_version,
        own.method_version,
        own.weights_digest,
        own.commit or "",
        () if before is None else _changes(before, result),
        shown,
    )


def _changes(before: Result, after: Result) -> tuple[str, ...]:
    """What may have moved the figure; "nothing that is recorded" where all of it is the same."""
    first, second = before.provenance, after.provenance
    data = [[one.data_digest for one in result.conditions] for result in (before, after)]
    pairs = (
        ("suite version", before.suite_version, after.suite_version),
        ("method version", first.method_version, second.method_version),
        ("weights", first.weights_digest[:8], second.weights_digest[:8]),
        ("nsbench", first.nsbench, second.nsbench),
        ("commit", first.commit or "none", second.commit or "none"),
    )
    words = [f"{what} {old} → {new}" for what, old, new in pairs if old != new]
    words += ["other images"] if data[0] != data[1] else []
    return tuple(words or ["nothing that is recorded"])


def with_new(rows: Sequence[Row]) -> list[Row]:
    """Rows marked new whose newest result is at most NEW_DAYS older than the newest of all.

    None is where all of them would be: a mark on every row tells nothing. A date that is none makes no row new.
    """
    newest = [max(filter(None, (moment(r.provenance.date) for r in row.results)), default=None) for row in rows]
    last = max(filter(None, newest), default=None)
    new = [bool(last and one and last - one <= timedelta(days=NEW_DAYS)) for one in newest]
    return [replace(row, new=one and not all(new)) for row, one in zip(rows, new, strict=True)]


def moment(date: str) -> datetime | None:
    """When it was measured; None where a result does not say it as a date."""
    try:
        found = datetime.fromisoformat(date)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
