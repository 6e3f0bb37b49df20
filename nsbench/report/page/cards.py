"""The card of a suite: protocol, places, curve, norms, heat maps; ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nsbench.leaderboard import Cell, Column, Row, Table
from nsbench.report.differences import reference_name
from nsbench.report.limits import Limits, drawn, left_out
from nsbench.report.page import charts, curves
from nsbench.report.page.heats import Heat, against, heat, is_corruptions, reference_of
from nsbench.report.page.pictures import PictureBook, SuitePictures
from nsbench.report.page.relative import RelativeErrors
from nsbench.report.page.scatter import scatter
from nsbench.results import Result

RELATIVE = "relative mCE"


@dataclass(frozen=True)
class SuiteCard:
    column: Column
    result: Result  # the newest one: its conditions and command stand for the suite
    places: Markup  # every drawn row with its interval
    curve: Markup | None
    norms: Markup | None
    scatter: Markup | None  # against clean accuracy
    extra_names: Sequence[str]
    extra_rows: Sequence[tuple[Row, Cell, Sequence[float | None]]]
    heats: Sequence[Heat]
    reference: Heat | None  # what the differences are against
    differences: Sequence[Heat]
    left_out: Sequence[str]  # sentences about rows that are not drawn
    pictures: SuitePictures | None

    @property
    def facts(self) -> list[tuple[str, str]]:
        conditions = self.result.conditions
        return [
            (what, text)
            for what, text in (
                ("images", " / ".join(_unique(f"{condition['n']:,}" for condition in conditions))),
                ("split", _several([condition["split"] for condition in conditions])),
                ("attack", _several([_attack(condition) for condition in conditions if condition["attack"]])),
                ("threat", _several([condition["threat"] for condition in conditions if condition["threat"]])),
                ("images are", " / ".join(_unique(condition["origin"] for condition in conditions))),
                ("prepared by", " / ".join(_unique(self._prepared(condition) for condition in conditions))),
                ("data digest", str(self.result.provenance.get("data_digest", ""))),
                ("suite version", str(self.column.version)),
            )
            if text
        ]

    @property
    def attack_cards(self) -> list[Mapping[str, object]]:
        """What was attacked and what it cost, where it was counted, in the order of the conditions."""
        return [card for condition in self.result.conditions if (card := condition.get("attack_card"))]

    def _prepared(self, condition: Mapping) -> str:
        own = str(self.result.provenance.get("preprocessing") or "the checkpoint's own resize and crop")
        return "nothing: the images are ready" if condition["preprocess"] == "none" else own


def suite_card(
    table: Table,
    column: Column,
    styles: Mapping[str, str],
    limits: Limits,
    book: PictureBook,
) -> SuiteCard:
    fair = {id(row): cell for row in table.rows if (cell := row.cells.get(column.suite)) and cell.comparable}
    rows = [row for row in table.rows if id(row) in fair]
    few = [(row, fair[id(row)]) for row in drawn(rows, limits.lines)]
    result = max((r for row in rows for r in fair[id(row)].results), key=lambda r: str(r.provenance.get("date")))
    listed = drawn(sorted(rows, key=lambda row: _place(fair[id(row)], column)), limits.places)
    places = charts.forest(
        [(row.label, styles[row.label], c.value, c.low, c.high) for row in listed if (c := fair[id(row)])], column.unit
    )
    curve, norms = curves.curve(few, styles), curves.norms(few, styles)
    heats = [heat(row, cell) for row, cell in few] if is_corruptions(result) else []
    names, extra = _extras(table, [(row, fair[id(row)]) for row in listed], result)
    reference = reference_of(heats, reference_name(table))
    told = [left_out(len(listed), len(rows), "Places drawn")]
    line = next((one for one in table.lines if one.suite == column.suite), None)
    plot = scatter(line, column.title, styles, [row.label for row, _ in few]) if line else None
    if curve or norms or heats or plot:
        told.append(left_out(len(few), len(rows), "Curves, norms, names and heat maps drawn"))
    return SuiteCard(
        column,
        result,
        places,
        curve,
        norms,
        plot,
        names,
        extra,
        heats,
        reference,
        against(heats, reference),
        [one for one in told if one],
        book.suite(column.suite),
    )


def _place(cell: Cell, column: Column) -> float:
    """For sorting: the best first."""
    return cell.value if column.lower_is_better else -cell.value


def _extras(
    table: Table,
    rows: Sequence[tuple[Row, Cell]],
    result: Result,
) -> tuple[list[str], list[tuple[Row, Cell, list[float | None]]]]:
    """The figures beside the headline: their names, and of each row."""
    names = _extra_names(result)
    relative = RelativeErrors(table.evidence.reader) if is_corruptions(result) and table.evidence else None
    errors = [_relative_mce(row, cell, relative) if relative else None for row, cell in rows]
    more = [RELATIVE] if any(error is not None for error in errors) else []
    if not names and not more:
        return [], []
    return names + more, [
        (row, cell, [_mean_extra(cell, name) for name in names] + ([error] if more else []))
        for (row, cell), error in zip(rows, errors, strict=True)
    ]


def _extra_names(result: Result) -> list[str]:
    """The figures beside the headline that say something: budgets only under l2, no list of 15 corruptions."""
    l2 = str(result.conditions[0]["threat"] or "").startswith("l2")
    return [name for name in result.score.extra if not name.startswith("error ") and ("l2" not in name.split() or l2)]


def _mean_extra(cell: Cell, name: str) -> float | None:
    values = [r.score.extra[name] for r in cell.results if name in r.score.extra]
    return sum(values) / len(values) if values else None


def _relative_mce(row: Row, cell: Cell, relative: RelativeErrors) -> float | None:
    """Mean over seeds, against the clean errors of the same weights on the same images; None where they are absent."""
    unattacked = {
        r.seed: r
        for r in row.results
        if r.conditions[0]["split"] == "clean" and len(r.conditions) == 1 and r.conditions[0]["attack"] is None
    }
    values = []
    for result in cell.results:
        clean = unattacked.get(result.seed)
        if clean is None or clean.provenance.get("weights_digest") != result.provenance.get("weights_digest"):
            return None
        value = relative.of(result, clean)
        if value is None:
            return None
        values.append(value)
    return sum(values) / len(values) if values else None


def _attack(condition: Mapping) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in sorted(condition["params"].items()))
    return f"{condition['attack']} ({settings})" if settings else str(condition["attack"])


def _several(values: Sequence[str]) -> str:
    found = _unique(values)
    return ", ".join(found[:4]) + (f" … {len(found)} in all" if len(found) > 4 else "")


def _unique(values: object) -> list[str]:
    return list(dict.fromkeys(values))  # type: ignore[call-overload]
