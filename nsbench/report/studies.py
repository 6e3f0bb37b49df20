"""Studies in the paper's form: our rows of a grid, each above the published row of the same method and setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nsbench.leaderboard import BETTER, WORSE, Cell, Column, Delta, Row, Table, compare
from nsbench.report.published import Published, is_whole, read_rows
from nsbench.report.words import UNTOUCHED, listed
from nsbench.run.study import Study, fits, known_studies, load_study


@dataclass(frozen=True)
class Line:
    """Our row in one setting, and what the paper reports of it."""

    setting: str
    row: Row
    name: str  # the method's title, or all of the row's label where several rows of it are in this setting
    reported: Published | None

    @property
    def other_model(self) -> bool:
        """Than that of the paper's row."""
        return self.reported is not None and not self.row.model.startswith(self.reported.model)

    @property
    def other_images(self) -> bool:
        """Than ImageNet's, all of them."""
        theirs = self.reported.figures if self.reported else {}
        cells = [(suite, cell) for suite, cell in self.row.cells.items() if suite in theirs]
        of_imagenet = self.row.results[0].source.startswith("imagenet")
        return not of_imagenet or not all(is_whole(suite, cell) for suite, cell in cells)

    def cell(self, column: Column) -> Cell | None:
        return self.row.cells.get(column.suite)

    def difference(self, column: Column) -> float | None:
        """Ours minus the paper's; None where one is missing, or the two are not of the same model, images and measure."""
        cell, theirs = self.cell(column), self.reported
        if self.other_model or self.other_images:
            return None
        if cell is None or theirs is None or column.suite not in theirs.figures or theirs.other(column.suite):
            return None
        return cell.value - theirs.figures[column.suite]


@dataclass(frozen=True)
class StudyView:
    study: Study
    columns: Sequence[Column]
    lines: Sequence[Line]

    @property
    def not_theirs(self) -> str:
        """What our rows do not share with the paper's: "images", "models", both, or nothing."""
        mine = [line for line in self.lines if line.reported]
        found = (("images", any(one.other_images for one in mine)), ("models", any(one.other_model for one in mine)))
        return " and ".join(word for word, other in found if other)

    @property
    def reported(self) -> list[Published]:
        """The paper's rows that stand below ours."""
        return [line.reported for line in self.lines if line.reported]

    def reported_below(self, place: int) -> Published | None:
        """The paper's row below the line of this place: once below several of ours, unless each has a difference."""
        line, after = self.lines[place], self.lines[place + 1 : place + 2]
        again = any(one.reported is line.reported for one in after) and (line.other_model or line.other_images)
        return None if again else line.reported

    @property
    def number(self) -> str:
        """Which table of the paper it repeats: "table 3", "" for a study of one's own."""
        name = self.study.name
        return f"table {name.removeprefix('table')}" if self.study.published and name.startswith("table") else ""


def study_views(table: Table, own: Sequence[Study] = ()) -> list[StudyView]:
    """The studies that nsbench brings, and one's own, as far as this table holds them."""
    studies = [*map(load_study, known_studies()), *own]
    return [view for study in studies if (view := study_view(study, table))]


def study_view(study: Study, table: Table) -> StudyView | None:
    """None unless every method of the study is there and, where it has several settings, at least two of them."""
    published = reported(study)
    lines = []
    for setting in study.settings:
        words = ", ".join(f"{field} = {value}" for field, value in setting.items())
        for method in study.methods:
            rows = [row for row in table.rows if row.method == method and fits(row.results[0].provenance, setting)]
            names = [row.label if len(rows) > 1 else row.title for row in rows]
            lines += [
                Line(words, row, name, _reported(published, row, setting))
                for row, name in zip(rows, names, strict=True)
            ]
    whole = {line.row.method for line in lines} == set(study.methods)
    if not whole or len({line.setting for line in lines}) < min(2, len(study.settings)):
        return None
    columns = [column for column in table.columns if column.suite in study.suites]
    return StudyView(study, columns, lines)


def reported(study: Study) -> list[Published]:
    """The paper's rows of a study; none for a study of one's own."""
    return read_rows(study.published) if study.published else []


def _reported(published: Sequence[Published], row: Row, setting: Mapping[str, object]) -> Published | None:
    """The paper's row of the same method and setting: of the row's model, else of the one that has the most rows there;
    the caption names it."""
    rows = [
        one
        for one in published
        if one.method == row.method and all(one.setting.get(field) == str(value) for field, value in setting.items())
    ]
    count = Counter(one.model for one in published)
    best = max(rows, key=lambda one: (row.model.startswith(one.model), count[one.model]), default=None)
    return best


def what_holds(view: StudyView, table: Table) -> list[str]:
    """Of every method that the paper measured beside its checkpoint: in how many columns it is better there, and what
    the tests say of it here. Rows that are copied from other papers have no checkpoint of their own in the table."""
    untouched = next((line for line in view.lines if line.row.role == UNTOUCHED), None)
    if untouched is None:
        return []
    starts = {(one.model, one.start): one for one in reported(view.study) if one.method == untouched.row.method}
    found = []
    for line in view.lines:
        base = starts.get((line.reported.model, line.reported.start)) if line.reported else None
        if line is untouched or line.reported is None or base is None:
            continue
        deltas = {one.suite: one.delta for one in compare(table, line.row.label, untouched.row.label)}
        here = {column.suite: deltas[column.suite] for column in view.columns if column.suite in deltas}
        if here:
            found.append(
                f"{line.row.label}{_set(line)}: {_there(view, line.reported, base)}. Here it {_verdicts(here)}."
            )
    return found


def _set(line: Line) -> str:
    return f" ({line.setting})" if line.setting else ""


def _there(view: StudyView, theirs: Published, base: Published) -> str:
    """ "the paper's is above its checkpoint in 9 of 11 columns, not on FGSM and A"."""
    both = [column for column in view.columns if column.suite in theirs.figures and column.suite in base.figures]
    not_better = [
        column.title
        for column in both
        if (theirs.figures[column.suite] - base.figures[column.suite]) * (-1 if column.lower_is_better else 1) <= 0
    ]
    apart = f", not on {listed(not_better)}" if not_better else ""
    return f"the paper's is better than its checkpoint in {len(both) - len(not_better)} of {len(both)} columns{apart}"


def _verdicts(deltas: Mapping[str, Delta]) -> str:
    """ "is better than the checkpoint in 2 of 11, worse in 5, and cannot be told from it in 4"."""
    better, worse = (sum(one.verdict == verdict for one in deltas.values()) for verdict in (BETTER, WORSE))
    rest = len(deltas) - better - worse
    words = f"is better than the checkpoint in {better} of {len(deltas)} and worse in {worse}"
    return f"{words}; in {rest} the two cannot be told apart" if rest else words
