"""The card of a suite (protocol, curve, heat map) and of a method (recipe, dynamics, cost), ready for the template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nsbench.leaderboard import Cell, Column, Row, Table
from nsbench.report import charts
from nsbench.report.charts import Point, Series
from nsbench.report.relative import RelativeErrors
from nsbench.results import Result
from nsbench.statistics import L2_BUDGETS, wilson

RELATIVE = "relative mCE"


@dataclass(frozen=True)
class Heat:
    """Errors in percent of one row: corruption -> severities 1 to 5, and their mean."""

    row: Row
    errors: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class SuiteCard:
    column: Column
    result: Result  # the newest one: its conditions and command stand for the suite
    forest: Markup
    curve: Markup | None
    curve_title: str
    extra_names: Sequence[str]
    extra_rows: Sequence[tuple[Row, Cell, Sequence[float | None]]]
    heats: Sequence[Heat]

    @property
    def facts(self) -> list[tuple[str, str]]:
        conditions = self.result.conditions
        return [(what, text) for what, text in (
            ("images", " / ".join(_unique(f"{condition['n']:,}" for condition in conditions))),
            ("split", _several([condition["split"] for condition in conditions])),
            ("attack", _several([_attack(condition) for condition in conditions if condition["attack"]])),
            ("threat", _several([condition["threat"] for condition in conditions if condition["threat"]])),
            ("images are", " / ".join(_unique(condition["origin"] for condition in conditions))),
            ("prepared by", " / ".join(_unique(self._prepared(condition) for condition in conditions))),
            ("data digest", str(self.result.provenance.get("data_digest", ""))),
            ("suite version", str(self.column.version)),
        ) if text]

    @property
    def attack_cards(self) -> list[Mapping[str, object]]:
        """What was attacked and what it cost, where it was counted, in the order of the conditions."""
        return [card for condition in self.result.conditions if (card := condition.get("attack_card"))]

    def _prepared(self, condition: Mapping) -> str:
        own = str(self.result.provenance.get("preprocessing") or "the checkpoint's own resize and crop")
        return "nothing: the images are ready" if condition["preprocess"] == "none" else own


@dataclass(frozen=True)
class MethodCard:
    row: Row
    result: Result  # the newest one
    recipe: Mapping[str, object]
    dynamics: Sequence[tuple[str, Markup]]  # title, chart

    @property
    def warning(self) -> str:
        """What a reader must know about the training."""
        rounds = [entry["noise_converged"] for entry in self.result.provenance.get("history") or []
                  if "noise_converged" in entry]
        missed = len(rounds) - sum(map(bool, rounds))
        if not missed:
            return ""
        return f"In {missed} of {len(rounds)} rounds the noise was still outside ε after the last step."

    @property
    def facts(self) -> list[tuple[str, str]]:
        own = self.result.provenance
        seconds = sum(result.provenance.get("seconds") or 0 for result in self.row.results)
        return [(what, str(text)) for what, text in (
            ("weights", own.get("weights_digest")), ("made from", own.get("parent_digest")),
            ("normalisation", own.get("normalisation")), ("device", own.get("device")),
            ("training", f"{own['fit_seconds']:,.0f} s" if own.get("fit_seconds") else "none"),
            ("evaluation", f"{seconds:,.0f} s, {len(self.row.results)} suite runs"),
            ("peak memory", f"{own['peak_memory_mib']:,} MiB" if own.get("peak_memory_mib") else None),
            ("nsbench", " ".join(str(own[key]) for key in ("nsbench", "commit") if own.get(key))),
            ("date", own.get("date")),
        ) if text]


# --- suites ---------------------------------------------------------------------------------------------------------

def suite_card(table: Table, column: Column, styles: Mapping[str, str]) -> SuiteCard:
    rows = [(row, row.cells[column.suite]) for row in table.rows
            if column.suite in row.cells and row.cells[column.suite].comparable]
    result = max((r for _, cell in rows for r in cell.results), key=lambda r: str(r.provenance.get("date")))
    forest = charts.forest([(row.label, styles[row.label], c.value, c.low, c.high) for row, c in rows], column.unit)
    curve, title = _curve(rows, result, styles)
    heats = [] if not _is_corruptions(result) else [Heat(row, _heat(cell.results)) for row, cell in rows]
    names = _extra_names(result)
    extra = [(row, cell, [_mean_extra(cell, name) for name in names]) for row, cell in rows] if names else []
    relative = RelativeErrors(table.evidence.reader) if heats and table.evidence else None
    if relative and any(values := [_relative_mce(row, cell, relative) for row, cell in rows]):
        names = [*names, RELATIVE]
        extra = [(row, cell, [*figures, value]) for (row, cell, figures), value in zip(extra, values, strict=True)]
    return SuiteCard(column, result, forest, curve, title, names, extra, heats)


def _is_corruptions(result: Result) -> bool:
    return len(result.conditions) > 1 and all(str(c["split"]).startswith("c/") for c in result.conditions)


def _extra_names(result: Result) -> list[str]:
    """The figures beside the headline that say something: budgets only under l2, no list of 15 corruptions."""
    l2 = str(result.conditions[0]["threat"] or "").startswith("l2")
    return [name for name in result.score.extra
            if not name.startswith("error ") and ("l2" not in name.split() or l2)]


def _mean_extra(cell: Cell, name: str) -> float | None:
    values = [r.score.extra[name] for r in cell.results if name in r.score.extra]
    return sum(values) / len(values) if values else None


def _relative_mce(row: Row, cell: Cell, relative: RelativeErrors) -> float | None:
    """Mean over seeds, against the clean errors of the same weights on the same images; None where they are absent."""
    unattacked = {r.seed: r for r in row.results if r.conditions[0]["split"] == "clean" and len(r.conditions) == 1
                  and r.conditions[0]["attack"] is None}
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


def _heat(results: Sequence[Result]) -> dict[str, list[float]]:
    """Error in percent by corruption and severity, in the order of the conditions; mean over seeds."""
    errors: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for condition in result.conditions:
            corruption, severity = str(condition["split"]).split("/")[1:]
            errors.setdefault(corruption, {}).setdefault(severity, []).append(100 - condition["accuracy"])
    return {name: [sum(mine) / len(mine) for _, mine in sorted(severities.items())]
            for name, severities in errors.items()}


def _curve(rows: Sequence[tuple[Row, Cell]], result: Result, styles: Mapping[str, str]) -> tuple[Markup | None, str]:
    """Accuracy against the attack's budget, from the same images unattacked at zero."""
    by_norm = {norm: [_points(row, cell, norm) for row, cell in rows] for norm in ("linf", "l2")}
    for norm, unit in (("linf", "ε in 1/255, ℓ∞"), ("l2", "ℓ2 norm, pixels in [0, 1]")):
        drawn = [Series(row.label, styles[row.label], points)
                 for (row, _), points in zip(rows, by_norm[norm], strict=True) if len(points) > 1]
        if drawn and max(len(one.points) for one in drawn) > 2:
            levels = sorted({point.x for one in drawn for point in one.points})
            return (charts.lines(drawn, unit, "accuracy, %", top=100, x_ticks=[(x, f"{x:g}") for x in levels]),
                    "Accuracy as the attack grows")
    return None, ""


