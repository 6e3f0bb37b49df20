"""Booktabs tables for papers: column groups, intervals, best in bold, what is not separable from it underlined."""

from __future__ import annotations

from collections.abc import Sequence

from nsbench.leaderboard import AVERAGE, Cell, Column, Leaderboard, Row, Table
from nsbench.report.notes import cells_apart, once_note, rows_note, seed_note
from nsbench.report.numbers import (
    MISSING,
    ONCE,
    budget,
    deviation,
    figure,
    group_title,
    heading,
    margin,
    rank,
)
from nsbench.report.published import OTHER, SOURCE, Published, printed_otherwise, published_of
from nsbench.report.side_columns import BEYOND, side_columns, side_notes
from nsbench.report.tables.paper import EVERYTHING, GAP, NAME, SMALL, PaperLayout, parts, total, width
from nsbench.report.tables.tex import PREAMBLE, breakable, escape, floating, heads, line, name_column, spans, word
from nsbench.types import ThreatModel


def to_latex(board: Leaderboard, layout: PaperLayout = EVERYTHING) -> str:
    """Per source, image set and preprocessing a table, and one of effective robustness, confidence and cost.

    A table that is wider than a page of two columns at 8 pt (see `paper`) is several; each has a caption and a label.
    Needs the packages booktabs, textcomp and array. Raises UnknownName for a column that is not there.
    """
    layout.check(board)
    written: list[str] = []
    for number, table in enumerate(board.tables, 1):
        label = f"tab:{word(f'{table.source} {table.image_set}')}{f'-{number}' if number > 1 else ''}"
        written += [*_tables(table, layout, label), *_side(table, f"{label}-beside")]
    return "\n".join([PREAMBLE, *written]) + "\n"


def _tables(table: Table, layout: PaperLayout, label: str) -> list[str]:
    """The table, or its parts: their rows are the same, and each has the average."""
    columns = layout.of(table)
    if not columns:  # what was asked for is in other tables
        return []
    suites = [column for column in columns if column.suite != AVERAGE]
    average = [column for column in columns if column.suite == AVERAGE]
    reported = published_of(table) if suites else []
    names = [*map(_name, table.rows), *map(_reported_name, reported)]
    places = max(width(text) for text in ("Rank", *map(rank, table.rows))) + GAP if average else 0.0
    first = places + min(max(map(width, ("Method", *names))), NAME)
    widths = _under_heads(columns, [_wide(table, layout, column) for column in columns])
    second = [column.group not in ("clean", "adversarial") for column in suites]
    found = parts(second, widths[: len(suites)], first, widths[-1] if average else 0.0)
    chosen = [[*(suites[k] for k in part), *average] for part in found]
    titles = [", ".join(dict.fromkeys(group_title(one.group) for one in part)) for part in chosen]
    return [
        _table(table, layout, part, reported, f"{label}-{k}" if len(chosen) > 1 else label, _place(k, titles))
        for k, part in enumerate(chosen, 1)
    ]


def _under_heads(columns: Sequence[Column], widths: Sequence[float]) -> list[float]:
    """Wider where the head of a group is wider than its columns."""
    wider = list(widths)
    for title, span, start in spans([group_title(column.group) for column in columns], 0):
        wider[start] += max(width(title) - total(widths[start : start + span]), 0.0)
    return wider


def _place(k: int, titles: Sequence[str]) -> str:
    """Which part of a table this is; "" for a whole one."""
    if len(titles) == 1:
        return ""
    return f"Part {k} of {len(titles)} ({titles[k - 1]}): all columns together are wider than the page at 8 pt."


def _wide(table: Table, layout: PaperLayout, column: Column) -> float:
    """Of a column, as its head and its figures ask for; figures may be bold."""
    cells = [cell for row in table.rows if (cell := row.cell(column.suite))]
    figures = [
        width(("" if cell.comparable else "≠ ") + figure(cell.value), bold=cell.best)
        + 1.4  # a thin space at 8 pt
        + width(_behind(cell, layout), SMALL)
        for cell in cells
    ]
    return max(width(f"{column.title} {column.arrow}"), *figures, 0.0)


def _table(
    table: Table, layout: PaperLayout, columns: list[Column], reported: list[Published], label: str, place: str
) -> str:
    ranked = any(column.suite == AVERAGE for column in columns)
    before = ["Rank", "Method"] if ranked else ["Method"]
    lines = heads(before, [group_title(c.group) for c in columns], [f"{c.title} {c.arrow}" for c in columns])
    lines += [_row(row, columns, layout) for row in table.rows]
    lines += [r"\midrule", *(_reported(row, columns) for row in reported)] if reported else []
    names = [*map(_name, table.rows), *map(_reported_name, reported)]
    kinds = ("r" if ranked else "") + name_column(names) + "r" * len(columns)
    return floating(_caption(table, layout, columns, reported, place), label, kinds, lines)


