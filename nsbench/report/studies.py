"""Studies in the paper's form: our rows of a grid, each above the published row of the same method and setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import Cell, Column, Row, Table
from nsbench.report.published import figures_of, read_published
from nsbench.run.study import Study, fits, known_studies, load_study

NOT_FIGURES = {"model", "method", "epsilon"}


@dataclass(frozen=True)
class Reported:
    """A row of the paper's table: accuracies in percent by suite, mCE for imagenet_c."""

    model: str
    method: str
    setting: Mapping[str, str]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """Our row in one setting, and what the paper reports of it."""

    setting: str
    row: Row
    reported: Reported | None

    def cell(self, column: Column) -> Cell | None:
        return self.row.cells.get(column.suite)


@dataclass(frozen=True)
class StudyView:
    study: Study
    columns: Sequence[Column]
    lines: Sequence[Line]

    @property
    def number(self) -> str:
        """Which table of the paper it repeats: "table 3", "" for a study of one's own."""
        name = self.study.name
        return f"table {name.removeprefix('table')}" if self.study.published and name.startswith("table") else ""


def study_views(table: Table) -> list[StudyView]:
    """The studies that nsbench brings, as far as this table holds them."""
    return [view for name in known_studies() if (view := study_view(load_study(name), table))]


def study_view(study: Study, table: Table) -> StudyView | None:
    """None unless every method of the study is there and, where it has several settings, at least two of them."""
    published = reported(study)
    lines = [
        Line(
            ", ".join(f"{field} = {value}" for field, value in setting.items()), row, _reported(published, row, setting)
        )
        for setting in study.settings
        for method in study.methods
        for row in table.rows
        if row.method == method and fits(row.results[0].provenance, setting)
    ]
    whole = {line.row.method for line in lines} == set(study.methods)
    if not whole or len({line.setting for line in lines}) < min(2, len(study.settings)):
        return None
    columns = [column for column in table.columns if column.suite in study.suites]
    return StudyView(study, columns, lines)


def reported(study: Study) -> list[Reported]:
    """The paper's rows of a study; none for a study of one's own."""
    return read_published(study.published, _row) if study.published else []


def _row(record: dict[str, str]) -> Reported:
    figures = figures_of({key: value for key, value in record.items() if key not in NOT_FIGURES})
    setting = {"epsilon": record["epsilon"]} if record.get("epsilon") else {}
    return Reported(record["model"], record["method"], setting, figures)


def _reported(published: Sequence[Reported], row: Row, setting: Mapping[str, object]) -> Reported | None:
    """The paper's row of the same method and setting, whatever model it has: the caption names it."""
    for one in published:
        if one.method == row.method and all(one.setting.get(field) == str(value) for field, value in setting.items()):
            return one
    return None