def _points(row: Row, cell: Cell, norm: str) -> list[Point]:
    """(budget, accuracy) of one row under one norm, mean over seeds; l-infinity budgets in 1/255."""
    found: dict[float, list[tuple[float, int]]] = {}
    for result in cell.results:
        for condition in result.conditions:
            match = re.fullmatch(rf"{norm} ([0-9.e+-]+)(/255)?", str(condition["threat"]))
            if match:
                found.setdefault(float(match[1]), []).append((condition["accuracy"], condition["n"]))
        if norm == "l2" and str(result.conditions[0]["threat"]) == "l2 unbounded":
            for budget in L2_BUDGETS:
                if (name := f"accuracy at l2 {budget:g}") in result.score.extra:
                    found.setdefault(budget, []).append((result.score.extra[name], result.score.n))
    if found:
        found[0.0] = [(c["accuracy"], c["n"]) for c in _unattacked(row, cell.results[0].conditions[0])]
    return [_point(x, found[x]) for x in sorted(found) if found[x]]


def _point(x: float, measured: Sequence[tuple[float, int]]) -> Point:
    accuracy, n = sum(value for value, _ in measured) / len(measured), measured[0][1]
    low, high = wilson(round(accuracy * n / 100), n)
    return Point(x, accuracy, 100 * low, 100 * high)


def _unattacked(row: Row, attacked: Mapping) -> list[Mapping]:
    """The same row's accuracy on the very same images without an attack, where some suite measured it."""
    return [condition for result in row.results for condition in result.conditions if condition["attack"] is None
            and all(condition[key] == attacked[key] for key in ("data_digest", "preprocess", "n"))]


# --- methods --------------------------------------------------------------------------------------------------------

def method_card(row: Row, styles: Mapping[str, str]) -> MethodCard:
    result = max(row.results, key=lambda r: str(r.provenance.get("date")))
    recipe = dict(result.provenance.get("recipe") or {})
    return MethodCard(row, result, recipe, _dynamics(row, result, recipe, styles))


def _dynamics(row: Row, result: Result, recipe: Mapping, styles: Mapping[str, str]) -> list[tuple[str, Markup]]:
    """Noise norm and MSE probability over the rounds, where the method learned noise."""
    epsilon, style = recipe.get("epsilon"), styles[row.label]
    reference = (float(epsilon), f"ε = {epsilon:g}") if isinstance(epsilon, (int, float)) else None
    norm = _history(result, "noise_norm")
    reached = [Series(label, f"{style}{look}", points) for label, look, key in (
        ("learnt on", "", "mse_probability"), ("held out", " hollow", "mse_probability_held_out"))
        if len(points := _history(result, key)) > 1]
    drawn = []
    if len(norm) > 1:
        one = charts.lines([Series(row.title, style, norm)], "round", "‖v‖", width=charts.NARROW, label_room=0)
        drawn.append(("Norm of the learned noise", one))
    if reached:
        two = charts.lines(reached, "round", "MSE probability", width=charts.NARROW, label_room=76, reference=reference)
        drawn.append(("How far it moves the output", two))
    return drawn


def _history(result: Result, key: str) -> list[Point]:
    return [Point(entry.get("round", index), entry[key])
            for index, entry in enumerate(result.provenance.get("history") or [], 1) if key in entry]


def _attack(condition: Mapping) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in sorted(condition["params"].items()))
    return f"{condition['attack']} ({settings})" if settings else str(condition["attack"])


def _several(values: Sequence[str]) -> str:
    found = _unique(values)
    return ", ".join(found[:4]) + (f" … {len(found)} in all" if len(found) > 4 else "")


def _unique(values: object) -> list[str]:
    return list(dict.fromkeys(values))  # type: ignore[call-overload]