def _side(table: Table, label: str) -> list[str]:
    """What stands beside the figures, a table of its own, or several."""
    columns = side_columns(table)
    if not columns:
        return []
    names = [row.label for row in table.rows]
    widths = [max(map(width, (column.title, *map(column.text, names)))) for column in columns]
    first = min(max(map(width, ("Method", *names))), NAME)
    found = parts([column.group != BEYOND for column in columns], widths, first, 0.0)
    return [
        floating(
            _side_caption(table, list(dict.fromkeys(columns[j].group for j in part))),
            f"{label}-{k}" if len(found) > 1 else label,
            name_column(names) + "r" * len(part),
            [
                *heads(["Method"], [columns[j].group for j in part], [columns[j].title for j in part]),
                *(line([breakable(name), *(escape(columns[j].text(name)) for j in part)]) for name in names),
            ],
        )
        for k, part in enumerate(found, 1)
    ]


def _side_caption(table: Table, groups: Sequence[str]) -> str:
    """What stands in this part, and what it means."""
    what = " and ".join(groups).lower()
    return escape(" ".join([f"{heading(table)}: {what}.", *side_notes(table, groups)]))


def _caption(
    table: Table, layout: PaperLayout, columns: Sequence[Column], reported: Sequence[Published], place: str
) -> str:
    """The protocol, what the marks mean, and what is not compared: in full, for an author to cut."""
    words = [f"{heading(table)}.", place, f"Top-1 accuracy in percent (C: mean corruption error){_shown(layout)}."]
    words += _protocol(table, columns)
    words.append("Bold: best of its column; underlined: not separable from it (paired tests, Holm).")
    if any(column.suite == AVERAGE for column in columns):
        words.append("Ranks hold every place that the separable pairs allow.")
    words.append(rows_note(table))
    words += [seed_note(table) if layout.deviation else "", once_note(table)]
    if reported:
        words.append(f"Italics: as reported in {SOURCE}, not ranked.")
        words += [f"{line}." for line in printed_otherwise(reported, columns)]
    titles = {column.title for column in columns}
    apart = [f"{one.label}, {one.title}: {one.reason}" for one in cells_apart(table) if one.title in titles]
    words.append(f"≠ not compared: {'; '.join(apart)}." if apart else "")
    return escape(" ".join(filter(None, words)))


def _shown(layout: PaperLayout) -> str:
    behind = ["half the 95 % interval"] if layout.interval else []
    behind += ["the standard deviation over seeds (σ)"] if layout.deviation else []
    return f" with {' and '.join(behind)}" if behind else ""


def _protocol(table: Table, columns: Sequence[Column]) -> list[str]:
    """Images, preparation, training and budgets: what every figure of the table was measured with."""
    suites = {column.suite: column.title for column in columns}
    shown = [result for result in table.results if result.suite in suites]
    budgets: dict[str, None] = {}
    for suite, title in suites.items():
        first = next((result.conditions[0] for result in shown if result.suite == suite), None)
        threat = first and (first.threat or first.beforehand)
        if threat:
            budgets[f"{title} {_norm(threat)} {budget(threat)}"] = None
    most = max((one.n for result in shown for one in result.conditions), default=0)
    words = [f"Images: {table.image_set}, at most {most:,} a condition; {table.preprocessing}."]
    if table.recipes:
        words.append(f"Trained by the recipe {', '.join(table.recipes)}.")
    if budgets:
        words.append(f"Budgets: {'; '.join(budgets)}.")
    return words


def _norm(threat: ThreatModel) -> str:
    return {"linf": "l-inf", "l2": "l2"}.get(threat.norm, threat.norm)


def _row(row: Row, columns: list[Column], layout: PaperLayout) -> str:
    ranked = [escape(rank(row))] if any(column.suite == AVERAGE for column in columns) else []
    cells = [_cell(row.cell(column.suite), layout) for column in columns]
    return line([*ranked, breakable(_name(row)), *cells])


def _name(row: Row) -> str:
    return f"{row.label} {ONCE}" if row.of_weights else row.label


def _cell(cell: Cell | None, layout: PaperLayout) -> str:
    if cell is None:
        return escape(MISSING)
    value = figure(cell.value)
    value = rf"\textbf{{{value}}}" if cell.best else rf"\underline{{{value}}}" if cell.tied else value
    mark = "" if cell.comparable else r"$\neq$ "
    behind = _behind(cell, layout)
    return f"{mark}{value}" + (rf"\,\nsbenchsmall{{{escape(behind)}}}" if behind else "")


def _behind(cell: Cell, layout: PaperLayout) -> str:
    over_seeds = deviation(cell).replace("σ ", "σ") if layout.deviation else ""
    return f"{margin(cell) if layout.interval else ''}{over_seeds}".strip()


def _reported_cell(row: Published, suite: str) -> str:
    if suite not in row.figures:
        return escape(MISSING)
    return rf"\textit{{{figure(row.figures[suite])}}}" + (escape(OTHER) if row.other(suite) else "")


def _reported_name(row: Published) -> str:
    return f"{row.method} ({row.model}, {row.reference})"


def _reported(row: Published, columns: list[Column]) -> str:
    ranked = [""] if any(column.suite == AVERAGE for column in columns) else []
    cells = [_reported_cell(row, column.suite) for column in columns]
    return line([*ranked, rf"\textit{{{breakable(_reported_name(row))}}}", *cells])
