"""Corruption x severity: the errors of each row, and their differences to a reference row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import Cell, Row
from nsbench.results import Result
from nsbench.results.comparability import CONTROL


@dataclass(frozen=True)
class Heat:
    """Errors in percent of one row, or their differences in points: corruption -> severities 1 to 5."""

    row: Row
    errors: Mapping[str, Sequence[float]]

    @property
    def strongest(self) -> float:
        """The largest value without its sign."""
        return max((abs(value) for errors in self.errors.values() for value in errors), default=0.0)


def is_corruptions(result: Result) -> bool:
    return len(result.conditions) > 1 and all(str(c["split"]).startswith("c/") for c in result.conditions)


def heat(row: Row, cell: Cell) -> Heat:
    """In the order of the conditions; mean over seeds."""
    errors: dict[str, dict[str, list[float]]] = {}
    for result in cell.results:
        for condition in result.conditions:
            corruption, severity = str(condition["split"]).split("/")[1:]
            errors.setdefault(corruption, {}).setdefault(severity, []).append(100 - condition["accuracy"])
    return Heat(
        row,
        {
            name: [sum(mine) / len(mine) for _, mine in sorted(severities.items())]
            for name, severities in errors.items()
        },
    )


def reference_of(heats: Sequence[Heat], wanted: str = "") -> Heat | None:
    """The row of this label, the matched control, or the checkpoint as it is; None where there is none of them."""
    marks = [one for one in heats if one.row.label == wanted]
    marks += [one for method in (CONTROL, "pretrained") for one in heats if one.row.method == method]
    return marks[0] if marks and len(heats) > 1 else None


def against(heats: Sequence[Heat], reference: Heat | None) -> list[Heat]:
    """Errors minus those of the reference, of every other row: below zero is better."""
    if reference is None:
        return []
    return [
        Heat(
            one.row,
            {
                name: [a - b for a, b in zip(errors, reference.errors[name], strict=True)]
                for name, errors in one.errors.items()
            },
        )
        for one in heats
        if one is not reference
    ]
