"""The card of a suite: protocol, places, curve, norms, heat maps, attack card; ready for the template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nsbench.leaderboard import Cell, Column, Row
from nsbench.leaderboard.details import Details, corruption_errors
from nsbench.report.commands import commands_of
from nsbench.report.numbers import MISSING, budget, figure, norms
from nsbench.report.page.pictures import PictureBook, SuitePictures
from nsbench.report.page.rows import Limits, left_out, reference_name
from nsbench.report.page.suite_figures import Heat, SuiteFigures, against, figures_of, reference_of
from nsbench.report.plots import Look
from nsbench.results.record import AttackCard, ConditionResult, Result

RELATIVE = "relative mCE"


@dataclass(frozen=True)
class AttackTable:
    """What the attacks of a suite were and what they cost: a line for each attacked condition."""

    heads: Sequence[str]
    lines: Sequence[Sequence[str | None]]  # the attack's name first; None: not known


@dataclass(frozen=True)
class SuiteCard:
    column: Column
    result: Result  # the newest one: its conditions stand for the suite
    figures: SuiteFigures
    extra_names: Sequence[str]
    extra_rows: Sequence[tuple[Row, Sequence[str]]]
    reference: Heat | None  # what the differences are against
    differences: Sequence[Heat]
    left_out: Sequence[str]  # sentences about rows that are not drawn
    pictures: SuitePictures | None

    @property
    def commands(self) -> list[str]:
        """That make the figures of the rows whose places are drawn again."""
        return commands_of([result for _, cell in self.figures.listed for result in cell.results])

    @property
    def facts(self) -> list[tuple[str, str]]:
        conditions = self.result.conditions
        return [
            (what, norms(text))
            for what, text in (
                ("images", " / ".join(_unique(f"{one.n:,}" for one in conditions))),
                ("split", _several(one.split for one in conditions)),
                ("attack", _several(_attack(one) for one in conditions if one.attack)),
                ("threat", _several(str(one.threat) for one in conditions if one.threat)),
                (
                    "images are",
                    " / ".join(_unique(", ".join(filter(None, [one.origin, one.size_apart])) for one in conditions)),
                ),
                ("prepared by", " / ".join(_unique(map(self._prepared, conditions)))),
                ("data digest", self.result.provenance.data_digest),
                ("suite version", str(self.column.version)),
            )
            if text
        ]

    @property
    def attack_table(self) -> AttackTable | None:
        """Where it was counted, in the order of the conditions."""
        return attack_table(self.result.conditions)

    def _prepared(self, condition: ConditionResult) -> str:
        own = self.result.provenance.preprocessing or "the checkpoint's own resize and crop"
        return "nothing: the images are ready" if condition.preprocess == "none" else own


def suite_card(
    details: Details, column: Column, looks: Mapping[str, Look], limits: Limits, book: PictureBook | None
) -> SuiteCard:
    found = figures_of(details, column, looks, limits)
    result = max((r for row in found.rows for r in row.cells[column.suite].results), key=lambda r: r.provenance.date)
    names, extra = _extras(details, column.suite, found.listed, result)
    reference = reference_of(found.heats, reference_name(details.table))
    told = [left_out(len(found.listed), len(found.rows), "Places and commands")]
    if found.curve or found.norms or found.heats or found.against_clean or found.iterations:
        told.append(left_out(len(found.few), len(found.rows), "Curves, norms, names and heat maps drawn"))
    return SuiteCard(
        column,
        result,
        found,
        names,
        extra,
        reference,
        against(found.heats, reference),
        [one for one in told if one],
        book.suite(column.suite) if book else None,
    )


# --- figures beside the headline ------------------------------------------------------------------------------------


def _extras(
    details: Details, suite: str, rows: Sequence[tuple[Row, Cell]], result: Result
) -> tuple[list[str], list[tuple[Row, list[str]]]]:
    """Their names, and of each row what they are, means over seeds."""
    columns = {name: [cell.extra(name) for _, cell in rows] for name in _extra_names(result)}
    if corruption_errors([result]):
        relative = [details.relative_mce(row, suite) for row, _ in rows]
        columns |= {RELATIVE: relative} if any(error is not None for error in relative) else {}
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    if not columns:
        return [], []
    texts = [
        [_text(name, value) for name, value in zip(columns, values, strict=True)]
        for values in zip(*columns.values(), strict=True)
    ]
    return [norms(name) for name in columns], [(row, mine) for (row, _), mine in zip(rows, texts, strict=True)]


def _text(name: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.2f}" if name.startswith("median") else figure(value)  # medians are norms, all others percentages


def _extra_names(result: Result) -> list[str]:
    """The figures that say something: budgets only under l2, no list of 15 corruptions."""
    threat = result.conditions[0].threat
    l2 = threat is not None and threat.norm == "l2"
    return [name for name in result.score.extra if not name.startswith("error ") and ("l2" not in name.split() or l2)]


# --- attack card ----------------------------------------------------------------------------------------------------


def attack_table(conditions: Sequence[ConditionResult]) -> AttackTable | None:
    """What is known of any attack has a column; None where nothing was counted."""
    found = [(one, one.attack_card) for one in conditions if one.attack_card]
    threats = [one.threat for one, _ in found]
    columns: list[tuple[str, list[str | None]]] = [
        ("attack", [one.attack for one, _ in found]),
        ("images attacked", [f"{card.images:,}" for _, card in found]),
        ("norm", [norms(threat.norm) if threat else None for threat in threats]),
        ("eps", [budget(threat) if threat else None for threat in threats]),
        ("patches", [str(threat.patches) if threat and threat.norm == "patch" else None for threat in threats]),
        ("share of the side", [f"{100 * one.share:.3g} %" if one and one.share else None for one in threats]),
        ("steps", [_count(card.steps) for _, card in found]),
        ("restarts", [_count(card.restarts) for _, card in found]),
        ("loss", [card.loss for _, card in found]),
        ("start", [card.start for _, card in found]),
        ("forwards / image", [f"{card.forwards:.4g}" for _, card in found]),
        ("backwards / image", [f"{card.backwards:.4g}" for _, card in found]),
        ("ms / image", [f"{1000 * card.seconds:.3g}" for _, card in found]),
        ("still falling", [_of_unbroken(card, "falling") for _, card in found]),
        ("within reach", [_of_unbroken(card, "within_reach") for _, card in found]),
        ("library", [card.library or None for _, card in found]),
    ]
    known = [(head, texts) for head, texts in columns if any(text is not None for text in texts)]
    if not known:
        return None
    heads, texts = zip(*known, strict=True)
    return AttackTable(heads, list(zip(*texts, strict=True)))


def _of_unbroken(card: AttackCard, what: Literal["falling", "within_reach"]) -> str | None:
    """How many of the images that it did not break."""
    ended = card.convergence
    images = None if ended is None else ended.falling if what == "falling" else ended.within_reach
    return None if ended is None or images is None else f"{images:,} of {ended.unbroken:,}"


def _count(number: float | None) -> str | None:
    return None if number is None else f"{number:.10g}"


def _attack(condition: ConditionResult) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in sorted(condition.params.items()))
    return f"{condition.attack} ({settings})" if settings else str(condition.attack)


def _several(values: Iterable[str]) -> str:
    found = _unique(values)
    return ", ".join(found[:4]) + (f" … {len(found)} in all" if len(found) > 4 else "")


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
